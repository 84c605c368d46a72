"""Field in, labels of every cell out: segmentation, a model of single cells, one of whole fields or none, fusion."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import CellsError
from ..models.image_reading import read_image
from ..progress import track
from .cell_crops import CELL_COLUMNS, cell_rows
from .hpa_fusion import CELL_WEIGHT, decide_cells, fuse_scores, scores_of_field
from .hpa_submission import FieldPrediction, field_prediction, write_submission
from .nuclei_cells import segment_field
from .nuclei_cells_engines import CLASSICAL, load_engines
from .outputs import FILE_ERRORS, Summary, open_csv
from .segment_files_fields import COLOURS, FieldFiles, find_fields, read_field


@dataclass(frozen=True)
class FieldCells:
    """The labelled cells of a field.

    Attributes:
        cells: (H, W) int32, 0 background, cell n is row n - 1 of the following.
        cell_scores: (n, K) probabilities of the cell model.
        image_scores: (K,) probabilities of the image model, or None without one.
        scores: (n, K) the cell's and its field's in one, to rank cells by, see `hpa_fusion`.
        labels: (n, K) bool: which labels a cell gets, see `decide_cells`.
    """

    cells: np.ndarray
    cell_scores: np.ndarray
    image_scores: np.ndarray | None
    scores: np.ndarray
    labels: np.ndarray


def cut_cells(channels: Mapping[str, np.ndarray], cells: np.ndarray) -> dict[int, dict[str, np.ndarray]]:
    """Cut out the cells as `hf-cells segment` writes them: the box of each, 0 outside the cell.

    Args:
        channels: (H, W) by colour.
        cells: (H, W) labels.

    Returns:
        Crops by colour, by number of the cell.
    """
    planes = {colour: _storable(np.asarray(channels[colour])) for colour in COLOURS}
    crops = {}
    for number, box in enumerate(ndimage.find_objects(cells), start=1):
        if box is not None:
            inside = cells[box] == number
            crops[number] = {colour: plane[box] * inside for colour, plane in planes.items()}
    return crops


class FieldClassifier:
    """Label the single cells of fields.

    Args:
        cell_model: Classifier of single cells (recipe `hpa_cells_128`): folder, Hub name or pipeline.
        image_model: Classifier of fields (recipe `hpa_fields`) with the same labels; without one the surest
            cells of a field speak for it.
        weight: Of a cell against its field, see `fuse_scores`; 1 leaves the field out.
        nuclei_model: "classical", or an instance model that finds nuclei.
        segmentation_model: "classical", or an instance model that finds whole cells.
        scale_factor: Scale of the segmentation, see `segment_field`.
        device: Where models run.

    Raises:
        CellsError: A model cannot be loaded, or is none for several labels a cell, or the labels differ.
    """

    def __init__(
        self,
        cell_model: Any,
        image_model: Any = None,
        *,
        weight: float = CELL_WEIGHT,
        nuclei_model: Any = CLASSICAL,
        segmentation_model: Any = CLASSICAL,
        scale_factor: float | None = None,
        device: str | None = None,
    ):
        if not 0 <= weight <= 1:
            raise CellsError(f"the weight of the cells is {weight}; give 0 to 1")
        self.cell_pipe = _classifier(cell_model, device)
        self.image_pipe = _classifier(image_model, device) if image_model is not None else None
        if self.image_pipe and _names(self.image_pipe) != _names(self.cell_pipe):
            raise CellsError(
                f"{image_model}: has other labels than {cell_model}; train both on the same labels"
            )
        self.weight, self.scale_factor = weight, scale_factor
        self.engines = load_engines(nuclei_model, segmentation_model, device)

    @property
    def label_names(self) -> list[str]:
        """Names of the K labels, in the order of the scores."""
        return _names(self.cell_pipe)

    def __call__(self, channels: Mapping[str, np.ndarray], cells: np.ndarray | None = None) -> FieldCells:
        """Label the cells of a field.

        Args:
            channels: (H, W) of each of red, green, blue and yellow.
            cells: (H, W) labels of its cells where they are known; segmented otherwise.

        Raises:
            ValueError: The channels are of several sizes, or a model takes others.
        """
        if cells is None:
            cells = segment_field(
                channels["red"],
                channels["yellow"],
                channels["blue"],
                scale_factor=self.scale_factor,
                nuclei_engine=self.engines[0],
                cell_engine=self.engines[1],
            ).cells
        crops = cut_cells(channels, cells)
        cell_scores = np.full((max(crops, default=0), len(self.label_names)), np.nan)
        if crops:
            cell_scores[np.array(list(crops)) - 1] = self.cell_pipe.probabilities(crops.values())
        image_scores = image_thresholds = None
        if self.image_pipe is not None:
            planes = {colour: np.asarray(channels[colour]) for colour in COLOURS}
            image_scores = self.image_pipe.probabilities([planes])[0].astype(np.float64)
            image_thresholds = _thresholds(self.image_pipe)
        scores = fuse_scores(cell_scores, scores_of_field(cell_scores, image_scores), self.weight)
        labels = decide_cells(
            cell_scores, image_scores, _thresholds(self.cell_pipe), image_thresholds, self.weight
        )
        return FieldCells(cells, cell_scores, image_scores, scores, labels)


@dataclass
class FieldsSummary(Summary):
    """What `predict_fields` did; `summary.json` holds the same.

    `images` counts fields; `empty` names those without a cell, whose prediction is empty.
    """

    cells: int = 0
    empty: list[str] = field(default_factory=list)

    def found(self) -> str:
        """Say in a few words what was found."""
        return f"{self.images} fields, {self.cells} cells"


def predict_fields(
    classifier: FieldClassifier,
    paths: Sequence[str | Path],
    output_dir: str | Path,
    *,
    masks_dir: str | Path | None = None,
) -> FieldsSummary:
    """Label the cells of fields; write `submission.csv`, `cells.csv` and `summary.json`.

    `cells.csv` has the columns of `hf-cells segment`, `Label` being what the cell shows, and `probability_<label>`,
    the fused score.

    Args:
        classifier: The models.
        paths: Folders with `<ID>_<colour>.png`, with all below them, or tables with a column `ID` beside or above
            the images.
        output_dir: Made where missing.
        masks_dir: Holds `<ID>_cell.png`, as `hf-cells segment` writes them, which then takes the place of segmentation.

    Returns:
        The summary; fields that failed are in its `failures`, the others are done.

    Raises:
        CellsError: There is no field, or the outputs cannot be written.
    """
    output = Path(output_dir)
    fields = _find_all(paths)
    summary = FieldsSummary(output_dir=str(output))
    started = time.perf_counter()
    columns = [*CELL_COLUMNS, *(f"probability_{name}" for name in classifier.label_names)]

    def predicted() -> Iterator[FieldPrediction]:
        for one in track(fields, "labelling cells"):
            try:
                channels = read_field(one)
                cells = None if masks_dir is None else _read_cells(Path(masks_dir), one.field_id, channels)
                found = classifier(channels, cells)
            except FILE_ERRORS as error:
                summary.failed(Path(one.field_id), error, "skip")
                continue
            rows = cell_rows(one.field_id, found.cells, "")
            for row in rows:
                index = row["cell_number"] - 1
                row["Label"] = "|".join(map(str, np.flatnonzero(found.labels[index])))
                scores = [f"{score:.6g}" for score in found.scores[index]]
                table.writerow([*(row[column] for column in CELL_COLUMNS), *scores])
            summary.images, summary.cells = summary.images + 1, summary.cells + len(rows)
            summary.empty += [] if rows else [one.field_id]
            yield field_prediction(one.field_id, found.cells, found.scores)

    with open_csv(output / "cells.csv", columns) as table:
        write_submission(output / "submission.csv", predicted())
    summary.seconds = round(time.perf_counter() - started, 3)
    summary.write()
    return summary


def _find_all(paths: Sequence[str | Path]) -> list[FieldFiles]:
    found: dict[str, FieldFiles] = {}
    for path in map(Path, paths):
        of_table = path.suffix.lower() == ".csv"
        for one in find_fields(path.parent, path) if of_table else find_fields(path, None):
            if found.setdefault(one.field_id, one) is not one:
                raise CellsError(f"{path}: the field {one.field_id} is there twice; give every field once")
    return list(found.values())


def _read_cells(folder: Path, field_id: str, channels: Mapping[str, np.ndarray]) -> np.ndarray:
    path = folder / f"{field_id}_cell.png"
    cells = read_image(path).astype(np.int32)
    if cells.shape != channels["red"].shape:
        raise CellsError(
            f"{path}: has the shape {cells.shape}, its field {channels['red'].shape}; segment it anew"
        )
    return cells


def _classifier(model: Any, device: str | None) -> Any:
    if not callable(model):
        from ..models.loading import pipeline

        model = pipeline(str(model), device)
    config = model.model.config
    if not getattr(config, "multi_label", False):
        raise CellsError(
            f"{config.name_or_path or config.model_type}: gives a cell one label or none; train one with the recipe "
            "hpa_cells_128 or hpa_fields"
        )
    return model


def _names(pipe: Any) -> list[str]:
    names = pipe.model.config.id2label
    return [str(names[index]) for index in range(len(names))]


def _thresholds(pipe: Any) -> np.ndarray:
    known = pipe.model.config.decision_thresholds or {}
    return np.array([known.get(name, 0.5) for name in _names(pipe)])


def _storable(plane: np.ndarray) -> np.ndarray:
    """As the crops on disk are, from which the model has learned: numbers that are not whole become 16 bits."""
    if plane.dtype.kind != "f":
        return plane
    return np.rint(np.clip(plane / max(float(plane.max(initial=0)), 1e-12), 0, 1) * 65_535).astype(np.uint16)
