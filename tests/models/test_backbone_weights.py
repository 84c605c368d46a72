"""Ready weights: from a local file or folder, for any number of channels, and what is said where they cannot be had."""

import huggingface_hub.constants
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tester import randomized
from safetensors.torch import save_file

from hf_cells.models import CellClassificationConfig, CellForImageClassification, inflate

TINY = "test_resnet"


def config(**changes) -> CellClassificationConfig:
    return CellClassificationConfig(**{"backbone": TINY, "pooling": None, **changes})


def build(pretrained, **changes) -> CellForImageClassification:
    return CellForImageClassification.from_backbone(config(**changes), pretrained=pretrained).eval()


@pytest.fixture(scope="module")
def ready() -> torch.nn.Module:
    """The library's model, with its classifier, and weights that nothing else makes."""
    return randomized(timm.create_model(TINY, pretrained=False))


@pytest.fixture
def folder(ready, tmp_path):
    save_file(ready.state_dict(), tmp_path / f"{TINY}.safetensors")
    return tmp_path


def response(model: torch.nn.Module, grey: torch.Tensor, channels: int) -> torch.Tensor:
    with torch.no_grad():
        return model.backbone(grey.expand(-1, channels, -1, -1))


def test_a_file_and_a_folder_give_the_same_weights(ready, folder):
    for pretrained in (folder, str(folder), folder / f"{TINY}.safetensors"):
        model = build(pretrained)
        for name, value in model.backbone.state_dict().items():
            assert torch.equal(value, ready.state_dict()[name]), name
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = ready.forward_head(ready.forward_features(x), pre_logits=True)
        torch.testing.assert_close(model.features(x), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_grey_images_look_the_same_whatever_the_channels(ready, folder, channels):
    grey = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = ready.forward_head(ready.forward_features(grey.expand(-1, 3, -1, -1)), pre_logits=True)
    model = build(folder, num_channels=channels)
    torch.testing.assert_close(response(model, grey, channels), expected, atol=1e-4, rtol=1e-4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 99))
def test_inflation_keeps_the_sum_over_the_channels(channels, old, seed):
    weight = torch.randn(4, old, 3, 3, generator=torch.Generator().manual_seed(seed))
    made = inflate(weight, channels)
    assert made.shape == (4, channels, 3, 3)
    torch.testing.assert_close(made.sum(1), weight.sum(1), atol=1e-5, rtol=1e-5)
    if channels == old:
        assert torch.equal(made, weight)
    if channels > old:  # the first ones still differ among themselves as they did; the further ones are alike
        torch.testing.assert_close(made[:, :old].diff(dim=1), weight.diff(dim=1), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(made[:, old:].diff(dim=1), torch.zeros(4, channels - old - 1, 3, 3))


def test_files_of_other_libraries_and_of_this_one(ready, folder, tmp_path):
    """Transformers' timm wrapper puts a prefix before each name, a model of this package another."""
    x = torch.randn(1, 3, 32, 32)
    expected = build(folder).features(x)
    wrapped, own = tmp_path / "wrapped", tmp_path / "own"
    wrapped.mkdir()
    state = {f"timm_model.{name}": value.clone() for name, value in ready.state_dict().items()}
    save_file(state, wrapped / "model.safetensors")
    build(folder).save_pretrained(own)
    for source in (wrapped, own, own / "model.safetensors"):
        torch.testing.assert_close(build(source).features(x), expected)


def test_alexnet_from_a_local_file(tmp_path):
    from torchvision.models import alexnet

    torch.manual_seed(0)
    state = alexnet(weights=None).features.state_dict(prefix="features.")
    save_file(state, tmp_path / "a.safetensors")
    model = build(tmp_path, backbone="alexnet", num_channels=1)
    loaded = model.backbone.state_dict()
    assert torch.equal(loaded["features.10.weight"], state["features.10.weight"])
    torch.testing.assert_close(
        loaded["features.0.weight"], state["features.0.weight"].sum(1, keepdim=True), atol=1e-6, rtol=1e-5
    )


def test_weights_that_cannot_be_had_are_explained(ready, folder, tmp_path, monkeypatch):
    hint = f"go online once, or give a .safetensors file of {TINY}"
    with pytest.raises(ValueError, match=rf"no weights for backbone '{TINY}': there is no .*none; {hint}"):
        build(tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=f"holds no {TINY}.safetensors or model.safetensors"):
        build(empty)
    for name in ("a", "b"):
        (empty / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=f"holds no {TINY}.safetensors or model.safetensors"):
        build(empty)
    with pytest.raises(ValueError, match="no weights for backbone"):
        build(empty / "a.safetensors")
    torch.save(ready.state_dict(), empty / "pickled.pth")
    with pytest.raises(ValueError, match=r"there is no \.safetensors file at .*pickled\.pth"):
        build(empty / "pickled.pth")
    with pytest.raises(ValueError, match="set backbone"):
        CellForImageClassification.from_backbone(CellClassificationConfig())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=f"no weights for backbone '{TINY}'.*{hint}") as caught:
        build(True, backbone_kwargs={"cache_dir": str(tmp_path / "cache")})
    assert "\n" not in str(caught.value)


def test_alexnet_without_a_network_is_explained(tmp_path, monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="no weights for backbone 'alexnet': Network is unreachable; go"):
        build(True, backbone="alexnet")


def test_weights_of_another_model_are_refused(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    save_file(timm.create_model("test_vit").state_dict(), other / "model.safetensors")
    with pytest.raises(ValueError, match=f"other: lacks [0-9]+ weights of '{TINY}', the first is conv1"):
        build(other)
    state = timm.create_model(TINY).state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(2, 2, 3, 3)
    save_file(state, other / "model.safetensors")
    with pytest.raises(ValueError, match=f"holds the weights of another model than '{TINY}'"):
        build(other)
