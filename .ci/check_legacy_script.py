"""Load dataset_scripts/dsb2018.py by path under datasets 3.6 and check its rows; see legacy_scripts.sh."""

import os
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "dataset_scripts" / "dsb2018.py"
IMAGES = 10


def write_layout(root: Path) -> None:
    """Write dark images with three square nuclei each, as stage1_train."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(IMAGES):
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


def main() -> None:
    """Check both configurations: splits, columns, label values and an option of the configuration."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.update(HF_HOME=temporary, HF_HUB_OFFLINE="1")  # read when datasets is imported
        import datasets
        import numpy as np

        assert datasets.__version__.startswith("3."), datasets.__version__
        datasets.disable_progress_bars()
        root = Path(temporary) / "data"
        write_layout(root)

        def load(config: str, **options: object) -> datasets.DatasetDict:
            return datasets.load_dataset(
                str(SCRIPT), config, data_dir=str(root), trust_remote_code=True, **options
            )

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
        assert "test" not in masks and len(masks["train"]) == IMAGES - 1, masks
        assert set(np.unique(np.asarray(masks["train"][0]["semantic_mask"]))) == {0, 1}
    print(f"{SCRIPT.name} runs as a loading script under datasets {datasets.__version__}")


if __name__ == "__main__":
    main()
