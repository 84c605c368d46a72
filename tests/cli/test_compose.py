"""`compose library` and `compose dataset` on the command line."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

Cli = Callable[..., Result]


def test_from_nothing_to_a_dataset(cli: Cli, failing: Callable[..., str], tmp_path: Path) -> None:
    result = cli("compose", "library", "--simulated", "--output_dir", "cells", "--per_class", 3, "--seed", 1)
    assert result.exit_code == 0, result.output
    assert "eosinophil      train 1  validation 1  test 1" in result.stdout
    arguments = ["compose", "dataset", "--library", "cells", "--out", "smears", "--train", 3]
    arguments += ["--validation", 1, "--test", 1, "--backgrounds", 3]
    result = cli(*arguments)
    assert result.exit_code == 0 and result.stdout == "5 samples are in smears\n"
    manifest = json.loads((tmp_path / "smears/manifest.json").read_text())
    assert manifest["samples"] == {"train": 3, "validation": 1, "test": 1}
    assert cli(*arguments).exit_code == 0
    assert "holds another composition (seed 0 there, 1 now)" in failing(*arguments, "--seed", 1)


def test_one_line_for_what_is_missing(failing: Callable[..., str]) -> None:
    assert "no index.parquet there" in failing("compose", "dataset", "--library", "no", "--out", "out")
    assert "no source images given" in failing("compose", "library", "--output_dir", "out")
    both = failing("compose", "library", "--simulated", "--masks", "wbc", "--output_dir", "out")
    assert "--simulated takes no source images" in both
    assert "no such folder or zip" in failing("compose", "library", "--boxes", "no", "--output_dir", "out")


def test_a_library_is_replaced_by_the_same_call_only(
    cli: Cli, failing: Callable[..., str], tmp_path: Path
) -> None:
    call = ["compose", "library", "--simulated", "--output_dir", "cells", "--per_class", 3]
    assert cli(*call).exit_code == 0
    index = (tmp_path / "cells/index.parquet").read_bytes()
    remedy = "choose another folder, or delete this one"
    assert failing(*call, "--seed", 4) == f"cells: holds another library (seed 0 there, 4 now); {remedy}"
    (tmp_path / "source").mkdir()
    message = failing("compose", "library", "--masks", "source", "--output_dir", "cells")
    assert message == f"cells: holds another library (simulated True there, False now); {remedy}"
    assert (tmp_path / "cells/index.parquet").read_bytes() == index
    assert cli(*call).exit_code == 0
