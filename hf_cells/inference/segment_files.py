"""Segment folders of fields: label images, single cells, one table; what is done stays done."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache, partial
from glob import escape
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..data.simulated import hand_on_mark
from ..errors import CellsError
from ..files import atomic_write
from ..progress import track
from .cell_crops import CELL_COLUMNS, cell_rows, write_crops
from .nuclei_cells import segment_field
from .nuclei_cells_engines import load_engines
from .outputs import FILE_ERRORS, PredictionFailure, Summary, open_csv
from .segment_files_fields import COLOURS, FieldFiles, find_fields, read_field
from .segment_files_overlay import draw_field
from .writers import write_label_image, write_overlay

_FOLDERS = ("cells", "masks", "overlays", "fields")


@dataclass(frozen=True)
class Settings:
    """What decides the result; a field that was done with other settings is done again."""

    nuclei_model: str = "classical"
    cell_model: str = "classical"
    scale_factor: float | None = None


@dataclass
class SegmentationSummary(Summary):
    """What `segment_files` did; `summary.json` holds the same.

    `images` counts the fields that are done, `resumed` those among them that an earlier run had done; `empty` names
    the fields in which no cell was found.
    """

    cells: int = 0
    resumed: int = 0
    empty: list[str] = field(default_factory=list)

    def found(self) -> str:
        """Say in a few words what was found."""
        earlier = f" ({self.resumed} of them by an earlier run)" if self.resumed else ""
        return f"{self.images} fields{earlier}, {self.cells} cells"


def segment_files(
    input_dir: str | Path,
    output_dir: str | Path,
    train_csv: str | Path | None = None,
    *,
    settings: Settings | None = None,
    device: str | None = None,
    crops: bool = True,
    workers: int = 1,
) -> SegmentationSummary:
    """Segment every field of a folder.

    Writes `masks/<ID>_cell.png` and `masks/<ID>_nucleus.png` (16-bit labels; nucleus n lies in cell n),
    `cells/<ID>_cell_<n>_<colour>.png`, `overlays/<ID>.png`, `cells.csv` and `summary.json`. A field is done when its
    mark `fields/<ID>.json` is written; the next run takes up after the last of them. Of a field that fails, what an
    earlier run wrote is removed: nobody shall take its masks for those of this run.

    Args:
        input_dir: Holds `<ID>_{red,green,blue,yellow}.png` or `.tif`, itself or its subfolders.
        output_dir: Made where missing.
        train_csv: Its `ID` names the fields, its `Label` their labels; without it all fields are segmented.
        settings: Engines and scale.
        device: For models, such as "cuda".
        crops: Write the single cells.
        workers: Processes.

    Returns:
        The summary; fields that failed are in its `failures`, the others are done.

    Raises:
        CellsError: There is no field, the table is wrong or has a label that the atlas does not have, a model cannot
            be loaded, or the outputs cannot be written.
    """
    settings, output = settings or Settings(), Path(output_dir)
    table = Path(train_csv) if train_csv is not None else None
    fields = find_fields(Path(input_dir), table, [output / name for name in _FOLDERS], check_labels=True)
    for name in _FOLDERS:
        _make_folder(output / name)
    hand_on_mark(input_dir, output)  # cells of simulated fields are simulated
    if workers == 1:
        _engines(settings, device)  # a model that cannot be loaded is no failure of a single field
    started = time.perf_counter()
    summary = SegmentationSummary(output_dir=str(output))
    done = {one.field_id: mark for one in fields if (mark := _read_mark(output, one, settings, crops))}
    summary.resumed = len(done)
    todo = [one for one in fields if one.field_id not in done]
    work = partial(_segment_one, output=output, settings=settings, device=device, crops=crops)
    try:
        for one, result in track(_results(work, todo, workers), "segmenting", total=len(todo)):
            if isinstance(result, str):
                summary.failures.append(PredictionFailure(one.field_id, result))
            else:
                done[one.field_id] = result
    finally:  # also of an interrupted run: the table holds what is done
        ordered = [done[one.field_id] for one in fields if one.field_id in done]
        with open_csv(output / "cells.csv", CELL_COLUMNS) as writer:
            for mark in ordered:
                writer.writerows([row[column] for column in CELL_COLUMNS] for row in mark["rows"])
        summary.images, summary.cells = len(ordered), sum(len(mark["rows"]) for mark in ordered)
        summary.empty = [
            one.field_id for one in fields if one.field_id in done and not done[one.field_id]["rows"]
        ]
        summary.failures.sort(key=lambda failure: failure.path)
        summary.seconds = round(time.perf_counter() - started, 3)
        summary.write()
    return summary


def _results(work: Any, todo: list[FieldFiles], workers: int) -> Iterator[tuple[FieldFiles, Any]]:
    if workers <= 1 or len(todo) < 2:
        for one in todo:
            yield one, work(one)
        return
    # Spawned: a forked child inherits the locks of torch's threads.
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(work, one): one for one in todo}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _segment_one(
    one: FieldFiles, output: Path, settings: Settings, device: str | None, crops: bool
) -> dict[str, Any] | str:
    """Return the mark of the field, or why it failed."""
    try:
        channels = read_field(one)
        nuclei_engine, cell_engine = _engines(settings, device)
        labels = segment_field(
            channels["red"],
            channels["yellow"],
            channels["blue"],
            scale_factor=settings.scale_factor,
            nuclei_engine=nuclei_engine,
            cell_engine=cell_engine,
        )
        rows = cell_rows(one.field_id, labels.cells, one.label)
        _remove_outputs(output, one.field_id)
        write_label_image(output / "masks" / f"{one.field_id}_cell.png", labels.cells)
        write_label_image(output / "masks" / f"{one.field_id}_nucleus.png", labels.nuclei)
        write_overlay(output / "overlays" / f"{one.field_id}.png", draw_field(channels, labels))
        if crops:
            write_crops(output / "cells", rows, labels.cells, channels)
        mark = {**_mark_of(one, settings, crops), "rows": rows}
        with atomic_write(_mark_path(output, one)) as temporary:
            temporary.write_text(json.dumps(mark) + "\n", encoding="utf-8")
    except FILE_ERRORS as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        reason = reason if one.field_id in reason else f"{one.field_id}: {reason}"
        return reason + _remove_of_failed(output, one.field_id)
    return mark


@lru_cache(maxsize=1)
def _engines(settings: Settings, device: str | None) -> tuple[Any, Any]:
    return load_engines(settings.nuclei_model, settings.cell_model, device)


def _mark_path(output: Path, one: FieldFiles) -> Path:
    return output / "fields" / f"{one.field_id}.json"


def _mark_of(one: FieldFiles, settings: Settings, crops: bool) -> dict[str, Any]:
    return {"field": one.field_id, "settings": vars(settings), "crops": crops}


def _read_mark(output: Path, one: FieldFiles, settings: Settings, crops: bool) -> dict[str, Any] | None:
    """Return the mark of a field that is done with these settings, its rows with today's label."""
    try:
        mark = json.loads(_mark_path(output, one).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if any(mark.get(key) != value for key, value in _mark_of(one, settings, crops).items()):
        return None
    for row in mark["rows"]:
        row["Label"] = one.label
    return mark


def _remove_of_failed(output: Path, field_id: str) -> str:
    """Take away the outputs of a field that failed; return what to add to the reason, "" where there were none."""
    try:
        removed = _remove_outputs(output, field_id)
    except OSError as error:
        return f"; its outputs in {output} cannot be removed ({error.strerror}), remove them yourself"
    return f"; its masks, crops and overlay in {output} are removed" if removed else ""


def _remove_outputs(output: Path, field_id: str) -> bool:
    """Take away what was written of a field, the mark first; return whether there was any of it.

    An earlier segmentation may have had more cells, or enough of them for masks in TIFF.
    """
    names = [f"{field_id}_{what}{suffix}" for what in ("cell", "nucleus") for suffix in (".png", ".tif")]
    files = [output / "fields" / f"{field_id}.json", output / "overlays" / f"{field_id}.png"]
    files += [output / "masks" / name for name in names]
    # The glob alone would also take the crops of a field that is called <ID>_cell_<something>.
    crop = re.compile(rf"{re.escape(field_id)}_cell_\d+_({'|'.join(COLOURS)})\.png")
    crops = (output / "cells").glob(f"{escape(field_id)}_cell_*.png")
    files += [path for path in crops if crop.fullmatch(path.name)]
    found = [path for path in files if path.exists()]
    for path in found:
        path.unlink(missing_ok=True)
    return bool(found)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "try"):
            pass
        (folder / "try").unlink()
    except OSError as error:
        reason = error.strerror or error
        raise CellsError(f"cannot write into {folder}: {reason}; choose another output folder") from error
