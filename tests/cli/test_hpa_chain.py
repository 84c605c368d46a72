"""The whole chain on a few simulated fields: simulate, segment, folds, train, predict, submission."""

import csv
from pathlib import Path

import numpy as np
import pytest
from tiny_training import TINY, alone  # noqa: F401  (a fixture)

from hf_cells.inference.hpa_submission import read_submission
from hf_cells.training.main import main as train

SETTINGS = [
    *TINY,
    "model.config.hidden_sizes=[4,8]",
    "processor.size={height: 32, width: 32}",
    "training.samples_per_epoch=16",
    "training.batch_size=8",
    "data.options={fold: 0}",
]

pytestmark = pytest.mark.usefixtures("alone")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_from_simulated_fields_to_a_submission(cli, tmp_path):
    def done(*arguments):
        result = cli(*arguments)
        assert result.exit_code == 0, result.output

    done("simulate", "hpa_single_cell", "--output_dir", "hpa", "--n_train", 12, "--size", 128, "field_um=90")
    done("segment", "--input_dir", "hpa/train", "--train_csv", "hpa/train.csv", "--output_dir", "cells")
    done("folds", "--train_csv", "hpa/train.csv", "--output_csv", "hpa/folds.csv", "--n_folds", 3)
    done(
        "folds", "--train_csv", "cells/cells.csv", "--output_csv", "cells/folds.csv", "--n_folds", 3,
        "--folds_of", "hpa/folds.csv", "--groups_csv", "hpa/antibodies.csv",
    )  # fmt: skip
    for recipe, data in (("hpa_cells_128", "cells"), ("hpa_fields", "hpa")):
        train(["--recipe", recipe, "--data_dir", data, "--output_dir", f"runs/{recipe}", *SETTINGS])
    done(
        "predict", "runs/hpa_cells_128/model", "hpa/train", "--format", "hpa", "--masks_dir", "cells/masks",
        "--image_model", "runs/hpa_fields/model", "--output_dir", "out",
    )  # fmt: skip
    cells, fields = read(tmp_path / "cells/cells.csv"), read_submission(tmp_path / "out/submission.csv")
    assert len(cells) >= 12
    assert {field.image_id for field in fields} == {row["ID"] for row in read(tmp_path / "hpa/train.csv")}
    assert sum(len(field.runs) for field in fields) == len(cells) == len(read(tmp_path / "out/cells.csv"))
    assert all(len(field.cells) == 19 * len(field.runs) for field in fields)
    assert all(np.isfinite(field.scores).all() for field in fields)
    held_out = {row["parent_image_id"] for row in read(tmp_path / "cells/folds.csv") if row["fold"] == "0"}
    assert held_out <= {row["ID"] for row in read(tmp_path / "hpa/folds.csv") if row["fold"] == "0"}
