"""What every model must pass. A new model gets a subclass with its classes and its labels, and nothing else."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

TINY = {"hidden_sizes": (8, 16), "num_channels": 3}
VARIANTS: list[dict[str, Any]] = [
    *({"decoder_type": decoder} for decoder in ("unet", "attention", "unetplusplus")),
    *({"norm": norm, "hidden_sizes": (8, 12, 16)} for norm in ("batch", "group", "instance", "none")),
    *({"hidden_act": act} for act in ("relu", "leaky_relu", "mish", "gelu")),
    *({"stem_stride": stride, "decoder_type": "attention"} for stride in (2, 4)),
    *({"upsampling": way, "decoder_type": "unetplusplus"} for way in ("nearest", "bilinear", "transposed")),
    *({"num_channels": channels} for channels in (1, 4)),
    {"hidden_sizes": (8,)},
    {"residual": True, "dropout": 0.2, "hidden_sizes": (8, 8, 16)},
]


def randomized(model: nn.Module) -> nn.Module:
    """Give weights and running statistics values that no constructor makes: a lost one is then seen."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(tensor + noise if "running" in name else tensor + 0.1 * noise)
    return model.eval()


class ModelTester:
    config_class: Any
    model_class: Any
    auto_classes: tuple[Any, ...]
    out_channels: int

    def labels(self, batch: int, height: int, width: int) -> dict[str, torch.Tensor]:
        """Keyword arguments that make the model compute its loss."""
        raise NotImplementedError

    def build(self, **changes: Any) -> Any:
        torch.manual_seed(0)
        return self.model_class(self.config_class(**{**TINY, **changes}))

    @pytest.mark.parametrize("changes", VARIANTS, ids=str)
    def test_every_parameter_learns(self, changes):
        model = self.build(**changes).train()
        x = torch.randn(2, model.config.num_channels, 22, 18)
        outputs = model(x, **self.labels(2, 22, 18))
        outputs.loss.backward()
        assert outputs.logits.shape == (2, self.out_channels, 22, 18)
        assert torch.isfinite(outputs.loss)
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} takes no part"
            assert torch.isfinite(parameter.grad).all(), name

    @pytest.mark.parametrize("size", [(1, 1), (17, 33), (64, 64), (3, 70)], ids=str)
    @pytest.mark.parametrize("norm", ["batch", "instance"])
    def test_any_resolution_in_training_and_evaluation(self, size, norm):
        model = self.build(norm=norm, hidden_sizes=(8, 8, 8, 8), stem_stride=2)
        x = torch.randn(1, 3, *size)
        for training in (True, False):
            logits = model.train(training)(x).logits
            assert logits.shape == (1, self.out_channels, *size)
            assert torch.isfinite(logits).all()

    def test_padding_leaves_the_inside_alone(self):
        model = randomized(self.build(hidden_sizes=(8, 8)))
        x = torch.randn(1, 3, 65, 65)
        with torch.inference_mode():
            odd, even = model(x).logits, model(x[..., :64, :64]).logits
        inside = (..., slice(0, 48), slice(0, 48))
        torch.testing.assert_close(odd[inside], even[inside], atol=1e-5, rtol=1e-5)

    def test_batch_mates_do_not_matter(self):
        model = randomized(self.build())
        x = torch.randn(3, 3, 24, 24)
        with torch.inference_mode():
            together = model(x).logits
            alone = torch.cat([model(item[None]).logits for item in x])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)

    def test_loss_falls(self):
        model = self.build().train()
        labels = self.labels(2, 32, 32)
        x = torch.zeros(2, 3, 32, 32)
        x[:, :, 8:20, 8:20] = 1
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        losses = []
        for _ in range(12):
            optimizer.zero_grad()
            loss = model(x, **labels).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0]

    def test_tuple_output(self):
        model, x = self.build().eval(), torch.randn(1, 3, 8, 8)
        assert len(model(x, return_dict=False)) == 1
        loss, logits = model(x, return_dict=False, **self.labels(1, 8, 8))
        assert loss.ndim == 0
        torch.testing.assert_close(logits, model(x).logits)

    @pytest.mark.parametrize(
        "changes",
        [
            {"decoder_type": "unetplusplus", "hidden_act": "mish", "upsampling": "transposed"},
            {"decoder_type": "attention", "norm": "group", "stem_stride": 2, "residual": True},
        ],
        ids=str,
    )
    def test_reloads_exactly(self, changes, tmp_path):
        model, x = randomized(self.build(**changes)), torch.randn(1, 3, 20, 20)
        model.save_pretrained(tmp_path)
        assert (tmp_path / "model.safetensors").is_file()
        assert (tmp_path / "unet.py").is_file()
        again = self.model_class.from_pretrained(tmp_path)
        with torch.inference_mode():
            assert torch.equal(again(x).logits, model(x).logits)
        assert not again.training
        asked, loaded = self.config_class(**{**TINY, **changes}).to_dict(), again.config.to_dict()
        for name in asked.keys() - {"dtype", "architectures", "transformers_version", "_name_or_path"}:
            assert loaded[name] == asked[name], name

    def test_auto_classes(self, tmp_path):
        randomized(self.build()).save_pretrained(tmp_path)
        assert type(AutoConfig.from_pretrained(tmp_path)) is self.config_class
        for auto_class in (*self.auto_classes, AutoModel):
            assert type(auto_class.from_pretrained(tmp_path)) is self.model_class

    def test_labels_have_both_directions(self):
        config = self.config_class(id2label={0: "background", 1: "nucleus"})
        assert config.label2id == {"background": 0, "nucleus": 1}

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"decoder_type": "fpn"}, "decoder_type='fpn' is unknown; choose one of unet"),
            ({"norm": "layer"}, "norm='layer'"),
            ({"hidden_act": "sparkle"}, "hidden_act='sparkle'"),
            ({"hidden_sizes": ()}, "hidden_sizes"),
            ({"backbone": "resnet18", "stem_stride": 2}, "stem_stride=1"),
            ({"backbone": "resnet18", "hidden_sizes": (8, 8)}, "5 feature maps"),
        ],
    )
    def test_wrong_configurations_are_explained(self, changes, words):
        with pytest.raises(ValueError, match=words):
            self.build(**changes)
