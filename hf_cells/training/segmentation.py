"""Training of segmentation models: label maps and objects."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import Dataset

from ..data.augmentation import Augmentation
from ..data.registry import builder_class, dataset_names
from ..data.samples import ImageRows, SegmentationSamples, training_targets, truth_of
from ..errors import CellsError
from ..metrics import aggregate_instances, aggregate_semantic, score_instances, score_semantic
from ..models.instance_decoding import DECODING_DEFAULTS, decode_instances
from ..progress import track
from ..simulate import simulate_nuclei
from .statistics import frequency_weights
from .task import Rows, Task, finite, scored_in_parts

SEMANTIC = ("cell_unet_semantic", "segformer", "upernet")
FREQUENCY_POWERS = {"frequency": 1.0, "root_frequency": 0.5}

# First the default, as `choose_thresholds` wants it.
CANDIDATES = {
    "merge_depth": (0.2, 0.1, 0.15, 0.3),
    "foreground": (0.5, 0.4, 0.45, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
    "boundary_weight": (0.5, 0.0, 1.0),
    "min_score": (0.0, 0.6, 0.7, 0.8, 0.85, 0.9),
    "min_size": (12.0, 6.0, 20.0, 30.0),
}


class SegmentationTask(Task):
    """What instance and semantic segmentation share."""

    instances: bool
    truth: str

    def check_truth(self, recipe: dict[str, Any], splits: datasets.DatasetDict) -> None:
        """Refuse a dataset without masks."""
        if self.truth not in splits["train"].column_names:
            raise CellsError(
                f"{self.model_type} learns from {self.truth}, which {recipe['data']['name']} does not have with "
                f"data.config={recipe['data']['config']}; set data.config={self.splits_need}"
            )

    def samples(self, recipe: dict[str, Any], rows: Rows, processor: Any) -> Dataset[dict[str, Tensor]]:
        """Return augmented crops."""
        augmentation = Augmentation.from_dict(recipe["augmentation"])
        return SegmentationSamples(
            rows, processor, augmentation, instances=self.instances, seed=recipe["seed"]
        )

    def extra_rows(self, recipe: dict[str, Any]) -> list[dict[str, Any]]:
        """Return nuclei from the procedural microscope."""
        rows = []
        for index in track(range(recipe["data"]["simulated_extra"]), "simulating nuclei for the training"):
            made = simulate_nuclei(recipe["seed"] + 1_000_003, index)
            labels = made.instance_labels
            truth = {self.truth: labels if self.instances else (labels > 0).astype(np.uint8)}
            rows.append({"image": made.image, "modality": f"simulated {made.look}", **truth})
        return rows

    @torch.no_grad()
    def validate(self, model: Any, processor: Any, rows: Rows, accelerator: Accelerator) -> dict[str, float]:
        """Score whole images, through the same processor and decoding as in prediction."""
        scored = [
            (index, *self._score(model, processor, rows[index], accelerator))
            for index in scored_in_parts(rows, accelerator)
        ]
        everyone = sorted(gather_object(scored), key=lambda item: item[0])
        totals = self.aggregate([statistic for _, _, statistic in everyone])
        return {"loss": float(np.mean([loss for _, loss, _ in everyone])), **finite(totals)}

    def _score(
        self, model: Any, processor: Any, row: dict[str, Any], accelerator: Accelerator
    ) -> tuple[float, dict[str, Any]]:
        truth = truth_of(row)
        pixel_values = processor(row["image"])["pixel_values"].to(accelerator.device)
        seen = truth  # what the loss sees: at the size that the processor gives the image
        if tuple(pixel_values.shape[-2:]) != truth.shape:
            resized = F.interpolate(torch.from_numpy(truth)[None, None].double(), pixel_values.shape[-2:])
            seen = resized[0, 0].numpy().astype(np.int32)
        targets = {
            k: v[None].to(accelerator.device) for k, v in training_targets(seen, self.instances).items()
        }
        with accelerator.autocast():
            output = model(pixel_values=pixel_values, **targets)
        return float(output.loss), self.score(truth, output, processor)

    @abstractmethod
    def score(self, truth: np.ndarray, output: Any, processor: Any) -> dict[str, Any]:
        """Return the statistics of one image."""

    @abstractmethod
    def aggregate(self, statistics: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the metrics of all images."""

    def evaluate(
        self,
        setup: Any,
        pipe: Any,
        splits: datasets.DatasetDict,
        split: str,
        context: dict[str, Any],
        figures: Path,
    ) -> dict[str, Any]:
        """Measure every image of the split."""
        from .. import evaluation as ev

        context["split"].pop("report")
        resamples = setup.recipe["evaluation"]["n_resamples"]
        measured = ev.evaluate_segmentation(
            pipe, splits[split], split_name=split, n_resamples=resamples, context=context
        )
        ev.draw_figures(measured, pipe, splits[split], figures)
        return measured.results


class InstanceTask(SegmentationTask):
    """Objects, touching ones separated."""

    model_type = "cell_unet_instance"
    default_metric = "dsb_score"
    splits_need = "instance"
    instances = True
    truth = "instance_labels"

    def config(self, recipe: dict[str, Any], splits: datasets.DatasetDict) -> dict[str, Any]:
        """One class of objects."""
        if recipe["training"]["class_weights"] is not None or recipe["evaluation"]["merge_classes"]:
            raise CellsError(
                "training.class_weights and evaluation.merge_classes are for models of several classes; "
                "leave them out"
            )
        return {"id2label": {0: "nucleus"}}

    def metric_names(self) -> list[str]:
        """Return what `validate` measures."""
        empty = np.zeros((2, 2), np.int32)
        return ["loss", *aggregate_instances([score_instances(empty, empty)])]

    def score(self, truth: np.ndarray, output: Any, processor: Any) -> dict[str, Any]:
        """Decode and match."""
        found = processor.post_process_instance_segmentation(output, target_sizes=[truth.shape])[0]
        return score_instances(truth, found["segmentation"].numpy())

    def aggregate(self, statistics: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the metrics of all images."""
        return aggregate_instances(statistics)

    def tune(self, setup: Any, model: Any) -> str | None:
        """Coordinate search over `CANDIDATES` on the validation split, with the maps computed once."""
        from .. import evaluation as ev

        maps, truths = [], []
        device, processor = setup.accelerator.device, setup.processor
        model = model.to(device)
        with torch.inference_mode():
            rows = [setup.validation[i] for i in range(len(setup.validation))]
            for row in track(rows, "choosing thresholds"):
                pixel_values = processor(row["image"])["pixel_values"].to(device)
                truths.append(truth_of(row))
                logits = model(pixel_values).logits[0].float().cpu()
                maps.append(processor.to_original_size(logits, truths[-1].shape).numpy())
        model.to("cpu")

        def score(settings: dict[str, float]) -> float:
            found = [decode_instances(item, settings)[0] for item in maps]
            return aggregate_instances([score_instances(t, f) for t, f in zip(truths, found)])["dsb_score"]

        assert CANDIDATES.keys() <= DECODING_DEFAULTS.keys()
        chosen, best = ev.choose_thresholds(CANDIDATES, score)
        processor.decision_thresholds |= chosen
        processor.thresholds_chosen_on = "validation"
        return f"decoding chosen on validation ({best:.4f}): {chosen}"

    def adopt(self, setup: Any, model: Any, chosen: Path) -> None:
        """Its decoding."""
        theirs = type(setup.processor).from_pretrained(chosen)
        setup.processor.decision_thresholds = theirs.decision_thresholds
        setup.processor.thresholds_chosen_on = theirs.thresholds_chosen_on


class SemanticTask(SegmentationTask):
    """A class for every pixel, by our U-Nets or by networks of transformers.

    Args:
        model_type: One of `SEMANTIC`.
    """

    default_metric = "dice_per_image"
    splits_need = "semantic"
    instances = False
    truth = "semantic_mask"

    def __init__(self, model_type: str = SEMANTIC[0]):
        self.model_type = model_type

    def config(self, recipe: dict[str, Any], splits: datasets.DatasetDict) -> dict[str, Any]:
        """Classes and colours of the dataset, the groups to score, and the weights where the recipe wants them."""
        own = recipe["model"]["config"].get("id2label")
        names, colours = _classes_of(recipe["data"]["name"])
        names = [own[key] for key in sorted(own, key=int)] if own else names
        given: dict[str, Any] = {"id2label": dict(enumerate(names))}
        if colours:
            given["class_colors"] = {name: colours[name] for name in names if name in colours}
        if groups := recipe["evaluation"]["merge_classes"]:
            given["class_groups"] = groups
        wish = recipe["training"]["class_weights"]
        if isinstance(wish, str) and wish in FREQUENCY_POWERS:
            rows, power = ImageRows(splits["train"]), FREQUENCY_POWERS[wish]
            given["class_weights"] = frequency_weights(rows, len(names), recipe["seed"], power)
        elif isinstance(wish, list):
            given["class_weights"] = [float(weight) for weight in wish]
        elif wish is not None:
            raise CellsError(
                f"training.class_weights={wish!r}: give {' or '.join(FREQUENCY_POWERS)}, a list of numbers, or nothing"
            )
        return given

    def metric_names(self) -> list[str]:
        """Return what `validate` measures."""
        empty = np.zeros((2, 2), np.int32)
        return ["loss", *finite(aggregate_semantic([score_semantic(empty, empty, 2)]))]

    def score(self, truth: np.ndarray, output: Any, processor: Any) -> dict[str, Any]:
        """Count the pixels of each pair of classes."""
        found = processor.post_process_semantic_segmentation(output, target_sizes=[truth.shape])[0]
        return score_semantic(truth, found.cpu().numpy(), output.logits.shape[1])

    def aggregate(self, statistics: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the metrics of all images."""
        return aggregate_semantic(statistics)

    def tune(self, setup: Any, model: Any) -> str | None:
        """The largest logit wins: nothing to choose."""
        return None

    def adopt(self, setup: Any, model: Any, chosen: Path) -> None:
        """Nothing was chosen."""


def _classes_of(dataset: str) -> tuple[list[str], dict[str, Any]]:
    """Names of the classes from 0 and their colours; of a folder, which names none, nuclei and what is none."""
    if dataset not in dataset_names():
        return ["background", "nucleus"], {}
    builder: Any = builder_class(dataset)
    return list(builder.class_names), dict(builder.class_colors)
