"""What every model must pass. A new model gets a subclass with its classes, its sizes and its labels."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel


def randomized(model: nn.Module) -> nn.Module:
    """Give weights and running statistics values that no constructor makes: a lost one is then seen."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(tensor + noise if "running" in name else tensor + 0.1 * noise)
    return model.eval()


class ModelTester(ABC):
    """Attributes a subclass sets.

    tiny: Arguments of the configuration that every test begins with.
    variants: Changes of them under which every parameter must learn.
    reloaded: Changes under which a save and a load must lose nothing.
    code: A module that must be saved beside the weights.
    side: Height and width of the images.
    """

    config_class: Any
    model_class: Any
    auto_classes: tuple[Any, ...]
    tiny: dict[str, Any]
    variants: list[dict[str, Any]]
    reloaded: list[dict[str, Any]]
    code: str
    side = 24

    @abstractmethod
    def labels(self, batch: int, height: int, width: int) -> dict[str, torch.Tensor]:
        """Keyword arguments that make the model compute its loss."""

    @abstractmethod
    def logits_shape(self, model: Any, batch: int, height: int, width: int) -> tuple[int, ...]:
        """What the logits of such images must be."""

    def build(self, **changes: Any) -> Any:
        torch.manual_seed(0)
        return self.model_class(self.config_class(**{**self.tiny, **changes}))

    def images(self, model: Any, batch: int) -> torch.Tensor:
        return torch.randn(batch, model.config.num_channels, self.side, self.side)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for name, values in (("variant", self.variants), ("saved", self.reloaded)):
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, values, ids=str)

    def test_every_parameter_learns(self, variant):
        model = self.build(**variant).train()
        x = self.images(model, 2)
        outputs = model(x, **self.labels(2, *x.shape[-2:]))
        outputs.loss.backward()
        assert outputs.logits.shape == self.logits_shape(model, 2, *x.shape[-2:])
        assert torch.isfinite(outputs.loss)
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} takes no part"
            assert torch.isfinite(parameter.grad).all(), name

    def test_batch_mates_do_not_matter(self, variant):
        model = randomized(self.build(**variant))
        x = self.images(model, 3)
        with torch.inference_mode():
            together = model(x).logits
            alone = torch.cat([model(item[None]).logits for item in x])
        torch.testing.assert_close(together, alone, atol=1e-4 * float(alone.abs().max()), rtol=1e-4)

    def test_loss_falls(self):
        model = self.build().train()
        x = torch.zeros(2, 3, 32, 32)
        x[:, :, 8:20, 8:20] = 1
        x[1] = 1 - x[1]
        labels = self.labels(2, 32, 32)
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
        model = self.build().eval()
        x = self.images(model, 2)
        assert len(model(x, return_dict=False)) == 1
        loss, logits = model(x, return_dict=False, **self.labels(2, *x.shape[-2:]))
        assert loss.ndim == 0
        torch.testing.assert_close(logits, model(x).logits)

    def test_gradient_checkpointing_changes_no_gradient(self, variant):
        model = self.build(**variant).train()
        if variant.get("hidden_sizes") == ():  # dense layers alone: there is no block to compute again
            with pytest.raises(ValueError, match="not compatible with gradient checkpointing"):
                model.gradient_checkpointing_enable()
            return
        x = self.images(model, 2)
        gradients = []
        for reentrant in (None, False, True):
            if reentrant is not None:
                model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            torch.manual_seed(1)
            model.zero_grad()
            model(x, **self.labels(2, *x.shape[-2:])).loss.backward()
            gradients.append([p.grad.clone() for p in model.parameters()])
        for again in gradients[1:]:
            for kept, new in zip(gradients[0], again, strict=True):
                torch.testing.assert_close(kept, new, rtol=1e-4, atol=1e-6 + 1e-4 * float(kept.abs().max()))

    def test_hidden_states_on_request(self):
        model = self.build().eval()
        x = self.images(model, 2)
        assert model(x).hidden_states is None
        outputs = model(x, output_hidden_states=True)
        assert len(outputs.hidden_states) == len(self.tiny["hidden_sizes"])
        assert all(len(state) == 2 and state.ndim == 4 for state in outputs.hidden_states)
        for state in outputs.hidden_states:
            state.retain_grad()
        outputs.logits.flatten()[0].backward()
        assert all(state.grad is not None for state in outputs.hidden_states)
        assert len(model(x, output_hidden_states=True, return_dict=False)) == 2
        assert not model._forward_hooks and not any(module._forward_hooks for module in model.modules())

    def test_reloads_exactly(self, saved, tmp_path):
        model = randomized(self.build(**saved))
        x = self.images(model, 2)
        model.save_pretrained(tmp_path)
        assert (tmp_path / "model.safetensors").is_file()
        assert (tmp_path / self.code).is_file()
        again = self.model_class.from_pretrained(tmp_path)
        with torch.inference_mode():
            assert torch.equal(again(x).logits, model(x).logits)
        assert not again.training
        asked, loaded = self.config_class(**{**self.tiny, **saved}).to_dict(), again.config.to_dict()
        for name in asked.keys() - {"dtype", "architectures", "transformers_version", "_name_or_path"}:
            assert loaded[name] == asked[name], name

    @pytest.mark.parametrize("with_code", [True, False])
    def test_auto_classes(self, tmp_path, with_code):
        """The installed classes answer, whether the folder carries their code (as on the Hub) or weights alone."""
        model = randomized(self.build())
        model.save_pretrained(tmp_path)
        if not with_code:
            _drop_code(tmp_path)
        assert type(AutoConfig.from_pretrained(tmp_path)) is self.config_class
        x = self.images(model, 1)
        for auto_class in (*self.auto_classes, AutoModel):
            again = auto_class.from_pretrained(tmp_path)
            assert type(again) is self.model_class
            with torch.inference_mode():
                assert torch.equal(again(x).logits, model(x).logits)

    def test_labels_have_both_directions(self):
        config = self.config_class(id2label={0: "background", 1: "nucleus"})
        assert config.label2id == {"background": 0, "nucleus": 1}


def _drop_code(folder: Path) -> None:
    for path in folder.glob("*.py"):
        path.unlink()
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("auto_map")
    (folder / "config.json").write_text(json.dumps(config))
