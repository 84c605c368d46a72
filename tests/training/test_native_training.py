"""A recipe for a network of transformers: from simulated images to a plain repository that every verb takes."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from built_recipes import build
from huggingface_hub import snapshot_download
from loopback_hub import LoopbackHub, loopback_hub  # noqa: F401  (a fixture)
from PIL import Image
from safetensors.torch import load_file
from starlette.testclient import TestClient
from training_runs import Run, main_here
from typer.testing import CliRunner

import hf_cells
from hf_cells.cli import app
from hf_cells.errors import CellsError
from hf_cells.hub.card import check_card
from hf_cells.serving.app import create_app
from hf_cells.serving.service import Service
from hf_cells.serving.settings import Settings
from hf_cells.training.recipe import load_recipe

SIZES = "hidden_sizes: [8, 8, 16, 16], depths: [1, 1, 1, 1]"
SEGFORMER = f"model.config={{{SIZES}, num_attention_heads: [1, 1, 2, 2], decoder_hidden_size: 8}}"
CONVNEXT = f"{{model_type: convnext, {SIZES}, out_features: [stage1, stage2, stage3, stage4]}}"
QUICK = [
    "augmentation.size=32",
    "training.epochs=2",
    "training.samples_per_epoch=16",
    "training.batch_size=4",
]
QUICK += ["training.threads=1", "training.workers=0", "training.trackers=[]", "training.validate_every=1"]
QUICK += ["training.precision=fp32", "training.memory_format=contiguous", "evaluation.n_resamples=20"]


@pytest.fixture(scope="module")
def run(nuclei, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segformer")
    arguments = [
        "--recipe",
        "dsb2018_segformer",
        "--data_dir",
        str(nuclei),
        "--output_dir",
        str(folder / "run"),
    ]
    text = Run(folder / "log", main_here, cache, *arguments, SEGFORMER, *QUICK).check()
    assert "everything is in" in text and "Traceback" not in text
    return folder / "run"


def cli(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="hf-cells")
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_model_folder_is_a_repository_of_transformers(run):
    model = run / "model"
    names = {path.name for path in model.iterdir()}
    assert {"README.md", "results.json", "recipe.yaml", "preprocessor_config.json"} <= names
    assert not [name for name in names if name.endswith(".py")] and "requirements.txt" not in names
    config = json.loads((model / "config.json").read_text())
    assert config["architectures"] == ["SegformerForSemanticSegmentation"] and "auto_map" not in config
    assert config["id2label"] == {"0": "background", "1": "nucleus"}
    assert config["loss_name"] == "cross_entropy+dice"
    stock = transformers.AutoModelForSemanticSegmentation.from_pretrained(model)
    best = load_file(run / "checkpoints" / "best.safetensors")
    assert stock.state_dict().keys() == best.keys()
    assert all(torch.equal(value, best[name]) for name, value in stock.state_dict().items())
    prepared = transformers.AutoImageProcessor.from_pretrained(model)
    assert not prepared.do_resize and 0 < prepared.image_mean[0] < 1  # `train` was measured


def test_the_card_needs_no_trust(run):
    text = (run / "model" / "README.md").read_text()
    assert "trust_remote_code" not in text and "`SegformerForSemanticSegmentation`" in text
    assert 'predict = pipeline("image-segmentation", model="your-name/your-model")' in text
    assert check_card(run / "model") == []
    assert "says what results.json says" in cli("card", run / "model", "--check")


def test_the_verbs_that_measure_and_predict(run, nuclei, tmp_path):
    arguments = ["--dataset", "dsb2018", "--data_dir", nuclei, "--output", tmp_path / "again.json"]
    assert "split as for the training: semantic" in cli("evaluate", run / "model", *arguments)
    again, first = (json.loads(path.read_text()) for path in (tmp_path / "again.json", run / "results.json"))
    assert again["metrics"]["dice_per_image"] == first["metrics"]["dice_per_image"]
    assert again["dataset"]["fingerprint"] == first["dataset"]["fingerprint"]
    image = next(nuclei.glob("stage1_train/*/images/*.png"))
    assert cli("predict", run / "model", image, "--output_dir", tmp_path / "out").startswith("1 images")
    (mask,) = (tmp_path / "out" / "labels").glob("*.png")
    stock = transformers.pipeline("image-segmentation", model=str(run / "model"), device="cpu")
    for segment in stock(str(image)):
        wanted = np.asarray(Image.open(mask)) == stock.model.config.label2id[segment["label"]]
        assert np.mean((np.asarray(segment["mask"]) > 0) != wanted) < 1e-3


def test_a_push_sends_no_code_and_comes_back(
    run,
    loopback_hub: LoopbackHub,  # noqa: F811
    monkeypatch,
    tmp_path,
):
    monkeypatch.setenv("HF_TOKEN", loopback_hub.token)
    cli("push", run / "model", "tester/plain", "--endpoint", loopback_hub.endpoint)
    sent = loopback_hub.files("tester/plain")
    assert "model.safetensors" in sent and not [name for name in sent if name.endswith((".py", ".txt"))]
    place = {"endpoint": loopback_hub.endpoint, "token": loopback_hub.token, "cache_dir": tmp_path}
    back = Path(snapshot_download("tester/plain", **place))
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    ours, theirs = (hf_cells.pipeline(folder, "cpu")(pixels) for folder in (run / "model", back))
    assert np.array_equal(ours["probabilities"], theirs["probabilities"])


def test_exports_and_what_cannot_be_one(run, tmp_path):
    program = tmp_path / "program"
    cli("export", run / "model", "--format", "torch_export", "--output_dir", program)
    assert check_card(program) == []
    refused = CliRunner().invoke(
        app,
        ["export", str(run / "model"), "--format", "timm_wrapper", "--output_dir", str(tmp_path / "timm")],
    )
    assert refused.exit_code == 1 and "the network is no timm backbone" in refused.stderr
    refused = CliRunner().invoke(app, ["space", str(run / "model"), "--output_dir", str(tmp_path / "space")])
    assert refused.exit_code == 1 and "a Space runs the code of a model" in refused.stderr


def test_the_server_answers(run):
    pipe = hf_cells.pipeline(run / "model", "cpu")
    image = next((run / "model" / "examples").glob("*.png")).read_bytes()
    with TestClient(create_app(Service(pipe, "lab/model", Settings()))) as client:
        entries = client.post("/", content=image).json()
        wrong = client.post("/?subtask=instance", content=image)
    assert {entry["label"] for entry in entries} <= {"background", "nucleus"} and entries
    assert wrong.status_code == 400 and "semantic segmentation only" in wrong.text


def test_a_trained_one_goes_on_with_other_classes(run):
    overrides = [f"model.init_from={run / 'model'}", "model.config.id2label={0: ground, 1: cell, 2: wall}"]
    overrides += ["processor.image_mean=", "processor.image_std="]
    model, _, _ = build(load_recipe("dsb2018_segformer", overrides))
    assert model.config.id2label == {0: "ground", 1: "cell", 2: "wall"} and model.config.hidden_sizes[0] == 8
    assert model.decode_head.classifier.out_channels == 3
    trained = load_file(run / "checkpoints" / "best.safetensors")
    encoder = [name for name in trained if name.startswith("segformer.")]
    assert encoder and all(torch.equal(model.state_dict()[name], trained[name]) for name in encoder)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.config.hiden_size=8", "model.config.hiden_size is unknown; choose from: hidden_size"),
        (
            "model.config.backbone_config={model_type: convnext, depth: [1]}",
            "backbone_config.depth is unknown",
        ),
        ("model.config.backbone_config={model_type: convnixt}", "model_type='convnixt' is no model of"),
        ("model.config.use_auxiliary_head=true", "the auxiliary head is not trained here"),
        ("processor.size={height: 64, width: 64}", "size=.* is nothing that a SegformerImageProcessor"),
        ("training.class_weights=[1]", "1 class_weights for 2 labels"),
        ("model.pretrained_backbone=true", "give a folder or a name on the Hub for the ready weights"),
        ("training.freeze=backbone", "training.freeze needs a classifier"),
    ],
)
def test_slips_of_the_pen_are_one_line(override, message):
    recipe = load_recipe("dsb2018_upernet", [f"model.config.backbone_config={CONVNEXT}", override])
    with pytest.raises(CellsError, match=message) as caught:
        build(recipe)
    assert "\n" not in str(caught.value)


def test_an_exported_upernet_pools_images_of_every_size(tmp_path):
    """ONNX has no pooling to 2, 3 and 6 stretches: written for the size of the example it would be wrong elsewhere."""
    overrides = [f"model.config.backbone_config={CONVNEXT}", "model.config.hidden_size=8"]
    model, processor, _ = build(load_recipe("dsb2018_upernet", overrides))
    torch.manual_seed(0)
    for parameter in model.parameters():  # a new head says nearly the same everywhere
        torch.nn.init.normal_(parameter, std=0.2)
    folder = hf_cells.save_model_repository(model.eval(), processor, tmp_path / "model")
    cli("export", folder, "--format", "onnx", "--output_dir", tmp_path / "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    for size in ((64, 320), (192, 160)):
        pixels = torch.randn(2, 3, *size)
        (found,) = session.run(["logits"], {"pixel_values": pixels.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, model(pixels).logits, atol=1e-5)
