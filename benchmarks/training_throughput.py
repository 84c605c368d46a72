"""Training throughput: our loop against a plain fp32 loop, same U-Net, batch and images, in one run.

    python benchmarks/training_throughput.py [--data_dir stage1_train.zip] [--steps 30]

The plain loop is written the way the transformers example `run_semantic_segmentation_no_trainer.py` does it: a
`datasets` transform that decodes and augments each image when it is asked for, a DataLoader without workers, fp32,
AdamW, an Accelerator. Both use all cores. Prints one table, the ratio, and what the processor offers.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

import hf_cells
from hf_cells.evaluation.results import describe_hardware
from hf_cells.training.launch import available_cores
from hf_cells.training.loop import train
from hf_cells.training.recipe import load_recipe
from hf_cells.training.setup import build_model, prepare

NETWORK = {"hidden_sizes": [32, 64, 128, 256], "upsampling": "nearest"}
BATCH, SIDE = 16, 256


def recipe_for(data_dir: str, steps: int, run_dir: str) -> dict:
    recipe = load_recipe("dsb2018_unet")
    recipe["output_dir"] = run_dir
    recipe["data"]["data_dir"] = data_dir
    recipe["model"]["config"] = NETWORK
    recipe["augmentation"] = {"size": SIDE}
    recipe["training"] |= {"epochs": 2, "samples_per_epoch": steps * BATCH, "batch_size": BATCH}
    recipe["training"] |= {"validate_every": 99, "patience": None, "trackers": []}
    return recipe


def plain_loop(data_dir: str, recipe: dict, steps: int) -> float:
    """Images per second of the plain loop, its first batches left out."""
    data = hf_cells.load_dataset("dsb2018", "semantic", data_dir=data_dir, split="train")
    model, _ = build_model(recipe)
    augment = v2.Compose(
        [
            v2.RandomResizedCrop((SIDE, SIDE), scale=(0.35, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(180),
            v2.ColorJitter(0.2, 0.2),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )

    def transform(batch: dict) -> dict:
        pairs = [
            augment(
                tv_tensors.Image(np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy()),
                tv_tensors.Mask(np.asarray(mask)),
            )
            for image, mask in zip(batch["image"], batch["semantic_mask"])
        ]
        return {"pixel_values": [p for p, _ in pairs], "labels": [m.long() for _, m in pairs]}

    def collate(items: list[dict]) -> dict:
        return {key: torch.stack([item[key].as_subclass(torch.Tensor) for item in items]) for key in items[0]}

    loader = DataLoader(
        data.with_transform(transform), batch_size=BATCH, shuffle=True, collate_fn=collate, drop_last=True
    )
    accelerator = Accelerator(mixed_precision="no")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    model.train()
    done, begun = -3, 0.0
    while done < steps:
        for batch in loader:
            if done == 0:
                begun = time.perf_counter()
            loss = model(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done >= steps:
                break
    return steps * BATCH / (time.perf_counter() - begun)


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", help="dsb2018 folder or zip; simulated when left out")
    parser.add_argument("--steps", type=int, default=30, help="steps timed in each loop")
    options = parser.parse_args()
    torch.set_num_threads(available_cores())
    with tempfile.TemporaryDirectory() as folder:
        data_dir = options.data_dir or str(hf_cells.simulate_dsb2018(Path(folder) / "data", n_train=96))
        recipe = recipe_for(data_dir, options.steps, str(Path(folder) / "run"))
        torch.manual_seed(0)
        plain = plain_loop(data_dir, recipe, options.steps)
        setup, _ = prepare(recipe, None)
        state = train(setup)
        ours = state.history[-1]["images_per_second"]  # the second epoch: decoded and warm
    flags = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    offered = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    chosen = f"{recipe['training']['precision']} {recipe['training']['memory_format']}"
    print(f"\n{describe_hardware()}; {' '.join(offered) or platform.machine()}; torch {torch.__version__}")
    print(f"U-Net {NETWORK['hidden_sizes']}, batch {BATCH}, {SIDE}x{SIDE}, {options.steps} steps")
    print(f"{'loop':34}{'images/s':>10}")
    print(f"{'plain, fp32':34}{plain:>10.1f}")
    print(f"{'hf-cells, ' + chosen:34}{ours:>10.1f}")
    print(f"ratio {ours / plain:.2f}")


if __name__ == "__main__":
    main()
