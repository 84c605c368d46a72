"""Training throughput of segmentation: our loop against a plain fp32 loop, same U-Net, batch and images, in one run.

    python benchmarks/training_throughput.py [--data_dir stage1_train.zip] [--steps 12]

The plain loop is written the way the transformers example `run_semantic_segmentation_no_trainer.py` does it: a
`datasets` transform that decodes and augments each image when it is asked for, a DataLoader without workers, fp32,
AdamW, an Accelerator. Both use all cores, each in a process of its own. Prints what it does, then one table with the
ratio and what the processor offers; two to four minutes on two idle cores.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_by_side import in_own_process, our_speed, plain_speed, print_table
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

import hf_cells
from hf_cells.quiet import quiet_libraries
from hf_cells.training.recipe import load_recipe
from hf_cells.training.setup import build_model
from hf_cells.training.task import task_of

NETWORK = {"hidden_sizes": [32, 64, 128, 256], "upsampling": "nearest"}
BATCH, SIDE = 16, 256


def recipe_for(data_dir: str, steps: int, run_dir: str) -> dict[str, Any]:
    """Two epochs of so many steps, nothing but training in them."""
    recipe = load_recipe("dsb2018_unet")
    recipe["output_dir"] = run_dir
    recipe["data"]["data_dir"] = data_dir
    recipe["model"]["config"] = NETWORK
    recipe["augmentation"] = {"size": SIDE}
    recipe["training"] |= {"epochs": 2, "samples_per_epoch": steps * BATCH, "batch_size": BATCH}
    recipe["training"] |= {"patience": None, "trackers": []}
    return recipe


def plain_loop(recipe: dict[str, Any]) -> float:
    """Images per second of the plain loop."""
    settings = recipe["training"]
    splits = hf_cells.load_dataset("dsb2018", "semantic", data_dir=recipe["data"]["data_dir"])
    model, _ = build_model(recipe, task_of(recipe["model"]["type"]), splits)
    side = recipe["augmentation"]["size"]
    augment = v2.Compose(
        [
            v2.RandomResizedCrop((side, side), scale=(0.35, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(180),
            v2.ColorJitter(0.2, 0.2),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )

    def transform(batch: dict[str, Any]) -> dict[str, Any]:
        pairs = [
            augment(
                tv_tensors.Image(np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy()),
                tv_tensors.Mask(np.array(mask)),
            )
            for image, mask in zip(batch["image"], batch["semantic_mask"])
        ]
        return {"pixel_values": [p for p, _ in pairs], "labels": [m.long() for _, m in pairs]}

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: torch.stack([item[key].as_subclass(torch.Tensor) for item in items]) for key in items[0]}

    train, batch = splits["train"], settings["batch_size"]
    train = train.select(range(min(len(train), settings["samples_per_epoch"]))).with_transform(transform)
    loader = DataLoader(
        train, batch_size=batch, shuffle=True, collate_fn=collate, drop_last=len(train) >= batch
    )
    return plain_speed(model, loader, lr=1e-3, steps=settings["samples_per_epoch"] // batch)


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", help="dsb2018 folder or zip; simulated when left out")
    parser.add_argument("--steps", type=int, default=12, help="steps timed in each loop")
    options = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        print("preparing the images", flush=True)
        data_dir = options.data_dir or str(hf_cells.simulate_dsb2018(Path(folder) / "data", n_train=96))
        hf_cells.load_dataset("dsb2018", "semantic", data_dir=data_dir)  # into the cache, at nobody's cost
        recipe = recipe_for(data_dir, options.steps, str(Path(folder) / "run"))
        plain = in_own_process(plain_loop, recipe)
        ours, chosen = in_own_process(our_speed, recipe)
    print_table(
        f"U-Net {NETWORK['hidden_sizes']}, batch {BATCH}, {SIDE}x{SIDE}, {options.steps} steps",
        "images/s",
        {"plain, fp32": f"{plain:.1f}", f"hf-cells, {chosen}": f"{ours:.1f}"},
        f"ratio {ours / plain:.2f}",
    )


if __name__ == "__main__":
    main()
