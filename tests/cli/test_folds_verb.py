"""`folds`, and simulated HPA fields through the program."""

import csv


def test_folds_shows_the_balance_and_writes_the_column(cli, tmp_path):
    rows = ["ID,Label", *(f"f{n},{n % 2}" for n in range(20))]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    result = cli("folds", "--train_csv", "train.csv", "--output_csv", "folds.csv", "--n_folds", 4)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["label", "all", "fold", "0", "fold", "1", "fold", "2", "fold", "3", "off"]
    assert lines[1][:3] == ["0", "Nucleoplasm", "10"] and sum(map(int, lines[1][3:7])) == 10
    assert lines[3] == ["rows", "20", "5", "5", "5", "5"]
    assert result.stdout.endswith("no field is in two folds; the table is folds.csv\n")
    with (tmp_path / "folds.csv").open(newline="") as file:
        assert [row["ID"] for row in csv.DictReader(file)] == [f"f{n}" for n in range(20)]


def test_faults_are_one_line(failing, tmp_path):
    options = ("--output_csv", "out.csv")
    assert "no such table" in failing("folds", "--train_csv", "none.csv", *options)
    (tmp_path / "t.csv").write_text("ID,Label\na,1\nb,2\n")
    assert "do not fill 5 folds" in failing("folds", "--train_csv", "t.csv", *options)
    (tmp_path / "t.csv").write_text("ID,Label\na,1\nb,Nucleus\n")
    assert "t.csv, line 3: label 'Nucleus' of b" in failing("folds", "--train_csv", "t.csv", *options)
    (tmp_path / "t.csv").write_text("ID,Label\na,1\na,1\n")
    assert "the ID a comes twice" in failing("folds", "--train_csv", "t.csv", *options)
    assert not (tmp_path / "out.csv").exists()


def test_simulated_fields_go_from_raw_files_to_parquet(cli, tmp_path):
    wanted = ["--n_train", 2, "--size", "64x72", "--looks", "HeLa,U2OS", "field_um=120"]
    result = cli("simulate", "hpa_single_cell", "--output_dir", "sim", *wanted)
    assert result.stdout == "2 simulated images are in sim\n", result.output
    options = ["--data_dir", "sim", "--output_dir", "out", "test_fraction=0", "validation_fraction=0"]
    result = cli("prepare", "hpa_single_cell", "fields", *options)
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "out").rglob("*.parquet"))
