"""Small labelled splits, and pipelines that return known probabilities."""

from types import SimpleNamespace

import datasets
import numpy as np
from PIL import Image
from segmentation_cases import png

from hf_cells.evaluation.classification import evaluate_classification

NAMES = ["ant", "bee", "cat"]
# Truth ant ant bee cat; by argmax ant bee bee ant, so image 1 and image 3 are wrong.
LABELS = [0, 0, 1, 2]
TABLE = [[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1], [0.5, 0.1, 0.4]]
THRESHOLDS = {"ant": 0.6, "bee": 0.9, "cat": 0.3}


def labelled_split(labels, groups=None, images=None, names=NAMES, **columns):
    """Image i holds the number i in its pixels, so that a pipeline knows which one it sees.

    Args:
        labels: One class id an image, or a list of them.
        groups: One an image; without the column by default.
        images: Arrays in place of the numbered ones.
        names: Class names of the dataset.
        **columns: Further text columns.
    """
    several = any(isinstance(label, list) for label in labels)
    text, label = datasets.Value("string"), datasets.ClassLabel(names=list(names))
    features = {"image_id": text, "image": datasets.Image(), **dict.fromkeys(columns, text)}
    features["labels" if several else "label"] = datasets.List(label) if several else label
    rows = []
    for index, value in enumerate(labels):
        pixels = np.full((4, 4), index, np.uint16) if images is None else images[index]
        row = {"image_id": f"image-{index}", "image": png(pixels), "labels" if several else "label": value}
        rows.append(row | {name: values[index] for name, values in columns.items()})
        if groups:
            rows[-1]["group"] = groups[index]
    if groups:
        features["group"] = text
    info = datasets.DatasetInfo(
        dataset_name="insects",
        config_name="case_split",
        license="cc0-1.0",
        features=datasets.Features(features),
    )
    return datasets.Dataset.from_list(rows, info=info)


class FakeClassifier:
    """Gives image number i row i of `probabilities`; has the configuration that a model would have."""

    def __init__(
        self, probabilities, names=NAMES, multi_label=False, look=lambda image: int(image.flat[0]), **config
    ):
        self.table = np.asarray(probabilities, np.float32)
        self.look, self.batches = look, []
        self.image_processor = SimpleNamespace(channel_names=None)
        kind = "multi_label_classification" if multi_label else "single_label_classification"
        self.model = SimpleNamespace(
            config=SimpleNamespace(id2label=dict(enumerate(names)), problem_type=kind, **config)
        )

    def probabilities(self, images, batch_size=32):
        images = list(images)
        self.batches.append(len(images))
        return np.stack([self.table[self.look(image)] for image in images])


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def drawn(count, prior, separation=2.0, seed=0):
    """Labels and Bayes-optimal logits of a Gaussian class each: perfectly calibrated probabilities."""
    rng = np.random.default_rng(seed)
    prior = np.asarray(prior) / np.sum(prior)
    labels = rng.choice(len(prior), count, p=prior)
    seen = rng.normal(size=(count, len(prior))) + separation * np.eye(len(prior))[labels]
    return labels, separation * seen + np.log(prior)


def measure(table=TABLE, labels=LABELS, split=None, **arguments):
    pipe = FakeClassifier(table, **arguments)
    split = labelled_split(labels) if split is None else split
    return evaluate_classification(pipe, split, split_name="test", n_resamples=2)


def texts(axis):
    return [text.get_text() for text in axis.texts]


def picture(path):
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.shape[1] == 1350
    assert pixels.std() > 5
    return pixels
