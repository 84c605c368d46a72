"""Tiles: what is blended is what the whole image gives."""

import pytest
import torch
from discs import draw_discs
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.models import CellInstanceImageProcessor, decode_instances, tiled_logits


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(8, 80),
    st.integers(0, 40),
    st.sampled_from([1, 4, 8]),
)
def test_weights_add_up_to_one(height, width, tile, overlap, multiple):
    if tile // multiple * multiple < overlap + multiple:
        with pytest.raises(ValueError, match="leave no tile to move on"):
            tiled_logits(lambda x: x, torch.zeros(1, 1, 99, 99), tile, overlap, multiple)
        return
    x = torch.rand(1, 2, height, width)
    sizes = []

    def identity(piece):
        sizes.append(piece.shape[-2:])
        return piece

    blended = tiled_logits(identity, x, tile, overlap, multiple)
    torch.testing.assert_close(blended, x)
    assert all(max(size) <= tile for size in sizes)
    if max(height, width) <= tile:
        assert len(sizes) == 1


def test_tiles_start_on_the_pooling_grid_and_overlap():
    ramp = torch.arange(500.0).expand(1, 1, 40, 500)  # a column knows its place
    starts, ends = [], []

    def look(piece):
        starts.append(int(piece[0, 0, 0, 0]))
        ends.append(int(piece[0, 0, 0, -1]) + 1)
        return piece

    tiled_logits(look, ramp, tile=128, overlap=32, multiple=16)
    assert starts[0] == 0
    assert ends[-1] == 500
    assert all(start % 16 == 0 for start in starts)
    assert all(end - start >= 32 for end, start in zip(ends, starts[1:]))


def test_the_neighbour_that_sees_more_wins():
    """The outer quarter of the overlap, spoiled by padding, must not show."""

    def spoiled(piece):
        maps = torch.zeros_like(piece)
        maps[..., :8, :] = maps[..., -8:, :] = maps[..., :, :8] = maps[..., :, -8:] = 1e6
        return maps

    blended = tiled_logits(spoiled, torch.zeros(1, 1, 256, 256), tile=128, overlap=32, multiple=16)
    assert (blended[..., 8:-8, 8:-8] == 0).all()


def test_one_tile_is_the_whole_image_exactly(instance_model):
    x = torch.randn(1, 1, 90, 96)
    with torch.inference_mode():
        whole = instance_model(x).logits
        assert torch.equal(tiled_logits(lambda v: instance_model(v).logits, x, tile=96, overlap=32), whole)


@pytest.mark.parametrize(("overlap", "largest"), [(128, 1e-5), (48, 0.02)])
def test_tiled_equals_whole(instance_model, overlap, largest):
    """Exactly, as soon as a quarter of the overlap covers the receptive field; nearly, with less."""
    image, _ = draw_discs(5, size=(330, 280), count=60)
    x = CellInstanceImageProcessor(num_channels=1)(image)["pixel_values"]

    def maps(piece):
        return instance_model(piece).logits

    with torch.inference_mode():
        whole = maps(x)
        tiled = tiled_logits(maps, x, tile=160, overlap=overlap, multiple=instance_model.unet.multiple)
    assert (tiled - whole).abs().max() < largest
    labels, scores = decode_instances(whole[0].numpy())
    labels_tiled, scores_tiled = decode_instances(tiled[0].numpy())
    assert len(scores) == len(scores_tiled) == 60
    assert ((labels > 0) == (labels_tiled > 0)).mean() > 0.9999
