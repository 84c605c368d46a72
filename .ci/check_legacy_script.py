"""Load every script of dataset_scripts by path under datasets 3.6 and check its rows; see legacy_scripts.sh."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent.parent / "dataset_scripts"
PATTERNS = ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "NuMem", "Golgi")
Load = Callable[..., Any]


def check_dsb2018(root: Path, load: Load) -> None:
    """Check both configurations: splits, columns, label values and an option of the configuration."""
    import numpy as np
    from PIL import Image

    images, rng = 10, np.random.default_rng(0)
    for index in range(images):  # dark images with three square nuclei each
        folder = root / "stage1_train" / f"id{index:02d}"
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        pixels = rng.integers(0, 20, (40, 48), np.uint8)
        for nucleus in range(3):
            mask = np.zeros(pixels.shape, np.uint8)
            mask[5:15, 2 + 15 * nucleus : 12 + 15 * nucleus] = 255
            pixels[mask > 0] = 200
            Image.fromarray(mask).save(folder / "masks" / f"{nucleus}.png")
        Image.fromarray(pixels).convert("RGBA").save(folder / "images" / f"id{index:02d}.png")

    splits = load("instance")
    sizes = {name: len(split) for name, split in splits.items()}
    assert sizes == {"train": 7, "validation": 1, "test": 2}, sizes
    row = splits["train"][0]
    assert set(row) == {"image_id", "group", "modality", "image", "instance_labels"}, set(row)
    labels = np.asarray(row["instance_labels"])
    assert row["image"].mode == "RGBA" and row["modality"] == "fluorescence_dark", row
    assert labels.shape == (40, 48) and set(np.unique(labels)) == {0, 1, 2, 3}, np.unique(labels)
    assert (labels > 0).sum() == 300

    masks = load("semantic", test_fraction=0.0)
    assert "test" not in masks and len(masks["train"]) == images - 1, masks
    assert set(np.unique(np.asarray(masks["train"][0]["semantic_mask"]))) == {0, 1}


def check_hep2(root: Path, load: Load) -> None:
    """Check the published split, the order of the classes, and that a fold keeps blocks and copies together."""
    import numpy as np
    from PIL import Image

    rows = ["Image ID;Image class"]
    for number in range(1, 121):  # twenty of a class; the last of all is a copy of the first Golgi cell
        folder = root / ("test" if number % 5 == 0 else "validation" if number % 5 == 1 else "training")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(101 if number == 120 else number).integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.png")
        rows.append(f"{number};{PATTERNS[(number - 1) // 20]}")
    (root / "gt_training.csv").write_text("\n".join(rows), encoding="utf-16")

    published = load(None)
    sizes = {name: len(split) for name, split in published.items()}
    assert sizes == {"train": 72, "validation": 24, "test": 24}, sizes
    assert tuple(published["train"].features["label"].names) == PATTERNS
    row = published["validation"][0]
    assert set(row) == {"image_id", "group", "image", "label"}, set(row)
    assert (row["image_id"], row["group"], row["label"]) == ("00001", "Homogeneous-00", 0), row

    folds = [load("block_split", fold=fold) for fold in range(5)]
    assert sorted(i for splits in folds for i in splits["test"]["image_id"]) == [
        f"{i:05d}" for i in range(1, 121)
    ]
    assert {"00101", "00120"} <= set(folds[0]["test"]["image_id"])
    assert {len(splits["validation"]) for splits in folds} <= {11, 12, 13}


def check_glomeruli(root: Path, load: Load) -> None:
    """Check that cases stay whole by default, and that images are divided by chance when asked."""
    import numpy as np
    from PIL import Image

    rows = ["name,ground truth"]
    (root / "public").mkdir(parents=True)
    for number in range(40):  # ten cases with one sclerotic glomerulus in four
        name = f"S-1900-{number // 4:06d}_PAS_1of2_{number:024x}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (9, 7, 4), np.uint8)
        Image.fromarray(pixels).save(root / "public" / name)
        rows.append(f"{name},{int(number % 4 == 0)}")
    (root / "public.csv").write_text("\n".join(rows))

    splits = load(None)
    sizes = {name: len(split) for name, split in splits.items()}
    assert sizes == {"train": 32, "validation": 4, "test": 4}, sizes
    groups = [set(split["group"]) for split in splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10, groups
    row = splits["test"][0]
    assert set(row) == {"image_id", "group", "slide", "image", "label"}, set(row)
    assert (
        row["slide"] == "1of2" and row["image"].mode == "RGBA" and row["image_id"].startswith(row["group"])
    ), row
    assert splits["train"].features["label"].names == ["non-sclerotic", "sclerotic"]
    assert sum(splits["train"]["label"]) == 8

    by_image = load("random_split", test_fraction=0.5)
    assert len(by_image["test"]) == 20, by_image


def check_blood_smear(root: Path, load: Load) -> None:
    """Check the three configurations on smears of one cell each."""
    import json

    import numpy as np
    from PIL import Image

    for split, count in {"train": 3, "validation": 1, "test": 1}.items():
        for number in range(count):
            cell = np.zeros((16, 16), np.uint8)
            cell[4:10, 3:9] = 1
            colours = np.zeros((16, 16, 3), np.uint8)
            colours[cell > 0] = (0, 255, 0)  # healthy_rbc
            objects = [{"id": 1, "class": "healthy_rbc", "box": [3, 4, 9, 10]}]
            for kind in ("images", "segments", "instances", "labels"):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(colours + 9).save(root / split / "images" / f"{number}.png")
            Image.fromarray(colours).save(root / split / "segments" / f"{number}.png")
            Image.fromarray(cell.astype(np.uint16)).save(root / split / "instances" / f"{number}.png")
            (root / split / "labels" / f"{number}.json").write_text(json.dumps({"objects": objects}))

    splits = load("semantic")
    sizes = {name: len(split) for name, split in splits.items()}
    assert sizes == {"train": 3, "validation": 1, "test": 1}, sizes
    mask = np.asarray(splits["train"][0]["semantic_mask"])
    assert set(np.unique(mask)) == {0, 9} and (mask == 9).sum() == 36, np.unique(mask)
    row = load("instance")["test"][0]
    assert np.asarray(row["instance_labels"]).max() == 1 and row["instance_classes"] == [8], row
    assert load("classification")["test"][0]["labels"] == [8]


def check_wbc_nucleus(root: Path, load: Load) -> None:
    """Check that grey is cytoplasm and white the nucleus."""
    import numpy as np
    from PIL import Image

    mask = np.zeros((12, 14), np.uint8)
    mask[2:10, 2:10] = 128
    mask[4:8, 4:8] = 255
    (root / "Dataset 1").mkdir(parents=True)
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 255, (12, 14, 3), np.uint8)
        Image.fromarray(pixels).save(root / "Dataset 1" / f"{number:03d}.bmp")
        Image.fromarray(mask).save(root / "Dataset 1" / f"{number:03d}.png")

    splits = load(None)
    assert sum(map(len, splits.values())) == 20 and set(splits) == {"train", "validation", "test"}, splits
    found = np.asarray(splits["train"][0]["semantic_mask"])
    assert (found == np.select([mask == 255, mask == 128], [2, 1], 0)).all()


def check_hpa_single_cell(root: Path, load: Load) -> None:
    """Check that antibodies and fields stay whole, that 16 bits stay, and the columns of all configurations."""
    import numpy as np
    from PIL import Image

    rng, colours = np.random.default_rng(0), ("red", "green", "blue", "yellow")
    fields, antibodies, cells = (
        ["ID,Label,fold"],
        ["ID,antibody"],
        ["cell_id,parent_image_id,edge_of_img,Label,fold"],
    )
    (root / "train").mkdir(parents=True)
    for number in range(20):
        fields.append(f"f{number},{number % 3}|16,{number // 2 % 5}")
        antibodies.append(f"f{number},A{number // 2}")
        cells += [f"f{number}_cell_{n},f{number},{n == 1},16,{number // 2 % 5}" for n in (1, 2)]
        for name in (f"f{number}", f"f{number}_cell_1", f"f{number}_cell_2"):
            for colour in colours:
                pixels = rng.integers(0, 60000, (8, 9), np.uint16)
                Image.fromarray(pixels).save(root / "train" / f"{name}_{colour}.png")
        for kind in ("nucleus", "cell"):
            labels = np.repeat([[0, 1, 4]], 8, 0).repeat(3, 1).astype(np.uint16)
            (root / "masks").mkdir(exist_ok=True)
            Image.fromarray(labels).save(root / "masks" / f"f{number}_{kind}.png")
    for name, rows in (("train", fields), ("antibodies", antibodies), ("crops", cells)):
        (root / f"{name}.csv").write_text("\n".join(rows))

    splits = load(None)
    groups = [set(split["group"]) for split in splits.values()]
    assert sum(map(len, splits.values())) == 20 and set(splits) == {"train", "validation", "test"}, splits
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10, groups
    row = splits["train"][0]
    assert set(row) == {"image_id", "group", "fold", *colours, "labels"}, set(row)
    assert np.asarray(row["red"]).max() > 255 and row["labels"][-1] == 16, row
    held_out = load("cells", fold=2, drop_border=True)["test"]
    assert sorted(held_out["image_id"]) == [f"f{n}_cell_2" for n in (14, 15, 4, 5)], held_out["image_id"]
    row = load("nuclei")["train"][0]
    assert set(row) == {"image_id", "group", "modality", "image", "instance_labels"}, set(row)
    assert (np.asarray(row["instance_labels"])[0] == [0, 0, 0, 1, 1, 1, 2, 2, 2]).all()
    row = load("whole_cells", max_side=3)["train"][0]
    assert row["red"].size == row["instance_labels"].size == (3, 3) and "yellow" in row, row


def main() -> None:
    """Check each script with a cache and data of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.update(HF_HOME=temporary, HF_HUB_OFFLINE="1")  # read when datasets is imported
        import datasets

        assert datasets.__version__.startswith("3."), datasets.__version__
        datasets.disable_progress_bars()
        checks = {
            "blood_smear": check_blood_smear,
            "dsb2018": check_dsb2018,
            "glomeruli": check_glomeruli,
            "hep2": check_hep2,
            "hpa_single_cell": check_hpa_single_cell,
            "wbc_nucleus": check_wbc_nucleus,
        }
        scripts = {path.stem for path in SCRIPTS.glob("[!_]*.py")}
        assert scripts == checks.keys(), f"no check of {scripts ^ checks.keys()}"
        for name, check in checks.items():
            root = Path(temporary) / "data" / name

            def load(config: str | None, name: str = name, root: Path = root, **options: object) -> Any:
                script = str(SCRIPTS / f"{name}.py")
                return datasets.load_dataset(
                    script, config, data_dir=str(root), trust_remote_code=True, **options
                )

            check(root, load)
            print(f"{name}.py runs as a loading script under datasets {datasets.__version__}")


if __name__ == "__main__":
    main()
