"""Drawn source images: discs on glass, in the layouts of the databases."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

GLASS = (230, 225, 200)
RED = (190, 140, 140)
WHITE = (120, 70, 150)
VIOLET = (140, 120, 190)


def discs(
    size: tuple[int, int], things: list[tuple[float, float, float, tuple[int, int, int]]]
) -> np.ndarray:
    """(H, W, 3) uint8 with discs (x, y, radius, colour) on slightly noisy glass."""
    image = np.empty((*size, 3), np.float32)
    image[:] = GLASS
    y, x = np.mgrid[: size[0], : size[1]]
    for cx, cy, radius, colour in things:
        image[np.hypot(x - cx, y - cy) <= radius] = colour
    noise = np.random.default_rng(0).normal(0, 1, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def write_masks(folder: Path, classes: list[str], red_cell: float = 15.0) -> Path:
    """`Dataset 1/NNN.bmp`, `NNN.png` and a CSV; white cells of radius 30 among red cells."""
    place = folder / "Dataset 1"
    place.mkdir(parents=True)
    for number in range(1, len(classes) + 1):
        corners = [(20, 20), (130, 20), (20, 130), (130, 130)]
        image = discs((150, 150), [(75, 75, 30, WHITE), *((x, y, red_cell, RED) for x, y in corners)])
        Image.fromarray(image).save(place / f"{number:03d}.bmp")
        y, x = np.mgrid[:150, :150]
        mask = np.where(np.hypot(x - 75, y - 75) <= 30, 128, 0).astype(np.uint8)
        mask[60:80, 60:80] = 255
        Image.fromarray(mask).save(place / f"{number:03d}.png")
    rows = "".join(f"{number},{name}\n" for number, name in enumerate(classes, start=1))
    (folder / "Class Labels of Dataset 1.csv").write_text("image ID,class\n" + rows)
    return folder


def write_boxes(folder: Path, images: int = 3, pack: str = "json") -> Path:
    """Smears of 320x240 with eight red cells of radius 18, one infected, and two platelets of radius 6."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(images):
        red = [(40 + 60 * (i % 5), 50 + 60 * (i // 5), 18, RED) for i in range(9)]
        platelets = [(290, 170, 6, VIOLET), (40, 200, 6, VIOLET)]
        Image.fromarray(discs((240, 320), red + platelets)).save(folder / f"images/smear{number}.png")
        kinds = ["ring"] + ["red blood cell"] * 8 + ["Platelets"] * 2
        objects = []
        for kind, (x, y, radius, _) in zip(kinds, red + platelets, strict=True):
            side = radius + 2
            objects.append(
                {"type": kind, "bbox": {"x": x - side, "y": y - side, "w": 2 * side, "h": 2 * side}}
            )
        objects.append({"type": "difficult", "bbox": {"x": 1, "y": 1, "w": 9, "h": 9}})
        rows.append({"image_name": f"smear{number}.png", "objects": objects})
    if pack == "json":
        (folder / "annotations.json").write_text(json.dumps(rows))
        return folder
    for row in rows:
        things = ""
        for thing in row["objects"]:
            x, y, w, h = (int(thing["bbox"][key]) for key in "xywh")
            corners = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
            things += f"<object><name>{thing['type']}</name><bndbox>{corners}</bndbox></object>"
        text = f"<annotation><filename>{row['image_name']}</filename>{things}</annotation>"
        (folder / f"{Path(row['image_name']).stem}.xml").write_text(text)
    return folder
