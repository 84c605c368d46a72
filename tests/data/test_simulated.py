"""Simulated images are told from those that they imitate, down to the card."""

import datasets

import hf_cells
from hf_cells.data.simulated import hand_on_mark, is_simulated, simulated_title
from hf_cells.evaluation.sections import dataset_section
from hf_cells.simulate import simulate_glomeruli


def test_simulated_files_are_known_by_their_table(tmp_path):
    folder = tmp_path / "made"
    (folder / "stage1_train").mkdir(parents=True)
    assert not is_simulated(folder) and not is_simulated(None)
    (folder / "simulated.csv").write_text("image_id")
    assert is_simulated(folder) and is_simulated(folder / "stage1_train")
    (folder / "real.zip").write_bytes(b"")  # may come from anywhere
    assert not is_simulated(folder / "real.zip")


def test_what_is_made_of_simulated_images_is_marked_too(tmp_path):
    for name in ("made/train", "real", "cells"):
        (tmp_path / name).mkdir(parents=True)
    hand_on_mark(tmp_path / "real", tmp_path / "cells")
    assert not is_simulated(tmp_path / "cells")
    (tmp_path / "made" / "simulated.csv").write_text("image_id")
    hand_on_mark(tmp_path / "made" / "train", tmp_path / "cells")
    assert is_simulated(tmp_path / "cells")


def test_simulated_images_are_under_no_terms_of_the_real_ones(tmp_path):
    made = simulate_glomeruli(tmp_path / "made", n_train=12, n_test=0, size_range=(32, 48))
    splits = hf_cells.load_dataset("glomeruli", "random_split", data_dir=made, cache_dir=tmp_path / "cache")
    again = hf_cells.load_dataset(
        "glomeruli", "random_split", data_dir=made, cache_dir=tmp_path / "cache", split="all"
    )
    for dataset in (splits["train"].select([0]), again):
        section = dataset_section(dataset, "0")
        assert section["license"] == "cc0-1.0"
        assert section["title"] == "simulated images in the layout of glomeruli"
        assert section["name"] == "glomeruli"
    assert simulated_title(datasets.DatasetInfo(description="images of a microscope")) is None
