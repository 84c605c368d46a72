"""The verb `audit`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from textures import dataset, encode, texture

Cli = Callable[..., Result]
PATIENTS = [f"Muster{n}" for n in range(1, 6)]


def write_parquet(folder: Path, leaky: bool) -> Path:
    """Five patients of six images; the last is in both splits of a leaky one, and a copy of an image too."""
    names = [f"{patient}_{n:02d}" for patient in PATIENTS for n in range(6)]
    images = [texture(n) for n in range(30)]
    images[25] = images[2] if leaky else images[25]
    cut = 25 if leaky else 24
    (folder / "data").mkdir(parents=True)
    for split, rows in (("train", slice(cut)), ("test", slice(cut, None))):
        labels = [n % 2 for n in range(30)][rows]
        dataset(names[rows], images[rows], labels).to_parquet(folder / f"data/{split}-00000-of-00001.parquet")
    return folder


def row_of(output: str, check: str) -> list[str]:
    (line,) = [line for line in output.splitlines() if line.startswith(f"│ {check} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_leak_is_reported_and_with_strict_refused(cli: Cli, tmp_path: Path) -> None:
    write_parquet(tmp_path / "cells", leaky=True)
    result = cli("audit", "cells")
    assert result.exit_code == 0 and result.stderr == ""
    assert "cells: 25 train, 5 test" in result.stdout
    assert row_of(result.stdout, "groups")[1].startswith("5 by names, ^([^_]+)_; 6 to 6 images, median 6")
    assert row_of(result.stdout, "groups")[2:] == ["1", "leak"]
    assert row_of(result.stdout, "exact duplicates")[1:] == ["1 picture in 2 images", "1", "leak"]
    assert row_of(result.stdout, "label conflicts")[3] == "leak"
    assert "leak: 1 of 5 groups (names, ^([^_]+)_) are in more than one split\n" in result.stdout
    assert result.stdout.endswith("see audit/audit.json and audit/audit.png\n")
    assert not any(patient in result.output for patient in PATIENTS)
    report = json.loads((tmp_path / "audit/audit.json").read_text())
    assert report["dataset"] == "cells" and report["leaks"] == 2
    assert report["exact_duplicates"]["members"] == [[["train", "Muster1_02"], ["test", "Muster5_01"]]]
    assert Image.open(tmp_path / "audit/audit.png").width == 1350

    strict = cli("audit", "cells", "--strict", "--output-dir", "again")
    assert strict.exit_code == 1 and strict.stdout == result.stdout.replace("audit/", "again/")
    assert strict.stderr.startswith("error: 2 leaks: 1 of 5 groups") and strict.stderr.count("\n") == 1


def test_a_clean_split_passes_and_groups_can_be_told(cli: Cli, tmp_path: Path) -> None:
    write_parquet(tmp_path / "cells", leaky=False)
    result = cli("audit", "cells", "--strict")
    assert result.exit_code == 0 and "leak:" not in result.stdout
    assert {row_of(result.stdout, check)[3] for check in ("groups", "exact duplicates", "image sizes")} == {
        "ok"
    }
    told = cli("audit", "cells", "--strict", "--groups", r"_\d(\d)$")
    assert told.exit_code == 1 and "6 of 6 groups" in told.stderr
    assert cli("audit", "cells", "--strict", "--groups", "image_id").exit_code == 0
    assert row_of(cli("audit", "cells", "--similarity", 0).stdout, "near duplicates")[1].endswith("≥ 0.00")


def test_a_published_leak_is_named_as_one(cli: Cli, tmp_path: Path) -> None:
    """A HEp-2 folder of the contest, with a cell of training twice more."""
    rows = ["Image ID,Image class"]
    number = 0
    for folder, count in (("training", 6), ("validation", 2), ("test", 2)):
        (tmp_path / "hep" / folder).mkdir(parents=True)
        for label in ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "NuMem", "Golgi"):
            for _ in range(count):
                number += 1
                rows.append(f"{number:05d},{label}")
                (tmp_path / "hep" / folder / f"{number:05d}.png").write_bytes(encode(texture(number)))
    for copy in ("validation/00048", "test/00060"):
        (tmp_path / f"hep/{copy}.png").write_bytes(encode(texture(36)))
    (tmp_path / "hep/gt_training.csv").write_text("\n".join(rows) + "\n")
    result = cli("audit", "hep2", "--data_dir", "hep")
    assert "hep2, published_split: 36 train, 12 validation, 12 test" in result.stdout
    assert "note: this split is published as it is and known to leak: random by cell" in result.stdout
    assert row_of(result.stdout, "exact duplicates")[1:] == ["1 picture in 3 images", "1", "leak"]
    published = cli(
        "audit", "hep2", "published_split", "test_from=validation", "--data_dir", "hep", "--strict"
    )
    assert published.exit_code == 1 and "1 of 1 pixel-identical" in published.stderr
    assert json.loads((tmp_path / "audit/audit.json").read_text())["config"] == "published_split"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such dataset or folder"),
        (["hep2", "--data_dir", "none"], "none: no such file or folder; check data_dir"),
        (["cells", "--groups", "^Z"], "groups='^Z' is no column, and as a regular expression finds nothing"),
        (["cells", "--groups", "("], "is not a regular expression"),
        (["cells", "--embedding", "no_such_model"], "timm knows no model of this name"),
        (["cells", "--output_dir", "file/audit"], "cannot write into file/audit"),
        (["hep2", "fold"], "no configuration 'fold'; choose from"),
    ],
)
def test_audit_refuses(
    failing: Callable[..., str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    write_parquet(tmp_path / "cells", leaky=False)
    (tmp_path / "file").write_text("")
    assert message in failing("audit", *arguments)


def test_an_image_that_cannot_be_read_is_counted(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "cells/data").mkdir(parents=True)
    images: list[np.ndarray | bytes] = [texture(n) for n in range(4)]
    images.append(encode(texture(9))[:200])
    rows = dataset(["a", "b", "c", "d", "e"], images)
    rows.to_parquet(tmp_path / "cells/data/train-00000-of-00001.parquet")
    result = cli("audit", "cells")
    assert row_of(result.stdout, "unreadable")[1:] == ["1 image", "", "warning"]
    assert "note: 1 images cannot be read and were left out" in result.stdout
