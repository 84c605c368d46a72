"""timm encoders: every kind of family keeps its weights and its tables through a save and a load."""

import huggingface_hub.constants
import pytest
import timm
import torch
from model_tester import randomized
from safetensors.torch import save_file

from hf_cells.models import CellUNetForInstanceSegmentation, CellUNetInstanceConfig

# Families that differ in what a load can lose: plain convolutions, channels-last features with tables of relative
# positions (Swin), rotary tables (EVA02, DINOv3). The kwargs only make them small.
FAMILIES = {
    "resnet18": ((8, 8, 8, 8, 8), {}),
    "convnext_atto": ((8, 8, 8, 8), {"depths": (1, 1, 1, 1)}),
    "efficientnet_b0": ((8, 8, 8), {"out_indices": (0, 1, 2)}),
    "mobilenetv3_small_050": ((8, 8, 8, 8, 8), {}),
    "swin_tiny_patch4_window7_224": ((8, 8, 8, 8), {"depths": (2, 2, 2, 2), "embed_dim": 24, "img_size": 64}),
    "mambaout_femto": ((8, 8, 8, 8), {"depths": (1, 1, 1, 1)}),
    "vit_small_patch16_dinov3": (
        (8, 8),
        {"depth": 2, "embed_dim": 64, "num_heads": 2, "out_indices": (0, 1)},
    ),
    "eva02_tiny_patch14_224": ((8, 8), {"depth": 2, "out_indices": (0, 1)}),
}


def _config(name: str, **changes) -> CellUNetInstanceConfig:
    sizes, kwargs = FAMILIES[name]
    settings = {"backbone": name, "hidden_sizes": sizes, "backbone_kwargs": kwargs, **changes}
    return CellUNetInstanceConfig(**settings)


@pytest.mark.parametrize("name", FAMILIES)
def test_reloads_exactly_and_takes_any_size(name, tmp_path):
    model = randomized(CellUNetForInstanceSegmentation(_config(name)))
    model.save_pretrained(tmp_path)
    again = CellUNetForInstanceSegmentation.from_pretrained(tmp_path)
    for size in ((64, 64), (50, 75)):
        x = torch.randn(1, 3, *size)
        with torch.inference_mode():
            expected, got = model(x).logits, again(x).logits
        assert expected.shape == (1, 3, *size)
        assert torch.equal(expected, got)
        assert torch.isfinite(got).all()


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224", "vit_small_patch16_dinov3"])
def test_trains_in_four_channels(name):
    model = CellUNetForInstanceSegmentation(_config(name, num_channels=4, decoder_type="attention"))
    model(torch.randn(2, 4, 64, 64), instance_labels=torch.ones(2, 64, 64, dtype=torch.int64)).loss.backward()
    first = next(model.unet.encoder.parameters())
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()


def test_features_of_channels_last_families_are_turned():
    encoder = CellUNetForInstanceSegmentation(_config("swin_tiny_patch4_window7_224")).unet.encoder
    shapes = [tuple(f.shape[1:]) for f in encoder(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(24, 16, 24), (48, 8, 12), (96, 4, 6), (192, 2, 3)]


def test_weights_from_a_local_file(tmp_path):
    weights = timm.create_model("resnet18", pretrained=False).state_dict()
    torch.manual_seed(1)
    weights = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in weights.items()}
    save_file(weights, tmp_path / "resnet18.safetensors")
    model = CellUNetForInstanceSegmentation.from_backbone(
        _config("resnet18"), pretrained=tmp_path / "resnet18.safetensors"
    )
    loaded = model.unet.encoder.backbone.state_dict()
    for name in ("conv1.weight", "layer4.1.conv2.weight", "layer2.0.bn1.running_var"):
        assert torch.equal(loaded[name], weights[name]), name


def test_weights_that_cannot_be_had_are_explained(tmp_path, monkeypatch):
    build = CellUNetForInstanceSegmentation.from_backbone
    with pytest.raises(ValueError, match=r"no weight file at .*none\.safetensors"):
        build(_config("resnet18"), pretrained=tmp_path / "none.safetensors")
    torch.save({}, tmp_path / "pickled.pth")
    with pytest.raises(ValueError, match=r"pickled\.pth; give the path of a \.safetensors file"):
        build(_config("resnet18"), pretrained=tmp_path / "pickled.pth")
    with pytest.raises(ValueError, match="backbone='<timm name>'"):
        build(CellUNetInstanceConfig())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"no weights for 'resnet18'.*pretrained='weights\.safetensors'"):
        build(_config("resnet18", backbone_kwargs={"cache_dir": str(tmp_path)}))
    (tmp_path / "wrong.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="no weights for 'resnet18'"):
        build(_config("resnet18"), pretrained=tmp_path / "wrong.safetensors")
