"""Folders of images through a real segmentation (threshold and label), with every output read back."""

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

from hf_cells.errors import CellsError
from hf_cells.inference.objects import grey
from hf_cells.inference.predict import iter_image_paths, predict_files
from hf_cells.inference.rle import decode_labels, read_rle_csv
from hf_cells.models.image_reading import read_image


class OtsuPipeline:
    """Speaks the contract of the `cell-segmentation` pipeline; segments by Otsu's threshold."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        names = {0: "nucleus"} if kind == "instance" else {0: "background", 1: "nucleus"}
        self.model = SimpleNamespace(config=SimpleNamespace(id2label=names, model_type=f"cell_unet_{kind}"))

    def __call__(self, image: Any) -> dict[str, np.ndarray]:
        smooth = gaussian_filter(grey(read_image(image)), 1)
        threshold = threshold_otsu(smooth)
        foreground = smooth > threshold
        if self.kind == "semantic":
            probability = (1 / (1 + np.exp(-(smooth - threshold) / (smooth.std() + 1e-6)))).astype(np.float32)
            return {
                "semantic_mask": foreground.astype(np.uint8),
                "probabilities": np.stack([1 - probability, probability]),
            }
        labels = label(foreground).astype(np.int32)
        count = int(labels.max())
        return {
            "instance_labels": labels,
            "scores": np.linspace(1, 0.5, count, dtype=np.float32),
            "label_ids": np.zeros(count, np.int64),
        }


def nuclei(seed: int, shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Round spots on a noisy background, 16 bits."""
    rng = np.random.default_rng(seed)
    spots = np.zeros(shape)
    spots[rng.integers(8, shape[0] - 8, 9), rng.integers(8, shape[1] - 8, 9)] = 1
    field = gaussian_filter(spots, 4)
    return (field / field.max() * 50_000 + rng.normal(2000, 100, shape)).clip(0, 65535).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every kind of image that the writers meet, two of them with the same stem."""
    images = tmp_path / "images"
    (images / "well2").mkdir(parents=True)
    tifffile.imwrite(images / "field1.tif", nuclei(1))
    Image.fromarray(nuclei(2)).save(images / "field2.png")
    Image.fromarray((nuclei(3) >> 8).astype(np.uint8)).save(images / "field10.png")
    rgb = np.stack([nuclei(4) >> 8] * 3, axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(images / "well2" / "field1.jpg")
    return images


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_instances(folder, tmp_path):
    output, pipe = tmp_path / "out", OtsuPipeline("instance")
    summary = predict_files(pipe, folder, output, rle=True)
    names = ["field1", "field2", "field10", "well2/field1"]
    assert [entry["image"] for entry in summary.predictions] == names
    assert summary.images == 4
    assert summary.failures == []
    assert sorted(p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()) == sorted(
        ["objects.csv", "rle.csv", "summary.json"]
        + [f"{kind}/{name}.png" for kind in ("labels", "overlays") for name in names]
    )
    rows, encoded = rows_of(output / "objects.csv"), read_rle_csv(output / "rle.csv")
    assert list(encoded) == names
    assert len(rows) == summary.objects > 12
    for entry in summary.predictions:
        image = read_image(entry["source"])
        expected = pipe(image)
        with Image.open(output / entry["labels"]) as written:
            labels = np.asarray(written)
        np.testing.assert_array_equal(labels, expected["instance_labels"])
        np.testing.assert_array_equal(decode_labels(encoded[entry["image"]], labels.shape), labels)
        assert read_image(output / entry["overlay"]).shape == (96 * 4, 128 * 4, 3)
        own = [row for row in rows if row["image"] == entry["image"]]
        regions = regionprops(labels, grey(image))
        assert len(own) == len(regions) == entry["objects"]
        for row, region in zip(own, regions):
            assert row["label"] == "nucleus"
            assert int(row["object_id"]) == region.label
            assert int(row["area"]) == region.area
            assert float(row["score"]) == pytest.approx(expected["scores"][region.label - 1], rel=1e-5)
            assert float(row["mean_intensity"]) == pytest.approx(region.intensity_mean, rel=1e-5)
            assert float(row["solidity"]) == pytest.approx(region.solidity, rel=1e-5)
            box = tuple(int(row[name]) for name in ("min_row", "min_col", "max_row", "max_col"))
            assert box == region.bbox
    written = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    assert written["images"] == 4
    assert written["objects"] == summary.objects
    assert written["predictions"] == summary.predictions


def test_semantic(folder, tmp_path):
    output, pipe = tmp_path / "out", OtsuPipeline("semantic")
    summary = predict_files(pipe, [folder / "field2.png"], output, rle=True, overlays=False)
    assert not (output / "overlays").exists()
    entry = summary.predictions[0]
    assert "overlay" not in entry
    expected = pipe(folder / "field2.png")
    mask = expected["semantic_mask"]
    with Image.open(output / "labels" / "field2.png") as written:
        assert written.mode == "L"
        np.testing.assert_array_equal(np.asarray(written), mask)
    assert entry["class_fractions"]["nucleus"] == pytest.approx(mask.mean(), rel=1e-5)
    assert sum(entry["class_fractions"].values()) == pytest.approx(1, abs=1e-5)
    regions = label(mask, connectivity=1)
    rows = rows_of(output / "objects.csv")
    assert len(rows) == regions.max() == entry["objects"]
    for row in rows:
        inside = regions == int(row["object_id"])
        assert row["label"] == "nucleus"
        assert float(row["score"]) == pytest.approx(expected["probabilities"][1][inside].mean(), rel=1e-5)
    np.testing.assert_array_equal(
        decode_labels(read_rle_csv(output / "rle.csv")["field2"], mask.shape), regions
    )


@pytest.mark.parametrize("kind", ["instance", "semantic"])
def test_an_image_without_objects(kind, tmp_path):
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "black.png")
    pipe = OtsuPipeline(kind)
    summary = predict_files(pipe, tmp_path / "black.png", tmp_path / "out", rle=True)
    assert (summary.images, summary.objects) == (1, 0)
    assert rows_of(tmp_path / "out" / "objects.csv") == []
    assert read_rle_csv(tmp_path / "out" / "rle.csv") == {"black": []}
    assert read_image(tmp_path / "out" / "labels" / "black.png").max() == 0


def test_broken_files_are_named_counted_and_skipped(folder, tmp_path):
    (folder / "broken.png").write_bytes((folder / "field2.png").read_bytes()[:300])
    (folder / "empty.tif").touch()
    output = tmp_path / "out"
    summary = predict_files(OtsuPipeline("instance"), folder, output)
    assert summary.images == 4
    assert [failure.path for failure in summary.failures] == [
        str(folder / "broken.png"),
        str(folder / "empty.tif"),
    ]
    text = str(summary)
    assert "4 images" in text
    assert "2 files failed" in text
    assert f"{folder / 'broken.png'}: is corrupt or truncated" in text
    assert f"{folder / 'empty.tif'}: is empty" in text
    written = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    assert [failure["path"] for failure in written["failures"]] == [
        failure.path for failure in summary.failures
    ]
    assert "files failed" not in str(predict_files(OtsuPipeline("instance"), folder / "field2.png", output))


def test_a_model_that_refuses_an_image_is_a_failure_of_that_file(folder, tmp_path):
    class Refusing(OtsuPipeline):
        def __call__(self, image: Any) -> dict[str, np.ndarray]:
            if image.ndim == 3:
                raise ValueError("the image has 3 channels,\nthe model takes 1")
            return super().__call__(image)

    summary = predict_files(Refusing("instance"), folder, tmp_path / "out")
    assert summary.images == 3
    assert [failure.reason for failure in summary.failures] == [
        f"{folder / 'well2' / 'field1.jpg'}: the image has 3 channels, the model takes 1"
    ]


def test_on_error_raise_stops_and_leaves_no_half_table(folder, tmp_path):
    (folder / "field3.png").write_bytes(b"nothing")
    with pytest.raises(CellsError, match=r"field3\.png: is not an image"):
        predict_files(OtsuPipeline("instance"), folder, tmp_path / "out", on_error="raise")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"labels", "overlays"}
    with pytest.raises(ValueError, match="on_error"):
        predict_files(OtsuPipeline("instance"), folder, tmp_path / "out", on_error="ignore")  # type: ignore[arg-type]


def test_a_second_run_into_the_folder_of_the_images_leaves_its_results_out(folder):
    pipe = OtsuPipeline("instance")
    first = predict_files(pipe, folder, folder)
    second = predict_files(pipe, folder, folder, table=False, progress=False)
    assert [entry["image"] for entry in second.predictions] == [entry["image"] for entry in first.predictions]
    assert second.objects == first.objects
    with pytest.raises(CellsError, match="choose another output folder"):
        predict_files(pipe, folder / "labels", folder)


def test_an_output_folder_that_cannot_be_made(folder, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(CellsError, match="cannot write"):
        predict_files(OtsuPipeline("instance"), folder, tmp_path / "out")


def test_nothing_to_predict(tmp_path):
    with pytest.raises(CellsError, match="no such file"):
        predict_files(OtsuPipeline("instance"), tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_real_images(real_data: Callable[[str], Path], tmp_path):
    """Three fields of the 2018 Data Science Bowl: RGBA PNG, nuclei bright on dark, counted within a third."""
    true_counts, images = {}, tmp_path / "images"
    images.mkdir()
    with zipfile.ZipFile(real_data("dsb2018_stage1_train.zip")) as archive:
        names = archive.namelist()
        fields = sorted(name for name in names if "/images/" in name and name.endswith(".png"))
        for name in fields:
            content = archive.read(name)
            image = read_image(content)
            masks = [
                other
                for other in names
                if other.startswith(name.split("images/")[0] + "masks/") and other[-4:] == ".png"
            ]
            if image.shape != (256, 256, 4) or image[..., :3].mean() > 50 or not 15 <= len(masks) <= 40:
                continue
            stem = Path(name).stem
            (images / f"{stem}.png").write_bytes(content)
            true_counts[stem] = len(masks)
            if len(true_counts) == 3:
                break
    summary = predict_files(OtsuPipeline("instance"), iter_image_paths(images), tmp_path / "out", rle=True)
    assert (summary.images, summary.failures) == (3, [])
    for entry in summary.predictions:
        assert entry["objects"] == pytest.approx(true_counts[entry["image"]], rel=0.34)
        assert read_image(tmp_path / "out" / entry["overlay"]).shape == (768, 768, 3)
    assert set(read_rle_csv(tmp_path / "out" / "rle.csv")) == set(true_counts)


def test_the_pixel_limit_is_that_of_the_models_processor(tmp_path: Path) -> None:
    Image.fromarray(nuclei(1)).save(tmp_path / "field.png")
    pipe = OtsuPipeline("instance")
    for limit, failed in ((96 * 128, 0), (96 * 128 - 1, 1)):
        pipe.image_processor = SimpleNamespace(max_pixels=limit)
        summary = predict_files(pipe, tmp_path / "field.png", tmp_path / "out")
        assert len(summary.failures) == failed
    assert "or raise max_pixels in the model's preprocessor_config.json" in summary.failures[0].reason
