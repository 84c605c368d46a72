"""Training of classifiers: one label an image, or several."""

from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import Dataset

from ..data.image_augmentation import ImageAugmentation
from ..data.image_samples import ImageSamples, one_hot
from ..errors import CellsError
from ..metrics.classification import classification_metrics, multilabel_metrics
from ..models.decisions import decide
from .task import Rows, Task, finite, scored_in_parts

_BATCH = 64


class ClassificationTask(Task):
    """Labels of whole images."""

    model_type = "cell_classification"
    default_metric = "mean_class_accuracy"

    def check_truth(self, recipe: dict[str, Any], splits: datasets.DatasetDict) -> None:
        """Refuse a dataset without labels, or with one class only."""
        name, train = recipe["data"]["name"], splits["train"]
        if recipe["evaluation"]["test_time_augmentation"]:
            raise CellsError(
                "evaluation.test_time_augmentation is for segmentation; a classifier takes "
                "model.config.test_time_views=8"
            )
        if not {"label", "labels"} & set(train.column_names):
            raise CellsError(
                f"{self.model_type} learns from label, which {name} does not have; "
                "give class folders or a table of labels, or take a segmentation recipe"
            )
        if "label" in train.column_names:
            absent = sorted(set(class_names(splits)) - {class_names(splits)[i] for i in set(train["label"])})
            if len(class_names(splits)) - len(absent) < 2:
                raise CellsError(f"the training split of {name} has one class only; a classifier needs two")
            if absent:
                raise CellsError(
                    f"the training split of {name} has no image of {', '.join(absent)}; "
                    "choose another split_seed or fold, or leave the class out of the data"
                )

    def config(self, recipe: dict[str, Any], splits: datasets.DatasetDict) -> dict[str, Any]:
        """Names of the classes, whether an image has several, and their weights where the recipe wants them."""
        names, train = class_names(splits), splits["train"]
        several = "labels" in train.column_names
        kind = "multi_label_classification" if several else "single_label_classification"
        given: dict[str, Any] = {"id2label": dict(enumerate(names)), "problem_type": kind}
        if size := recipe["processor"].get("crop_size") or recipe["processor"].get("size"):
            given["image_size"] = [size["height"], size["width"]]
        wish = recipe["training"]["class_weights"]
        if wish == "balanced":
            labels = train["labels"] if several else [[label] for label in train["label"]]
            counts = Counter(label for row in labels for label in row)
            present = [counts[i] for i in range(len(names)) if counts[i]]
            mean = sum(present) / len(present)
            given["class_weights"] = [mean / counts[i] if counts[i] else 1.0 for i in range(len(names))]
        elif isinstance(wish, list):
            given["class_weights"] = [float(weight) for weight in wish]
        elif wish is not None:
            raise CellsError(f"training.class_weights={wish!r}: give balanced, a list of numbers, or nothing")
        return given

    def samples(self, recipe: dict[str, Any], rows: Rows, processor: Any) -> Dataset[dict[str, Tensor]]:
        """Return augmented batches."""
        augmentation = ImageAugmentation.from_dict(recipe["augmentation"])
        count = recipe["model"]["config"]["num_labels"]
        return ImageSamples(rows, processor, augmentation, num_labels=count, seed=recipe["seed"])

    def metric_names(self) -> list[str]:
        """Return what `validate` measures."""
        one, two = np.array([0, 1]), np.eye(2)
        single = classification_metrics(one, two, one, ["a", "b"])
        several = multilabel_metrics(two, two, two > 0, ["a", "b"])
        return ["loss", *dict.fromkeys([*finite(single), *finite(several)])]

    @torch.no_grad()
    def validate(self, model: Any, processor: Any, rows: Rows, accelerator: Accelerator) -> dict[str, float]:
        """Score images with the processor of prediction and plain decisions: thresholds are chosen later."""
        mine = list(scored_in_parts(rows, accelerator))
        found: list[tuple[int, float, np.ndarray, np.ndarray]] = []
        for start in range(0, len(mine), _BATCH):
            part = [rows[index] for index in mine[start : start + _BATCH]]
            truth = torch.from_numpy(np.stack([one_hot(row, model.config.num_labels) for row in part]))
            with accelerator.autocast():
                logits = _logits(model, processor, part, accelerator.device)
            losses = [_loss(model, logits[i : i + 1], truth[i : i + 1]) for i in range(len(part))]
            probabilities = model.probabilities(logits).cpu().numpy()
            found += zip(mine[start : start + _BATCH], losses, truth.numpy(), probabilities)
        everyone = sorted(gather_object(found), key=lambda item: item[0])
        truths, scores = (np.stack([item[place] for item in everyone]) for place in (2, 3))
        totals = measure(truths, scores, None, model.config)
        return {"loss": float(np.mean([item[1] for item in everyone])), **finite(totals)}

    def accuracy(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor | None:
        """Share of the batch whose (main) label is the best scored one."""
        labels = batch["labels"]
        if labels.ndim == 2:
            labels = labels.argmax(1)
        return (logits.detach().argmax(1) == labels).float().mean()

    def tune(self, setup: Any, model: Any) -> str | None:
        """Fit the temperature, fold it in, and choose thresholds by the rule that the recipe names."""
        from ..evaluation.calibration import fit_temperature
        from ..evaluation.decisions import choose_decision_thresholds

        wishes, config = setup.recipe["evaluation"], model.config
        device, said = setup.accelerator.device, []
        model.to(device)
        with torch.inference_mode():
            rows = setup.validation
            parts = [
                [rows[i] for i in range(s, min(s + _BATCH, len(rows)))] for s in range(0, len(rows), _BATCH)
            ]
            logits = torch.cat([_logits(model, setup.processor, part, device) for part in parts])
        model.to("cpu")
        logits = logits.cpu()
        truths = np.stack([one_hot(row, config.num_labels) for part in parts for row in part])
        labels = truths if config.multi_label else truths.argmax(1)
        if wishes["calibrate"]:
            temperature = fit_temperature(logits.numpy(), labels, multi_label=config.multi_label)
            model.fold_temperature(temperature)
            logits = logits / temperature
            said.append(f"temperature {temperature:.3f}")
        if wishes["decision"]:
            names = [config.id2label[i] for i in range(config.num_labels)]
            config.decision_thresholds = choose_decision_thresholds(
                model.probabilities(logits).numpy(),
                labels,
                names,
                rule=wishes["decision"],
                costs=wishes["costs"],
                recall=wishes["recall"],
                positive=wishes["positive"],
                multi_label=config.multi_label,
            )
            config.thresholds_chosen_on = "validation"
            said.append(f"thresholds {config.decision_thresholds}")
        return f"chosen on validation: {', '.join(said)}" if said else None

    def adopt(self, setup: Any, model: Any, chosen: Path) -> None:
        """Its temperature, folded in, and its thresholds."""
        theirs = type(model.config).from_pretrained(chosen)
        model.fold_temperature(theirs.calibration_temperature)
        model.config.decision_thresholds = theirs.decision_thresholds
        model.config.thresholds_chosen_on = theirs.thresholds_chosen_on

    def evaluate(
        self,
        setup: Any,
        pipe: Any,
        splits: datasets.DatasetDict,
        split: str,
        context: dict[str, Any],
        figures: Path,
    ) -> dict[str, Any]:
        """Measure the split, the copies of training images apart."""
        from .. import evaluation as ev

        audit = context["split"].pop("report")
        copies = [image for group in audit["duplicate_images"] for side, image in group if side == split]
        measured = ev.evaluate_classification(
            pipe,
            splits[split],
            split_name=split,
            n_resamples=setup.recipe["evaluation"]["n_resamples"],
            context=context,
            copies=copies,
        )
        ev.draw_classification_figures(measured, splits[split], figures, splits=splits)
        return measured.results


def class_names(splits: datasets.DatasetDict) -> list[str]:
    """Return the names of the classes, in the order of their ids."""
    features: Any = splits["train"].features
    return list(features["label"].names if "label" in features else features["labels"].feature.names)


def measure(
    truths: np.ndarray, probabilities: np.ndarray, thresholds: dict[str, float] | None, config: Any
) -> dict[str, Any]:
    """Return the metrics of `(N, K)` truths and probabilities under the decision rule of the model."""
    names = [config.id2label[i] for i in range(config.num_labels)]
    chosen = decide(probabilities, thresholds, config.id2label, config.multi_label)
    if config.multi_label:
        return multilabel_metrics(truths, probabilities, chosen, names)
    return classification_metrics(truths.argmax(1), probabilities, chosen, names)


def _logits(model: Any, processor: Any, rows: list[dict[str, Any]], device: torch.device) -> Tensor:
    """Return `(N, K)`; images of several sizes go one by one, as padding would change what the model sees of them."""
    pixels = [processor(row["image"])["pixel_values"] for row in rows]
    batches = [torch.cat(pixels)] if len({item.shape for item in pixels}) == 1 else pixels
    return torch.cat([model(batch.to(device)).logits.float() for batch in batches])


def _loss(model: Any, logits: Tensor, truth: Tensor) -> float:
    from ..models.classification_losses import classification_loss

    config = model.config
    return float(classification_loss(logits.cpu(), truth, config.loss_name, **config.loss_settings()))
