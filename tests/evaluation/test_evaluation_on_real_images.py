"""The whole road on real nuclei: Otsu and watershed as the model, results.json and figures at the end."""

import io
import zipfile
from collections import defaultdict

import numpy as np
from PIL import Image
from scipy import ndimage
from segmentation_cases import FakePipe, make_split
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

from hf_cells.evaluation import figures
from hf_cells.evaluation.examples import select_examples
from hf_cells.evaluation.results import read_results, write_results
from hf_cells.evaluation.scoring import precision_by_threshold
from hf_cells.evaluation.segmentation import evaluate_segmentation


def read_nuclei(path, count):
    """The first `count` images of a Data Science Bowl archive, with their masks as one label image."""
    with zipfile.ZipFile(path) as archive:

        def load(name):
            return np.asarray(Image.open(io.BytesIO(archive.read(name))))

        files = defaultdict(lambda: {"images": [], "masks": []})
        for name in archive.namelist():
            if name.endswith(".png"):
                _, image_id, kind, _ = name.split("/")
                files[image_id][kind].append(name)
        for number, parts in enumerate(list(files.values())[:count]):
            image = load(parts["images"][0])
            labels = np.zeros(image.shape[:2], np.uint16)
            for label, name in enumerate(parts["masks"], 1):
                mask = load(name)
                labels[(mask if mask.ndim == 2 else mask[..., 0]) > 0] = label
            modality = "dark" if np.median(image[..., :3]) < 100 else "bright"
            yield str(number), f"{image.shape[:2]}", modality, image, labels


def otsu(image):
    grey = image[..., :3].mean(axis=-1)
    grey = 255 - grey if np.median(grey) > 100 else grey
    distance = gaussian(ndimage.distance_transform_edt(grey > threshold_otsu(grey)), 2)
    seeds = np.zeros(grey.shape, np.int32)
    for number, (row, column) in enumerate(peak_local_max(distance, min_distance=6, threshold_abs=1), 1):
        seeds[row, column] = number
    return watershed(-distance, seeds, mask=grey > threshold_otsu(grey))


def test_otsu_on_real_nuclei(real_data, tmp_path):
    split = make_split(read_nuclei(real_data("dsb2018_stage1_train.zip"), 12))
    pipe = FakePipe("instance_labels", otsu)
    evaluation = evaluate_segmentation(pipe, split, split_name="stage1", n_resamples=200)

    write_results(tmp_path / "results.json", evaluation.results)
    results = read_results(tmp_path / "results.json")
    score = results["metrics"]["dsb_score"]
    assert 0.2 < score["value"] < 0.8  # 0.45 over the whole set
    assert score["ci"][0] < score["value"] < score["ci"][1]
    assert results["strata"]["dark"]["dsb_score"]["value"] > results["strata"]["bright"]["dsb_score"]["value"]

    figures.plot_segmentation_examples(select_examples(evaluation, pipe, split), tmp_path / "examples.png")
    figures.plot_score_by_stratum(results, tmp_path / "strata.png")
    figures.plot_threshold_curve(precision_by_threshold(evaluation.statistics), tmp_path / "thresholds.png")
    for name in ("examples", "strata", "thresholds"):
        picture = np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"))
        assert picture.shape[1] == 1350
        assert picture.std() > 5
