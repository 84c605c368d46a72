"""Image, truth and prediction of several classes: colour maps in the model's own colours, with a legend."""

import numpy as np
import pytest
from PIL import Image

from hf_cells.evaluation.examples import Example
from hf_cells.evaluation.gallery import plot_segmentation_examples

NAMES = ("background", "lymphocyte", "platelet")
COLOURS = ((0, 0, 0), (128, 128, 0), (255, 0, 255))


@pytest.mark.parametrize("own", [True, False])
def test_maps_and_legend_are_in_the_class_colours(tmp_path, own):
    truth, found = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    truth[:30], truth[50:], found[:, :30] = 1, 255, 2
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    example = Example(image, truth, found, "one", NAMES, COLOURS if own else None)
    plot_segmentation_examples([example], tmp_path / "figure.png")
    picture = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"))
    third = picture.shape[1] // 3
    footer = picture.shape[0] - 60
    for index, panel in ((1, 1), (2, 2)):
        pixels = (picture == COLOURS[index]).all(-1)
        own_panel = pixels[:footer, panel * third : (panel + 1) * third].sum()
        assert own_panel == pixels[:footer].sum()  # in no other panel
        assert (own_panel > 50_000) == own
        assert (pixels[footer:].sum() > 200) == own  # the legend's patch
    ignored = (picture == (0x9E, 0x9E, 0x9E)).all(-1)[:, third : 2 * third].sum()
    assert (ignored > 10_000) == own
