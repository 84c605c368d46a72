"""Small splits with known scores, and pipelines that err in a known way."""

import io
from types import SimpleNamespace

import datasets
import numpy as np
from PIL import Image

CASES = {  # image_id: (group, modality, corners of 4 x 4 objects)
    "a": ("slide-1", "fluorescence", [(2, 2)]),
    "b": ("slide-1", "fluorescence", [(2, 2), (10, 10)]),
    "c": ("slide-2", "histology", [(2, 2), (2, 10), (10, 2)]),
}


def labels_of(corners):
    labels = np.zeros((16, 16), np.uint16)
    for number, (row, column) in enumerate(corners, 1):
        labels[row : row + 4, column : column + 4] = number
    return labels


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def make_split(rows, truth="instance_labels", drop=()):
    """Rows of (image_id, group, modality, image array, truth array) as a `datasets.Dataset`."""
    text, image = datasets.Value("string"), datasets.Image()
    features = datasets.Features(
        {"image_id": text, "group": text, "modality": text, "image": image, truth: image}
    )
    items = [
        {"image_id": name, "group": group, "modality": modality, "image": png(pixels), truth: png(target)}
        for name, group, modality, pixels, target in rows
    ]
    info = datasets.DatasetInfo(
        dataset_name="tiny", config_name="instance", license="cc0-1.0", features=features
    )
    split = datasets.Dataset.from_list(items, info=info)
    return split.remove_columns(list(drop))


def instance_split(drop=()):
    """Each image holds its labels times 1000 in 16 bits, so that a pipeline can read the truth back."""
    rows = [
        (name, group, modality, labels_of(corners) * 1000, labels_of(corners))
        for name, (group, modality, corners) in CASES.items()
    ]
    return make_split(rows, drop=drop)


class FakePipe:
    """Calls `predict(image)`; has the config that a model would have."""

    def __init__(self, output, predict, id2label=None, **config):
        self.output, self.predict, self.seen = output, predict, []
        self.model = SimpleNamespace(
            config=SimpleNamespace(id2label=id2label or {0: "background", 1: "nucleus"}, **config)
        )

    def __call__(self, image):
        self.seen.append(image)
        return {self.output: self.predict(image)}


def perfect(image):
    return (image // 1000).astype(np.int32)


def only_first_object_and_nothing_of_three(image):
    """a: 1 of 1 found; b: 1 of 2; c: 0 of 3."""
    labels = perfect(image)
    return np.where((labels == 1) & (labels.max() < 3), 1, 0).astype(np.int32)
