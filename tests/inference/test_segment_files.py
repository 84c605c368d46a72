"""Folders of fields: what is written, restarts, failures of single fields, bad input."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tiny_hpa_fields import COLOURS, draw_culture, write_field
from typer.testing import CliRunner

from hf_cells.cli.app import app
from hf_cells.errors import CellsError
from hf_cells.inference import segment_files as module
from hf_cells.inference.cell_crops import CELL_COLUMNS
from hf_cells.inference.segment_files import Settings, segment_files
from hf_cells.inference.segment_files_fields import find_fields


def read_rows(output):
    with (output / "cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def folder(tmp_path):
    """Two fields, a and b-1, and their table."""
    for seed, name in enumerate(("a", "b-1")):
        write_field(tmp_path / "in" / "train", name, draw_culture(side=128, seed=seed, cells=4)[0])
    (tmp_path / "in" / "train.csv").write_text("ID,Label\nb-1,7|1\na,16\n")
    return tmp_path / "in"


def test_crops_masks_table_and_overlays(folder, tmp_path):
    output = tmp_path / "out"
    summary = segment_files(folder, output, folder / "train.csv")
    assert (summary.images, summary.cells, summary.failures) == (2, 8, [])
    rows = read_rows(output)
    assert tuple(rows[0]) == CELL_COLUMNS
    assert [row["parent_image_id"] for row in rows] == ["b-1"] * 4 + ["a"] * 4  # the order of the table
    assert {row["Label"] for row in rows if row["parent_image_id"] == "b-1"} == {"7|1"}
    for row in rows:
        parent, number = row["parent_image_id"], int(row["cell_number"])
        assert row["cell_id"] == f"{parent}_cell_{number}"
        box = np.s_[int(row["min_row"]) : int(row["max_row"]), int(row["min_col"]) : int(row["max_col"])]
        inside = pixels(output / "masks" / f"{parent}_cell.png")[box] == number
        assert inside.shape == (int(row["size_y"]), int(row["size_x"]))
        assert row["edge_of_img"] == "False"
        for colour in COLOURS:
            crop = pixels(output / "cells" / f"{row['cell_id']}_{colour}.png")
            whole = pixels(folder / "train" / f"{parent}_{colour}.png")
            assert crop.dtype == np.uint8 and np.array_equal(crop, np.where(inside, whole[box], 0))
    assert pixels(output / "masks" / "a_nucleus.png").dtype == np.uint16
    assert pixels(output / "overlays" / "a.png").shape[2] == 3
    assert json.loads((output / "summary.json").read_text())["cells"] == 8
    assert not (output / "simulated.csv").exists()  # nothing says that these fields are simulated


def test_cells_of_simulated_fields_are_marked(folder, tmp_path):
    (folder / "simulated.csv").write_text("ID")
    segment_files(folder / "train", tmp_path / "out", crops=False)
    assert (tmp_path / "out" / "simulated.csv").exists()


def test_16_bit_tiff_keeps_its_bits_and_border_cells_are_flagged(tmp_path):
    images, _, _ = draw_culture(side=200, cells=4)
    cut = {colour: plane[40:].astype(np.uint16) * 257 for colour, plane in images.items()}
    write_field(tmp_path / "in", "deep", cut, "tif")
    segment_files(tmp_path / "in", tmp_path / "out")
    rows = read_rows(tmp_path / "out")
    assert [row["edge_of_img"] for row in rows] == [
        "True" if row["min_row"] == "0" else "False" for row in rows
    ]
    assert {row["edge_of_img"] for row in rows} == {"True", "False"} and {row["Label"] for row in rows} == {
        ""
    }
    crop = pixels(tmp_path / "out" / "cells" / "deep_cell_1_red.png")
    assert crop.max() > 255 and np.isin(crop, cut["red"]).all()


def test_a_stopped_run_is_taken_up_where_it_was(folder, tmp_path, monkeypatch):
    output, done, real = tmp_path / "out", [], module.segment_field

    def stops(*args, **options):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(*args, **options)

    monkeypatch.setattr(module, "segment_field", stops)
    with pytest.raises(KeyboardInterrupt):
        segment_files(folder, output, folder / "train.csv")
    assert len(read_rows(output)) == 4  # the table holds what is done
    first = (output / "masks" / "b-1_cell.png").stat().st_mtime_ns
    monkeypatch.setattr(module, "segment_field", real)
    summary = segment_files(folder, output, folder / "train.csv")
    assert (summary.images, summary.resumed, summary.cells) == (2, 1, 8)
    assert (output / "masks" / "b-1_cell.png").stat().st_mtime_ns == first
    whole = segment_files(folder, tmp_path / "whole", folder / "train.csv")
    assert whole.cells == 8
    assert (tmp_path / "whole" / "cells.csv").read_bytes() == (output / "cells.csv").read_bytes()


def test_other_settings_are_done_again_and_leave_no_old_crops(folder, tmp_path):
    output = tmp_path / "out"
    segment_files(folder, output)
    stray = output / "cells" / "a_cell_99_red.png"
    stray.write_bytes(b"of an earlier run")
    other = output / "cells" / "a_cell_9_cell_1_red.png"  # of a field whose name begins alike
    other.write_bytes(b"of that field")
    assert segment_files(folder, output, settings=Settings(scale_factor=1.0)).resumed == 0
    assert not stray.exists() and other.exists()
    assert segment_files(folder, output, settings=Settings(scale_factor=1.0)).resumed == 2


def test_a_new_label_in_the_table_reaches_fields_that_are_done(folder, tmp_path):
    segment_files(folder, tmp_path / "out", folder / "train.csv")
    (folder / "train.csv").write_text("ID,Label\na,3\n")
    assert segment_files(folder, tmp_path / "out", folder / "train.csv").resumed == 1
    assert {row["Label"] for row in read_rows(tmp_path / "out")} == {"3"}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_tables_as_spreadsheets_write_them(folder, separator, encoding):
    text = "ID,Label\r\nb-1,7|1\r\na,16\r\n".replace(",", separator)
    (folder / "train.csv").write_bytes(text.encode(encoding))
    found = find_fields(folder, folder / "train.csv", check_labels=True)
    assert [(one.field_id, one.label) for one in found] == [("b-1", "7|1"), ("a", "16")]


def test_labels_that_are_not_known_yet_do_not_hinder_who_only_predicts(folder):
    (folder / "train.csv").write_text("ID,Label\na,\n")
    assert [one.label for one in find_fields(folder, folder / "train.csv")] == [""]


def test_of_a_field_that_fails_now_nothing_old_stays(folder, tmp_path):
    output = tmp_path / "out"
    write_field(folder / "train", "a_cell_2", draw_culture(side=128, seed=2, cells=4)[0])
    assert segment_files(folder, output).cells == 12
    (output / "masks" / "a_cell.tif").write_bytes(b"of a run that found more than 65,535 cells")
    (output / "cells" / "a_cell_99_red.png").write_bytes(b"of a run that found more cells")
    for place in ("cells", "masks", "overlays"):
        (output / place / "a_notes.txt").write_text("the user's own")
    write_field(folder / "train", "a", {"green": np.zeros((100, 128), np.uint8)})
    write_field(folder / "train", "new", {"green": np.zeros((100, 128), np.uint8)})
    summary = segment_files(folder, output, settings=Settings(scale_factor=1.0))
    left = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    whole = tmp_path / "whole"
    (folder / "some.csv").write_text("ID\na_cell_2\nb-1\n")
    segment_files(folder, whole, folder / "some.csv", settings=Settings(scale_factor=1.0))
    assert left == {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()} | {
        f"{place}/a_notes.txt" for place in ("cells", "masks", "overlays")
    }
    assert {row["parent_image_id"] for row in read_rows(output)} == {"a_cell_2", "b-1"}
    old, new = summary.failures
    assert "export all colours at one size; its masks, crops and overlay in" in old.reason
    assert old.reason.endswith("out are removed") and "removed" not in new.reason


def test_outputs_that_cannot_be_removed_are_told(folder, tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    (folder / "train" / "a_green.png").unlink()
    monkeypatch.setattr(module, "_remove_outputs", lambda output, name: name == "a" and denied())
    (failure,) = segment_files(folder, tmp_path / "out").failures
    assert failure.reason.endswith("cannot be removed (Permission denied), remove them yourself")


def test_failures_are_listed_and_the_rest_goes_on(folder, tmp_path):
    train = folder / "train"
    images = draw_culture(side=128, cells=4)[0]
    write_field(train, "nocolour", {name: plane for name, plane in images.items() if name != "yellow"})
    write_field(train, "sizes", {**images, "green": images["green"][:100]})
    write_field(train, "empty", {name: np.zeros_like(plane) for name, plane in images.items()})
    write_field(train, "broken", images)
    (train / "broken_red.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    write_field(train, "double", images)
    write_field(folder / "again", "double", {"red": images["red"]})
    names = ["a", "nocolour", "sizes", "empty", "broken", "double", "ghost"]
    (folder / "some.csv").write_text("ID,Label\n" + "".join(f"{name},0\n" for name in names))
    summary = segment_files(folder, tmp_path / "out", folder / "some.csv")
    assert (summary.images, summary.cells, summary.empty) == (2, 4, ["empty"])
    reasons = {failure.path: failure.reason for failure in summary.failures}
    assert set(reasons) == {"nocolour", "sizes", "broken", "double", "ghost"}
    assert "nocolour_yellow.png is missing" in reasons["nocolour"]
    assert "128 x 100" in reasons["sizes"] and "128 x 128" in reasons["sizes"]
    assert "broken_red.png" in reasons["broken"] and "second file" in reasons["double"]
    assert "no image" in reasons["ghost"] and all("\n" not in reason for reason in reasons.values())


def test_two_processes_write_what_one_writes(folder, tmp_path):
    segment_files(folder, tmp_path / "one")
    segment_files(folder, tmp_path / "two", workers=2)
    assert (tmp_path / "one" / "cells.csv").read_bytes() == (tmp_path / "two" / "cells.csv").read_bytes()


def test_what_stops_the_whole_run(folder, tmp_path):
    with pytest.raises(CellsError, match="no such folder"):
        segment_files(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "bare").mkdir()
    with pytest.raises(CellsError, match="holds no field"):
        segment_files(tmp_path / "bare", tmp_path / "out")
    with pytest.raises(CellsError, match="no such table"):
        segment_files(folder, tmp_path / "out", tmp_path / "no.csv")
    for text, reason in (
        ("name,Label\na,1\n", "needs the columns ID,Label and a row for every field; it has name, Label"),
        ("ID,Label\na,1\na,1\n", r"bad\.csv, line 3: the ID a comes twice, first in line 2"),
        ("ID,Label\na,1\n,2\n", "line 3: has no ID"),
        ("ID\n../a\n", "no name"),
        ("ID,Label\na,1\nb-1,99\n", r"bad\.csv, line 3: label '99' of b-1 is none of 0 to 18"),
        ("id,label\na,Nucleus\n", "label 'Nucleus' of a is none of 0 to 18"),
        ("ID,Label\na,\n", "label '' of a is none of 0 to 18"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(CellsError, match=reason) as caught:
            segment_files(folder, tmp_path / "out", tmp_path / "bad.csv")
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CellsError, match="cannot write"):
        segment_files(folder, tmp_path / "file" / "out")
    with pytest.raises(CellsError, match="config.json"):
        segment_files(folder, tmp_path / "out", settings=Settings(nuclei_model=str(folder)))


def test_the_verb_names_failures_and_says_so_by_its_status(folder, tmp_path):
    arguments = ["segment", "--input_dir", str(folder), "--output_dir", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--train_csv", str(folder / "train.csv")])
    assert result.exit_code == 0 and "2 fields, 8 cells" in result.output
    (folder / "train" / "a_green.png").unlink()
    (folder / "train.csv").write_text("ID,Label\na,1\nb-1,2\nghost,3\n")
    for path in (tmp_path / "out" / "fields").iterdir():
        path.unlink()
    result = CliRunner().invoke(app, [*arguments, "--train_csv", str(folder / "train.csv")])
    assert result.exit_code == 1 and "1 fields, 4 cells" in result.output
    assert (
        "error: a: a_green.png is missing" in result.output and "error: ghost: has no image" in result.output
    )
