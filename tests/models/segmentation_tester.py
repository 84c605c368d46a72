"""What every segmentation model must pass besides: maps at the size of the image, whatever that is."""

from typing import Any

import pytest
import torch
from model_tester import ModelTester, randomized


class SegmentationTester(ModelTester):
    tiny = {"hidden_sizes": (8, 16), "num_channels": 3}
    variants: list[dict[str, Any]] = [
        *({"decoder_type": decoder} for decoder in ("unet", "attention", "unetplusplus")),
        *({"norm": norm, "hidden_sizes": (8, 12, 16)} for norm in ("batch", "group", "instance", "none")),
        *({"hidden_act": act} for act in ("relu", "leaky_relu", "mish", "gelu")),
        *({"stem_stride": stride, "decoder_type": "attention"} for stride in (2, 4)),
        *(
            {"upsampling": way, "decoder_type": "unetplusplus"}
            for way in ("nearest", "bilinear", "transposed")
        ),
        *({"num_channels": channels} for channels in (1, 4)),
        {"hidden_sizes": (8,)},
        {"residual": True, "dropout": 0.2, "hidden_sizes": (8, 8, 16)},
    ]
    reloaded: list[dict[str, Any]] = [
        {"decoder_type": "unetplusplus", "hidden_act": "mish", "upsampling": "transposed"},
        {"decoder_type": "attention", "norm": "group", "stem_stride": 2, "residual": True},
    ]
    code = "unet.py"
    out_channels: int

    def images(self, model: Any, batch: int) -> torch.Tensor:
        return torch.randn(batch, model.config.num_channels, 22, 18)

    def logits_shape(self, model: Any, batch: int, height: int, width: int) -> tuple[int, ...]:
        return batch, self.out_channels, height, width

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
