"""What a person sees while training: a bar on a terminal, a line an epoch in a log, and trackers."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """Progress with loss, learning rate and images per second; on the main process only."""

    def __init__(self, recipe: dict[str, Any], run_dir: Path, accelerator: Accelerator, steps_per_epoch: int):
        self.accelerator, self.recipe, self.steps = accelerator, recipe, steps_per_epoch
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar: Progress | None = None
        if accelerator.is_main_process and self.console.is_terminal:
            columns = ("[bold]{task.description}", BarColumn(), "{task.completed:.0f}/{task.total:.0f}")
            self.bar = Progress(
                *(TextColumn(c) if isinstance(c, str) else c for c in columns),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=self.console,
            )
            total = steps_per_epoch * recipe["training"]["epochs"]
            self.task = self.bar.add_task("training", total=total, numbers="")
        if recipe["training"]["trackers"]:
            accelerator.init_trackers("hf-cells", config={"recipe": recipe["name"], "seed": recipe["seed"]})

    def __enter__(self) -> "Display":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self.bar:
            self.bar.stop()
        for tracker in self.accelerator.trackers:  # `end_training` would also part the processes
            tracker.finish()

    def say(self, text: str) -> None:
        """Print a line once, whatever the number of processes."""
        if self.accelerator.is_main_process:
            self.console.print(text, markup=False)

    def step(self, state: Any, lr: float, speed: float) -> None:
        """Show a finished batch."""
        loss = state.loss_sum / state.step_in_epoch
        if self.bar:
            numbers = f"epoch {state.epoch + 1}  loss {loss:.3f}  lr {lr:.1e}  {speed:.1f} images/s"
            self.bar.update(self.task, completed=state.step, numbers=numbers)
        if self.recipe["training"]["trackers"] and state.step % self.recipe["training"]["log_every"] == 0:
            values = {"train/loss": loss, "train/learning_rate": lr, "train/images_per_second": speed}
            self.accelerator.log(values, step=state.step)

    def epoch(self, row: dict[str, float], metric: str, state: Any) -> None:
        """Show a finished epoch."""
        parts = [f"epoch {row['epoch']}/{self.recipe['training']['epochs']}", f"loss {row['train_loss']:.4f}"]
        parts += [f"lr {row['learning_rate']:.2e}", f"{row['images_per_second']:.1f} images/s"]
        if f"validation_{metric}" in row:
            best = " (best)" if state.best_epoch == row["epoch"] else f" (best {state.best_score:.4f})"
            parts += [f"validation loss {row['validation_loss']:.4f}"]
            parts += [f"{metric} {row[f'validation_{metric}']:.4f}{best}"]
        self.say("  ".join(parts))
        if self.recipe["training"]["trackers"]:
            values = {k.replace("validation_", "validation/"): v for k, v in row.items() if k != "epoch"}
            self.accelerator.log(values, step=state.step)
