"""The recipes of nuclei and whole cells learn from simulated fields, and `segment` works with what they have learnt."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_training import TINY, alone  # noqa: F401  (a fixture)

from hf_cells.inference.cell_segmentator import CellSegmentator, label_cell
from hf_cells.training.main import main as train

SETTINGS = [
    *TINY,
    "data.options={validation_fraction: 0.3, test_fraction: 0.3}",
    "model.config.hidden_sizes=[4,8]",
    "augmentation.size=48",
    "training.samples_per_epoch=4",
    "training.batch_size=2",
    "evaluation.tune=false",
]

pytestmark = pytest.mark.usefixtures("alone")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(np.int32)


def test_from_simulated_fields_to_models_that_segment(cli, failing, tmp_path):
    def done(*arguments):
        result = cli(*arguments)
        assert result.exit_code == 0, result.output

    done("simulate", "hpa_single_cell", "--output_dir", "sim", "--n_train", 9, "--size", 96, "field_um=60")
    for recipe in ("hpa_nuclei", "hpa_whole_cells"):
        train(["--recipe", recipe, "--data_dir", "sim", "--output_dir", f"runs/{recipe}", *SETTINGS])
        results = json.loads((tmp_path / "runs" / recipe / "results.json").read_text())
        assert results["split"]["leaks"] == 0 and np.isfinite(results["metrics"]["ap50_pooled"]["value"])
    nuclei_model, cell_model = (f"runs/{name}/model" for name in ("hpa_nuclei", "hpa_whole_cells"))
    kinds = [json.loads(Path(model, "config.json").read_text()) for model in (nuclei_model, cell_model)]
    assert [kind["id2label"]["0"] for kind in kinds] == ["nucleus", "cell"]

    models = ["--nuclei_model", nuclei_model, "--cell_model", cell_model]
    done("segment", "--input_dir", "sim/train", "--output_dir", "out", *models)
    masks = tmp_path / "out" / "masks"
    for path in sorted(masks.glob("*_cell.png")):
        cells, nuclei = pixels(path), pixels(masks / path.name.replace("_cell.png", "_nucleus.png"))
        assert (cells[nuclei > 0] == nuclei[nuclei > 0]).all()
        assert set(nuclei[nuclei > 0]) == set(cells[cells > 0]) == set(range(1, cells.max() + 1))
    mark = json.loads(next((tmp_path / "out" / "fields").glob("*.json")).read_text())
    assert mark["settings"] == {
        "nuclei_model": nuclei_model, "cell_model": cell_model, "scale_factor": None,
    }  # fmt: skip

    segmentator = CellSegmentator(nuclei_model, cell_model, device="cpu", scale_factor=None)
    field = path.name.removesuffix("_cell.png")
    files = {
        colour: [str(tmp_path / f"sim/train/{field}_{colour}.png")] for colour in ("red", "yellow", "blue")
    }
    found = label_cell(
        segmentator.pred_nuclei(files["blue"])[0],
        segmentator.pred_cells([files["red"], files["yellow"], files["blue"]])[0],
    )
    assert [mask.shape for mask in found] == [(96, 96)] * 2

    exchanged = ["--nuclei_model", cell_model, "--cell_model", nuclei_model]
    said = failing("segment", "--input_dir", "sim/train", "--output_dir", "other", *exchanged)
    assert said.startswith(f"{cell_model}: the model takes red, yellow, blue, it has to take blue; are the")
    said = failing(
        "segment", "--input_dir", "sim/train", "--output_dir", "other", "--cell_model", nuclei_model
    )
    assert said == f"{nuclei_model}: the model takes 1 channels, it has to take 3"
