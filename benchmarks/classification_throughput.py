"""Training of classifiers: our loop against a plain fp32 loop, same network and images; and the time of a prediction.

    python benchmarks/classification_throughput.py [--data_dir hep2.zip] [--steps 12]
    python benchmarks/classification_throughput.py --data_dir hep2.zip --whole_job 0.95 [--epochs 20]

The plain loop is written the way the transformers example `run_image_classification_no_trainer.py` does it: a
`datasets` transform that decodes, crops (RandomResizedCrop), mirrors and normalises each image when it is asked for, a
DataLoader without workers, fp32, AdamW with a linear schedule, an Accelerator. Both use all cores, each in a process of
its own. Images are those of `hep2`, or of your own class folders; simulated without --data_dir.

The first form times ResNet-18 at 224 pixels (two to four minutes on two idle cores) and then the prediction of single
cells with the network of the recipe `hep2_best`. The second trains that network in both ways, from nothing until the
accuracy on the validation split passes the mark, and prints the times: ours as the recipe says; the plain loop with the
recipe's batch size, learning rate, weight decay and epochs. The plain loop gives up after --limit times our time.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from side_by_side import Teller, in_own_process, our_speed, plain_speed, plain_steps, print_table
from torch.utils.data import DataLoader
from torchvision import transforms

import hf_cells
from hf_cells.data.samples import ImageRows
from hf_cells.models import CellClassificationPipeline
from hf_cells.quiet import quiet_libraries
from hf_cells.simulate import SIMULATORS
from hf_cells.training.classification import ClassificationTask
from hf_cells.training.loop import train
from hf_cells.training.main import use_data
from hf_cells.training.recipe import load_recipe
from hf_cells.training.setup import build_model, prepare

SIDE, BATCH = 224, 32
PREDICTED = 640  # cells


def throughput_recipe(steps: int) -> dict[str, Any]:
    """ResNet-18 from random weights with the crops and mirrors of the example; two epochs of so many steps."""
    recipe = load_recipe("hep2_best")
    recipe["model"]["config"] = {"backbone": "resnet18"}
    recipe["processor"] = {"scaling": "dtype", "size": {"height": SIDE, "width": SIDE}}
    recipe["processor"] |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    recipe["augmentation"] = {"crop": [0.28, 1.0], "aspect": 0.28, "horizontal_flip": True}
    recipe["training"] |= {"epochs": 2, "samples_per_epoch": steps * BATCH, "batch_size": BATCH}
    recipe["training"] |= {"optimizer": {"name": "adamw", "lr": 5e-5}, "ema_decay": None, "trackers": []}
    return recipe


def whole_job_recipe(epochs: int | None) -> dict[str, Any]:
    """`hep2_best`, its accuracy measured after every epoch."""
    recipe = load_recipe("hep2_best")
    recipe["training"] |= {"validate_every": 1, "trackers": []}
    recipe["evaluation"]["metric"] = "accuracy"
    if epochs:
        recipe["training"]["epochs"] = epochs
    return recipe


def load_splits(recipe: dict[str, Any]) -> Any:
    """All splits of the recipe's dataset."""
    data = recipe["data"]
    return hf_cells.load_dataset(data["name"], data["config"], data_dir=data["data_dir"], **data["options"])


def plain_parts(recipe: dict[str, Any]) -> tuple[Any, Any, Callable[..., DataLoader[Any]]]:
    """Model, splits, and a function that makes the loader of some rows, for training or for evaluation."""
    splits = load_splits(recipe)
    model, processor = build_model(recipe, ClassificationTask(), splits)
    size = processor.size or dict(zip(("width", "height"), splits["train"][0]["image"].size))
    shape = (size["height"], size["width"])
    mode = "L" if processor.num_channels == 1 else "RGB"
    ending = [transforms.ToTensor(), transforms.Normalize(processor.image_mean, processor.image_std)]
    training = [transforms.RandomResizedCrop(shape), transforms.RandomHorizontalFlip(), *ending]
    evaluation = [transforms.Resize(shape), transforms.CenterCrop(shape), *ending]

    def loader(rows: Any, batch: int, trains: bool) -> DataLoader[Any]:
        change = transforms.Compose(training if trains else evaluation)

        def transform(items: dict[str, Any]) -> dict[str, Any]:
            pixels = [change(image.convert(mode)) for image in items["image"]]
            return {"pixel_values": pixels, "labels": items["label"]}

        def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
            pixels = torch.stack([item["pixel_values"] for item in items])
            return {"pixel_values": pixels, "labels": torch.tensor([item["labels"] for item in items])}

        return DataLoader(
            rows.with_transform(transform),
            batch_size=batch,
            shuffle=trains,
            collate_fn=collate,
            drop_last=trains and len(rows) >= batch,
        )

    return model, splits, loader


def plain_throughput(recipe: dict[str, Any]) -> float:
    """Images per second of the plain loop."""
    settings = recipe["training"]
    model, splits, loader = plain_parts(recipe)
    rows = splits["train"].select(range(min(len(splits["train"]), settings["samples_per_epoch"])))
    steps = settings["samples_per_epoch"] // settings["batch_size"]
    return plain_speed(model, loader(rows, settings["batch_size"], True), settings["optimizer"]["lr"], steps)


def plain_job(recipe: dict[str, Any], mark: float, limit: float) -> tuple[float, bool]:
    """Seconds of the plain loop, validations included, and whether it reached the mark."""
    begun, tell = time.perf_counter(), Teller("plain loop", every=20)
    settings, optimizer = recipe["training"], recipe["training"]["optimizer"]
    model, splits, loader = plain_parts(recipe)
    batches = loader(splits["train"], settings["batch_size"], True)
    tests = loader(splits["validation"], settings["batch_size"], False)
    steps = plain_steps(
        model,
        batches,
        optimizer["lr"],
        total=settings["epochs"] * len(batches),
        weight_decay=optimizer.get("weight_decay", 0.0),
        warmup=settings["schedule"].get("warmup", 0),
    )
    for epoch in range(1, settings["epochs"] + 1):
        for step in range(1, len(batches) + 1):
            next(steps)
            seconds = time.perf_counter() - begun
            tell(f"epoch {epoch}, step {step}/{len(batches)}, {seconds:.0f} s")
            if seconds > limit:
                return seconds, False
        accuracy = plain_accuracy(model, tests)
        seconds = time.perf_counter() - begun
        tell(f"epoch {epoch}/{settings['epochs']}, accuracy {accuracy:.4f}, {seconds:.0f} s", last=True)
        if accuracy >= mark:
            return seconds, True
    return seconds, False


@torch.no_grad()
def plain_accuracy(model: Any, loader: DataLoader[Any]) -> float:
    """Share of right answers."""
    model.eval()
    right = [model(b["pixel_values"].to(model.device)).logits.argmax(1).cpu() == b["labels"] for b in loader]
    return float(torch.cat(right).float().mean())


class MarkReached(Exception):
    """Ends our training."""


class UntilMark(ClassificationTask):
    """The task as ever, but that it ends the training when the validation accuracy passes the mark."""

    def __init__(self, mark: float, begun: float):
        self.mark, self.begun = mark, begun

    def validate(self, *arguments: Any) -> dict[str, float]:
        """Validate, and say what came out."""
        scores = super().validate(*arguments)
        print(
            f"hf-cells: accuracy {scores['accuracy']:.4f}, {time.perf_counter() - self.begun:.0f} s",
            flush=True,
        )
        if scores["accuracy"] >= self.mark:
            raise MarkReached
        return scores


def our_job(recipe: dict[str, Any], mark: float) -> tuple[float, bool, str]:
    """Seconds of our loop, the choice of precision and validations included; whether it reached the mark; how."""
    begun = time.perf_counter()
    setup, _ = prepare(recipe, None)
    setup.task = UntilMark(mark, begun)
    try:
        train(setup)
        reached = False
    except MarkReached:
        reached = True
    settings = recipe["training"]
    return time.perf_counter() - begun, reached, f"{settings['precision']} {settings['memory_format']}"


def prediction(recipe: dict[str, Any], precision: str, count: int = PREDICTED) -> float:
    """Milliseconds a cell from its file to the decision, batch 32; the weights do not matter for that."""
    splits = load_splits(recipe)
    model, processor = build_model(recipe, ClassificationTask(), splits)
    pipe = CellClassificationPipeline(model.eval(), image_processor=processor, precision=precision)
    rows = ImageRows(splits["train"])
    files = [rows[i % len(rows)]["image"] for i in range(count)]
    pipe(files[: 2 * BATCH], batch_size=BATCH)
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        pipe(files, batch_size=BATCH)
        times.append(time.perf_counter() - begun)
    return 1000 * min(times) / count


def compare_throughput(options: argparse.Namespace, folder: Path) -> None:
    """Time both loops, then prediction."""
    recipe, cells = throughput_recipe(options.steps), whole_job_recipe(None)
    recipe["output_dir"] = str(folder / "run")
    for each in (recipe, cells):
        use_data(each, options.data_dir)
    load_splits(recipe)  # into the cache, at nobody's cost
    plain = in_own_process(plain_throughput, recipe)
    ours, chosen = in_own_process(our_speed, recipe)
    cell = {precision: in_own_process(prediction, cells, precision) for precision in ("fp32", "bf16")}
    times = ", ".join(f"{precision} {milliseconds:.2f}" for precision, milliseconds in cell.items())
    print_table(
        f"ResNet-18, batch {BATCH}, {SIDE}x{SIDE}, {options.steps} steps",
        "images/s",
        {"plain, fp32": f"{plain:.1f}", f"hf-cells, {chosen}": f"{ours:.1f}"},
        f"ratio {ours / plain:.2f}\n"
        f"prediction with the network of hep2_best, batch {BATCH}, ms a cell: {times}",
    )


def compare_whole_job(options: argparse.Namespace, folder: Path) -> None:
    """Train to the mark in both ways."""
    recipe = whole_job_recipe(options.epochs)
    recipe["output_dir"] = str(folder / "run")
    use_data(recipe, options.data_dir)
    load_splits(recipe)
    ours, reached, chosen = in_own_process(our_job, recipe, options.whole_job)
    if not reached:
        raise SystemExit(
            f"our loop did not reach {options.whole_job} in {ours:.0f} s; lower the mark or give more --epochs"
        )
    plain, arrived = in_own_process(plain_job, recipe, options.whole_job, options.limit * ours)
    least = "" if arrived else " at least: the plain loop did not reach the mark"
    print_table(
        f"hep2_best from nothing to a validation accuracy of {options.whole_job}, validations included",
        "seconds",
        {"plain, fp32": f"{plain:.0f}{'' if arrived else ' +'}", f"hf-cells, {chosen}": f"{ours:.0f}"},
        f"ratio {plain / ours:.2f}{least}",
    )


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data_dir", help="hep2 folder or zip, or own class folders; simulated when left out"
    )
    parser.add_argument("--steps", type=int, default=12, help="steps timed in each loop")
    parser.add_argument(
        "--whole_job", type=float, metavar="MARK", help="validation accuracy to reach, such as 0.95"
    )
    parser.add_argument("--epochs", type=int, help="of the whole job; as the recipe has it when left out")
    parser.add_argument(
        "--limit", type=float, default=4, help="times our time after which the plain loop gives up"
    )
    options = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        print("preparing the images", flush=True)
        if not options.data_dir:
            options.data_dir = str(SIMULATORS["hep2"](Path(folder) / "data", n_train=480, n_test=60))
        (compare_whole_job if options.whole_job else compare_throughput)(options, Path(folder))


if __name__ == "__main__":
    main()
