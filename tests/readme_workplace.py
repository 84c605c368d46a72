"""The files and finished runs that the commands of the README name."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def make_images(folder: Path) -> None:
    """Write every data folder of the README, small."""
    from hf_cells.simulate import simulate_dsb2018, simulate_glomeruli, simulate_hep2

    simulated = simulate_dsb2018(folder / "data", n_train=12, size=(64, 64))
    shutil.make_archive(str(folder / "stage1_train"), "zip", simulated, "stage1_train")
    photo = next((simulated / "stage1_train").glob("*/images/*.png"))
    shutil.copyfile(photo, folder / "photo.png")
    for name in ("images", "masks"):
        (folder / "my_images" / name).mkdir(parents=True)
    for index, image in enumerate(sorted((simulated / "stage1_train").glob("*/images/*.png"))):
        shutil.copyfile(image, folder / "my_images" / "images" / f"{index}.png")
        masks = [np.array(Image.open(p)) for p in sorted((image.parent.parent / "masks").glob("*.png"))]
        labels = np.zeros(np.array(Image.open(image)).shape[:2], np.uint16)
        for number, mask in enumerate(masks, 1):
            labels[mask > 0] = number
        Image.fromarray(labels).save(folder / "my_images" / "masks" / f"{index}.png")
    simulate_hep2(folder / "hep2_simulated", n_train=240, n_test=24)
    simulate_glomeruli(folder / "glomeruli", n_train=48, n_test=0, size_range=(48, 64))
    labels = ["file,label,group"]
    for number in range(40):
        name = ("round", "square")[number % 2]
        pixels = np.random.default_rng(number).integers(0, 60, (20, 20), np.uint8)
        pixels[5:15, 5:15] += np.uint8(100 * (number % 2))
        for place in (folder / "my_cells" / name, folder / "my_labels" / "images"):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{number}.png")
        labels.append(f"{number}.png,{name},patient{number // 4}")
    (folder / "my_labels" / "labels.csv").write_text("\n".join(labels))
    shutil.copyfile(folder / "my_cells" / "round" / "0.png", folder / "cell.png")
    _white_cells(folder / "segmentation_WBC")


def _white_cells(folder: Path) -> None:
    """Discs with a nucleus, as grey levels 128 and 255 of the mask."""
    mask = np.zeros((32, 32), np.uint8)
    mask[6:26, 6:26], mask[11:20, 11:20] = 128, 255
    for name, count in (("Dataset 1", 20), ("Dataset 2", 10)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number + count).integers(0, 60, (32, 32, 3), np.uint8)
            Image.fromarray(255 - pixels - mask[..., None] // 2).save(folder / name / f"{number:03d}.bmp")
            Image.fromarray(mask).save(folder / name / f"{number:03d}.png")


def finish_runs(
    folder: Path, short: Sequence[str], classification: Sequence[str], segmentation: Sequence[str]
) -> None:
    """Train the models that commands without a training of their own begin with."""
    from hf_cells.compose import compose_dataset, simulate_library
    from hf_cells.training import main

    library = simulate_library(folder / "library", per_class=3)
    compose_dataset(library, folder / "smears", train=6, validation=2, test=2, backgrounds=3)
    hep2, smears = str(folder / "hep2_simulated"), str(folder / "smears")
    runs = {
        "hep2": ["--recipe", "hep2_best", "--data_dir", hep2, *short, *classification],
        "hep2_folds/fold-0": ["--recipe", "hep2_best", "--data_dir", hep2, *short, *classification]
        + ["data.config=block_split", "data.options.pooled=false"],
        "blood_gmp": ["--recipe", "blood_gmp_fast", "--data_dir", smears, *short]
        + ["model.config.hidden_sizes=[4,4,4,4,4,4,8]"],
        "my_images": ["--recipe", "dsb2018_instance", "--data_dir", "my_images", *short, *segmentation],
        "my_cells": ["--recipe", "cells_classification", "--data_dir", "my_cells", *short, *classification],
        "blood_smears": ["--recipe", "blood_smear_unet_fast", "--data_dir", smears, *short, *segmentation],
    }
    here = Path.cwd()
    os.chdir(folder)
    try:
        for name, arguments in runs.items():
            main([*arguments, "--output_dir", f"runs/{name}"])
    finally:
        os.chdir(here)
