"""Whole cells in real images: only those that no training composite shows, all kinds of white cell together."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hf_cells.compose import CLASS_NAMES, build_library, read_library
from hf_cells.errors import CellsError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "compose"))
    import real_white_cells

    return real_white_cells


def test_unseen_images_at_the_scale_of_the_library(benchmark, tmp_path, monkeypatch):
    from smears import write_masks

    masks = write_masks(tmp_path / "wbc", ["neutrophil", "lymphocyte"] * 4)
    library = build_library(tmp_path / "library", masks=[masks])
    unseen = [s for s in read_library(library).samples if s.split != "train"]
    asked = []

    def half_of_the_cell(image):
        """The left half as a neutrophil, and red cells that do not count."""
        asked.append(image)
        truth = np.hypot(*(np.mgrid[:150, :150] - 75)) <= 30
        mask = np.where(truth, CLASS_NAMES.index("neutrophil"), CLASS_NAMES.index("healthy_rbc"))
        mask[:, 75:][truth[:, 75:]] = 0
        return {"semantic_mask": mask.astype(np.uint8)}

    class Pipe:
        model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(CLASS_NAMES))))
        image_processor = SimpleNamespace(size=None, magnification=1.0)
        __call__ = staticmethod(half_of_the_cell)

    made = []
    monkeypatch.setattr("hf_cells.pipeline", lambda model: made.append(Pipe()) or made[-1])
    scores = benchmark.measure("model", library, masks, ["validation", "test"])
    assert len(scores) == len(asked) == len(unseen) >= 2
    assert scores == pytest.approx([2 / 3] * len(scores), abs=0.02)  # half of it found, nothing else
    with pytest.raises(CellsError, match="holds no image of .*--masks"):
        benchmark.measure("model", library, write_masks(tmp_path / "other", ["neutrophil"]), ["test"])
    assert made[0].image_processor.magnification == pytest.approx(unseen[0].scale)
