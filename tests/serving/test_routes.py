"""What the routes answer: the Hub's form, our own, and to every bad request its status and one line."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from served_images import Serving, png

from hf_cells import models


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def opened(mask: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(mask))))


# --- answers ------------------------------------------------------------------------------------------------


def test_a_classifier_answers_bytes_and_json_alike(classifier: Any, cell: bytes, serving: Serving) -> None:
    expected = [{"label": e["label"], "score": pytest.approx(e["score"], abs=1e-6)} for e in classifier(cell)]
    with serving(classifier) as client:
        raw = client.post("/", content=cell, headers={"Content-Type": "image/png", "Accept": "image/png"})
        assert raw.status_code == 200 and raw.json() == expected
        assert client.post("/", content=cell).json() == expected  # no type at all
        form = {"Content-Type": "application/x-www-form-urlencoded"}  # what curl --data-binary says
        assert client.post("/?top_k=2", content=cell, headers=form).json() == expected[:2]
        message = {"inputs": b64(cell), "parameters": {"top_k": 1, "function_to_apply": None}}
        assert client.post("/", json=message).json() == expected[:1]
        assert client.post("/", json={"inputs": "data:image/png;base64," + b64(cell)}).json() == expected
        assert client.post("/pipeline/image-classification", content=cell).json() == expected


def test_function_to_apply(classifier: Any, cell: bytes, serving: Serving) -> None:
    logits = classifier.forward(classifier.preprocess(cell))["logits"][0].numpy().astype(np.float64)
    with serving(classifier) as client:
        for function, scores in (
            ("none", logits),
            ("sigmoid", 1 / (1 + np.exp(-logits))),
            ("softmax", np.exp(logits) / np.exp(logits).sum()),
        ):
            message = {"inputs": b64(cell), "parameters": {"function_to_apply": function}}
            found = {e["label"]: e["score"] for e in client.post("/", json=message).json()}
            assert [found[name] for name in "abc"] == pytest.approx(scores, abs=1e-6)


def test_the_full_answer_of_a_classifier_has_the_decision(
    classifier: Any, cell: bytes, serving: Serving
) -> None:
    with serving(classifier) as client:
        found = client.post("/predict", content=cell).json()
    assert found["predicted"] == ["b"] != [found["scores"][0]["label"]]  # by the threshold, not by the score
    assert [e["label"] for e in found["scores"]] == [e["label"] for e in classifier(cell)]
    assert found["image"] == {"height": 30, "width": 20, "channels": 1, "dtype": "uint16"}
    assert found["decision_thresholds"]["b"] == 1e-6


def test_instances_in_the_hubs_form_and_in_ours(nuclei: Any, field: np.ndarray, serving: Serving) -> None:
    expected = nuclei(field)
    count = len(expected["scores"])
    assert count > 3
    with serving(nuclei) as client:
        entries = client.post("/", content=png(field)).json()
        assert [e["score"] for e in entries] == pytest.approx(expected["scores"].tolist(), abs=1e-4)
        assert {e["label"] for e in entries} == {"nucleus"}
        for number, entry in enumerate(entries, start=1):
            mask = opened(entry["mask"])
            assert mask.dtype == np.uint8 and mask.shape == field.shape[:2]
            assert np.array_equal(mask == 255, expected["instance_labels"] == number) and set(
                np.unique(mask)
            ) == {0, 255}
        full = client.post("/predict", content=png(field)).json()
        cut = float(np.median(expected["scores"]))
        some = client.post(f"/?threshold={cut}&subtask=instance", content=png(field)).json()
        strict = {
            "inputs": b64(png(field)),
            "parameters": {"mask_threshold": 0.9, "overlap_mask_area_threshold": 0.1},
        }
        smaller = client.post("/predict", json=strict).json()
    labels = opened(full["label_image"])
    assert labels.dtype == np.uint16 and np.array_equal(labels, expected["instance_labels"])
    assert full["count"] == count and full["counts"] == {"nucleus": count}
    assert [o["area"] for o in full["objects"]] == np.bincount(labels.ravel())[1:].tolist()
    assert len(some) == sum(score >= cut for score in expected["scores"])
    again = nuclei(field, decision_thresholds={"foreground": 0.9})["instance_labels"]
    assert np.array_equal(opened(smaller["label_image"]), again) and (again > 0).sum() < (labels > 0).sum()


def test_classes_in_the_hubs_form_and_in_ours(semantic: Any, serving: Serving) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8)
    expected = semantic(image)
    with serving(semantic) as client:
        entries = client.post("/", content=png(image)).json()
        full = client.post("/predict", content=png(image)).json()
        sure = client.post("/?mask_threshold=0.55", content=png(image)).json()
        assert client.post("/?subtask=semantic", content=png(image)).json() == entries
    present = np.unique(expected["semantic_mask"]).tolist()
    assert [e["label"] for e in entries] == [["background", "cell"][i] for i in present]
    for i, entry in zip(present, entries):
        assert entry["score"] is None
        assert np.array_equal(opened(entry["mask"]) > 0, expected["semantic_mask"] == i)
    assert np.array_equal(opened(full["label_image"]), expected["semantic_mask"])
    assert sum(c["pixels"] for c in full["classes"]) == image.size
    kept = sum((opened(e["mask"]) > 0).sum() for e in sure)
    assert kept == (expected["probabilities"].max(0) >= 0.55).sum() < image.size


@pytest.mark.parametrize("kind", ["rgb_png", "tiff", "channels_tiff", "jpeg"])
def test_files_of_other_kinds(classifier: Any, serving: Serving, kind: str) -> None:
    draw = np.random.default_rng(2)
    stream = io.BytesIO()
    if kind == "rgb_png":
        Image.fromarray(draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(stream, "PNG")
    elif kind == "tiff":
        tifffile.imwrite(stream, draw.integers(0, 65_536, (20, 20), dtype=np.uint16))
    elif kind == "channels_tiff":  # the model has one channel: luma of three pages
        tifffile.imwrite(
            stream, draw.integers(0, 65_536, (3, 20, 20), dtype=np.uint16), photometric="minisblack"
        )
    else:
        Image.fromarray(draw.integers(0, 256, (20, 20), dtype=np.uint8)).save(stream, "JPEG")
    with serving(classifier) as client:
        found = client.post("/", content=stream.getvalue()).json()
    expected = {e["label"]: e["score"] for e in classifier(stream.getvalue())}
    assert {e["label"]: e["score"] for e in found} == pytest.approx(expected, abs=1e-6)


def test_pages_about_the_server(classifier: Any, nuclei: Any, cell: bytes, serving: Serving) -> None:
    with serving(classifier, max_pixels=5000) as client:
        client.post("/", content=cell)
        client.post("/", content=b"no image")
        assert client.get("/health").json() == {"status": "ok"}
        info = client.get("/info").json()
        assert info["labels"] == ["a", "b", "c"] and info["pipeline_tag"] == "image-classification"
        assert info["limits"]["max_pixels"] == 5000 and "torch" in info["versions"]
        metrics = client.get("/metrics").text.splitlines()
        assert 'hf_cells_requests_total{status="200"} 1' in metrics
        assert 'hf_cells_requests_total{status="422"} 1' in metrics and "hf_cells_images_total 1" in metrics
        assert client.get("/", follow_redirects=False).headers["location"] == "docs"
        page = client.get("/docs").text
        assert "lab/model" in page and "POST /predict" in page and "function_to_apply" in page
        assert 'src="' not in page and "<link" not in page  # nothing is fetched from elsewhere
        schema = client.get("/openapi.json").json()
        post = schema["paths"]["/"]["post"]
        assert {"200", "413", "422", "503", "504"} <= set(post["responses"])
        fields = post["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert set(fields["parameters"]["properties"]) == {"top_k", "function_to_apply"}
    with serving(nuclei) as client:
        example = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]
        assert example["content"]["application/json"]["example"]["counts"] == {"nucleus": 1}


# --- refusals -----------------------------------------------------------------------------------------------


def refusal(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    line = answer.json()["error"]
    assert line and "\n" not in line
    return line


def test_bodies_that_are_no_image(classifier: Any, cell: bytes, serving: Serving) -> None:
    with serving(classifier) as client:
        assert "empty" in refusal(client.post("/", content=b""), 422)
        assert "is not an image" in refusal(client.post("/", content=b"what is this?"), 422)
        assert "is not an image" in refusal(client.post("/", json={"inputs": b64(b"text")}), 422)
        assert "truncated" in refusal(client.post("/predict", content=cell[: len(cell) // 2]), 422)
        assert "no base64" in refusal(client.post("/", json={"inputs": "http://127.0.0.1/x.png"}), 422)
        assert "is a list" in refusal(client.post("/", json={"inputs": [b64(cell)]}), 422)
        assert "inputs" in refusal(client.post("/", json={"image": b64(cell)}), 422)
        assert "unknown field 'extra'" in refusal(client.post("/", json={"inputs": "aa==", "extra": 1}), 422)
        broken = client.post("/", content=b'{"inputs": ', headers={"Content-Type": "application/json"})
        assert "no JSON" in refusal(broken, 400)
        deep = b"[" * 200_000
        assert "no JSON" in refusal(
            client.post("/", content=deep, headers={"Content-Type": "application/json"}), 400
        )
        assert "--data-binary" in refusal(client.post("/", files={"file": cell}), 415)


def test_images_that_are_too_much(classifier: Any, serving: Serving) -> None:
    bomb = png(np.zeros((6000, 5000), np.uint8))
    stack = io.BytesIO()
    tifffile.imwrite(stack, np.zeros((40, 30, 30), np.uint16), photometric="minisblack")
    with serving(classifier) as client:
        assert len(bomb) < 100_000
        assert "over the limit of 25,000,000 pixels" in refusal(client.post("/", content=bomb), 422)
        line = refusal(client.post("/", content=stack.getvalue()), 422)
        assert "40 pages" in line and "one page per file" in line
        frames = io.BytesIO()
        Image.new("L", (8, 8)).save(frames, "GIF", save_all=True, append_images=[Image.new("L", (8, 8), 99)])
        assert "2 frames" in refusal(client.post("/", content=frames.getvalue()), 422)


def test_channels_that_the_model_does_not_take(nuclei: Any, serving: Serving) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((5, 20, 20), np.uint16), photometric="minisblack")
    with serving(nuclei) as client:
        assert "5 channels, the model takes 3" in refusal(client.post("/", content=stream.getvalue()), 422)


@pytest.mark.parametrize(
    ("parameters", "status", "message"),
    [
        ({"speed": 3}, 422, "unknown parameter 'speed'; image-classification knows top_k, function_to_apply"),
        ({"top_k": 0}, 422, "whole number from 1 on"),
        ({"top_k": 1.5}, 422, "whole number from 1 on"),
        ({"top_k": True}, 422, "whole number from 1 on"),
        ({"top_k": "many"}, 422, "whole number from 1 on"),
        ({"top_k": 1e400}, 422, "whole number"),
        ({"function_to_apply": "relu"}, 422, "one of sigmoid, softmax, none"),
        ({"threshold": 0.5}, 400, "threshold is a parameter of image-segmentation"),
        ([1], 422, "not an object"),
    ],
)
def test_parameters_of_a_classifier(
    classifier: Any, cell: bytes, serving: Serving, parameters: Any, status: int, message: str
) -> None:
    with serving(classifier) as client:
        body = json.dumps({"inputs": b64(cell), "parameters": parameters})
        answer = client.post("/", content=body, headers={"Content-Type": "application/json"})
    assert message in refusal(answer, status)


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("threshold=2", 422, "from 0 to 1"),
        ("threshold=nan", 422, "from 0 to 1"),
        ("subtask=semantic", 400, "this model does instance segmentation only"),
        ("subtask=dancing", 422, "one of instance, panoptic, semantic"),
        ("top_k=3", 400, "top_k is a parameter of image-classification"),
        ("speed=3", 422, "knows threshold, mask_threshold, overlap_mask_area_threshold, subtask"),
    ],
)
def test_parameters_of_a_segmentation_model(
    nuclei: Any, field: np.ndarray, serving: Serving, query: str, status: int, message: str
) -> None:
    with serving(nuclei) as client:
        assert message in refusal(client.post(f"/?{query}", content=png(field)), status)


def test_routes_that_are_not_there(classifier: Any, cell: bytes, serving: Serving) -> None:
    with serving(classifier) as client:
        assert "this model does image-classification, not image-segmentation" in refusal(
            client.post("/pipeline/image-segmentation", content=cell), 400
        )
        assert "see /docs" in refusal(client.post("/nowhere", content=cell), 404)
        assert "see /docs" in refusal(client.get("/predict"), 405)


def test_an_error_of_the_network_is_500_and_the_server_goes_on(
    classifier: Any, cell: bytes, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(classifier) as client:
        forward = client.service.batcher.forward

        def fails(x: Any) -> Any:
            raise RuntimeError("secret detail")

        monkeypatch.setattr(client.service.batcher, "forward", fails)
        line = refusal(client.post("/", content=cell), 500)
        assert "RuntimeError" in line and "secret" not in line
        monkeypatch.setattr(client.service.batcher, "forward", forward)
        assert client.post("/", content=cell).status_code == 200


def test_a_processor_may_be_stricter_than_the_server(cell: bytes, serving: Serving) -> None:
    config = models.CellClassificationConfig(hidden_sizes=(4,), num_channels=1)
    processor = models.CellClassificationImageProcessor(num_channels=1, max_pixels=599)
    pipe = models.CellClassificationPipeline(
        models.CellForImageClassification(config).eval(),
        image_processor=processor,
        task="cell-classification",
    )
    with serving(pipe) as client:
        assert "limit of 599 pixels" in refusal(client.post("/", content=cell), 422)
