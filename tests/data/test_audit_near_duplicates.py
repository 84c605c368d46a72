"""Descriptors, pairs and look-alikes, against changed copies, brute force and permutations."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from textures import encode, texture

from hf_cells.data import look_alikes, near_duplicates
from hf_cells.data.image_scan import _small


def described(images: list[np.ndarray]) -> np.ndarray:
    return near_duplicates.cosine_descriptors(np.stack([_small(image)[0] for image in images]))


CHANGES = {
    "recompressed": lambda a: np.asarray(Image.open(io.BytesIO(encode(a, "JPEG", quality=30)))),
    "halved": lambda a: np.asarray(Image.fromarray(a).resize((a.shape[1] // 2, a.shape[0] // 2))),
    "darkened": lambda a: (a * 0.6).astype(np.uint8),
    "sixteen bits": lambda a: a.astype(np.uint16) * 257,
    "colour": lambda a: np.stack([a, a // 2, a // 3], axis=-1),
    "noise": lambda a: np.clip(a + np.random.default_rng(0).normal(0, 6, a.shape), 0, 255).astype(np.uint8),
    "cropped by 1 %": lambda a: a[1:, 1:],
    **{f"turned {k} times": (lambda a, k=k: np.rot90(a, k)) for k in (1, 2, 3)},
    **{f"flipped, turned {k} times": (lambda a, k=k: np.rot90(a[:, ::-1], k)) for k in range(4)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_near_and_other_pictures_are_not(change: str) -> None:
    pictures = [texture(seed, 96) for seed in range(20)]
    pairs, similarity = near_duplicates.similar_pairs(described([*pictures, CHANGES[change](pictures[7])]))
    assert pairs.tolist() == [[7, 20]]
    assert 0.9 <= similarity[0] <= 1.0001


def test_a_turned_picture_is_not_near_where_positions_count() -> None:
    picture = texture(1)
    pairs, _ = near_duplicates.similar_pairs(
        described([picture, picture[::-1], picture]), positions=near_duplicates.as_they_stand
    )
    assert pairs.tolist() == [[0, 2]]


def test_pictures_without_contrast_are_near_nothing() -> None:
    flat = [np.full((9, 9), value, np.uint8) for value in (0, 0, 255)]
    assert not described(flat).any()
    assert len(near_duplicates.similar_pairs(described([*flat, texture(0)]))[0]) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**16), st.floats(0.1, 0.9))
def test_pairs_are_those_of_brute_force(count: int, seed: int, threshold: float) -> None:
    thumbnails = np.random.default_rng(seed).normal(size=(count, 32, 32))
    thumbnails[:, :, :16] += thumbnails[0, :, :16]
    turns = [np.rot90(t, k, axes=(1, 2)) for t in (thumbnails, thumbnails[:, :, ::-1]) for k in range(4)]
    descriptors = near_duplicates.cosine_descriptors(thumbnails)
    similarity = np.max([descriptors @ near_duplicates.cosine_descriptors(t).T for t in turns], axis=0)
    expected = {
        (i, j) for i in range(count) for j in range(i + 1, count) if similarity[i, j] >= threshold + 1e-5
    }
    pairs, found = near_duplicates.similar_pairs(descriptors, threshold)
    assert expected <= set(map(tuple, pairs.tolist()))
    np.testing.assert_allclose(found, similarity[tuple(pairs.T)], atol=1e-5)
    assert (np.diff(found) <= 0).all() and (found >= threshold).all()


def test_blocks_and_the_limit_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = described([texture(seed % 9) for seed in range(50)])
    pairs, similarity = near_duplicates.similar_pairs(descriptors)
    assert len(pairs) == sum(i % 9 == j % 9 for i in range(50) for j in range(i))
    monkeypatch.setattr(near_duplicates, "block_rows", lambda count: 7)
    assert {*map(tuple, near_duplicates.similar_pairs(descriptors)[0].tolist())} == {
        *map(tuple, pairs.tolist())
    }
    monkeypatch.setattr(near_duplicates, "MOST_PAIRS", 10)
    few, strength = near_duplicates.similar_pairs(descriptors)
    assert len(few) == 10 and strength.min() >= similarity[10] - 1e-6


def test_block_rows_bound_the_memory() -> None:
    assert near_duplicates.block_rows(100) == 1024
    assert near_duplicates.block_rows(100_000) * 100_000 * 4 <= 2**26
    assert near_duplicates.block_rows(10**9) == 16


def test_the_threshold_of_a_model_is_what_its_copies_reach() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(200, 12)) + 50  # a large common part, as after a ReLU
    again = {row: features[row] + draw.normal(scale=0.05, size=12) for row in range(0, 200, 4)}
    descriptors, threshold = near_duplicates.calibrated(features, again)
    assert 0.95 < threshold < 1 and np.allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)
    assert len(near_duplicates.similar_pairs(descriptors, threshold, near_duplicates.as_they_stand)[0]) <= 2
    # A model that sees two kinds only must not call every two of a kind near duplicates.
    coarse = np.repeat(np.eye(2), 100, axis=0) + draw.normal(scale=1e-3, size=(200, 2))
    _, threshold = near_duplicates.calibrated(coarse, {row: coarse[row] * 0.5 for row in range(0, 200, 4)})
    assert threshold > 0.9999


def test_look_alikes_are_of_the_class_and_no_copies() -> None:
    features = np.array([[0.0], [0.0], [0.1], [0.3], [5.0], [9.0]], np.float32)
    hashes = ["same", "same", "b", "c", "d", "e"]
    assert look_alikes.nearest_look_alikes(features, None, hashes).tolist() == [2, 2, 0, 2, 5, 4]
    labels = ["x", "x", "y", "x", "y", "z"]
    assert look_alikes.nearest_look_alikes(features, labels, hashes).tolist() == [3, 3, 4, 0, 2, -1]


def test_the_chance_of_close_numbers_and_groups_is_that_of_permutations() -> None:
    draw = np.random.default_rng(1)
    labels = draw.choice(["a", "b"], 120, p=[0.3, 0.7])
    numbers = draw.permutation(400)[:120]
    groups = [None if n % 11 == 0 else f"g{n // 40}" for n in numbers]
    shares, same = [], []
    for _ in range(1500):
        nearest = np.empty(120, int)
        for label in "ab":
            members = np.flatnonzero(labels == label)
            shift = draw.integers(1, len(members), len(members))
            nearest[members] = members[(np.arange(len(members)) + shift) % len(members)]
        close = np.abs(numbers - numbers[nearest]) <= 20
        shares.append(close.mean())
        known = [row for row in range(120) if groups[row] is not None]
        same.append(np.mean([groups[row] == groups[nearest[row]] for row in known]))
    test = look_alikes.number_test(numbers, nearest, labels, window=20)
    assert test["chance"] == pytest.approx(np.mean(shares), abs=0.004)
    assert test["observed"] == pytest.approx(shares[-1], abs=1e-4)
    assert test["z"] == pytest.approx((shares[-1] - np.mean(shares)) / np.std(shares), abs=0.3)
    assert look_alikes.group_test(groups, nearest, labels)["chance"] == pytest.approx(
        np.mean(same), abs=0.004
    )


def test_numbers_of_specimens_show_and_shuffled_ones_do_not() -> None:
    draw = np.random.default_rng(2)
    specimens = np.repeat(draw.normal(size=(30, 6)), 20, axis=0)
    features = (specimens + draw.normal(scale=0.3, size=(600, 6))).astype(np.float32)
    hashes = [str(row) for row in range(600)]
    nearest = look_alikes.nearest_look_alikes(features, None, hashes)
    ordered = look_alikes.number_test(np.arange(600), nearest, None)
    assert ordered["window"] == 6 and ordered["ratio"] > 10 and ordered["z"] > 20
    shuffled = look_alikes.number_test(draw.permutation(600), nearest, None)
    assert 0.3 < shuffled["ratio"] < 2 and abs(shuffled["z"]) < 5
    curve = ordered["curve"]
    assert curve[0]["window"] == 1 and curve[-1] == {"window": 599, "observed": 1.0, "chance": 1.0}
    assert all(point["observed"] >= point["chance"] for point in curve)
    grouped = look_alikes.group_test([str(row // 20) for row in range(600)], nearest, None)
    assert grouped["observed"] > 0.9 and grouped["chance"] == pytest.approx(19 / 599, abs=1e-4)


def test_appearance_tells_light_from_dark_and_fine_from_coarse() -> None:
    pictures = [texture(0, mean=60), texture(1, mean=60), texture(2, mean=170), texture(3, 96)[:48, :48]]
    small = [_small(picture) for picture in pictures]
    features = look_alikes.standardised(
        look_alikes.appearance(np.stack([t for t, _ in small]), np.stack([c for _, c in small]))
    )
    distance = np.linalg.norm(features[:, None] - features, axis=-1)
    assert features.shape == (4, 18) and distance[0, 1] < min(distance[0, 2], distance[0, 3])
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-5)
    assert not look_alikes.standardised(np.ones((3, 2))).any()
