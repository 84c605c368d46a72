import pytest
import torch
from segmentation_tester import SegmentationTester
from transformers import (
    AutoModelForImageSegmentation,
    AutoModelForInstanceSegmentation,
    AutoModelForSemanticSegmentation,
)

from hf_cells.models import (
    CellUNetForInstanceSegmentation,
    CellUNetForSemanticSegmentation,
    CellUNetInstanceConfig,
    CellUNetSemanticConfig,
    instance_targets,
)


def _square(batch: int, height: int, width: int) -> torch.Tensor:
    labels = torch.zeros(batch, height, width, dtype=torch.int64)
    labels[:, height // 4 : height // 2, width // 4 : width // 2] = 1
    return labels


class TestSemantic(SegmentationTester):
    config_class = CellUNetSemanticConfig
    model_class = CellUNetForSemanticSegmentation
    auto_classes = (AutoModelForSemanticSegmentation, AutoModelForImageSegmentation)
    out_channels = 2

    def labels(self, batch, height, width):
        return {"labels": _square(batch, height, width)}

    @pytest.mark.parametrize("name", ["cross_entropy", "dice", "cross_entropy+dice", "focal"])
    def test_every_loss_ignores_what_is_not_known(self, name):
        model = self.build(loss_name=name, class_weights=[1.0, 3.0], num_labels=2).eval()
        x, labels = torch.randn(1, 3, 16, 16), _square(1, 16, 16)
        labels[:, 12:] = 255
        upper = model(x[..., :12, :], labels=labels[:, :12])
        logits = model(x).logits
        assert torch.isfinite(upper.loss)
        from hf_cells.models import semantic_loss

        whole = semantic_loss(logits, labels, name, [1.0, 3.0])
        cut = semantic_loss(logits[..., :12, :], labels[:, :12], name, [1.0, 3.0])
        torch.testing.assert_close(whole, cut)

    def test_more_labels(self):
        assert self.build(num_labels=5)(torch.zeros(1, 3, 8, 8)).logits.shape[1] == 5

    def test_one_label_is_refused(self):
        with pytest.raises(ValueError, match="two labels"):
            CellUNetSemanticConfig(num_labels=1)


class TestInstance(SegmentationTester):
    config_class = CellUNetInstanceConfig
    model_class = CellUNetForInstanceSegmentation
    auto_classes = (AutoModelForInstanceSegmentation, AutoModelForImageSegmentation)
    out_channels = 3

    def labels(self, batch, height, width):
        return {"instance_labels": _square(batch, height, width)}

    def test_ready_targets_give_the_same_loss(self):
        model, x, labels = self.build().eval(), torch.randn(2, 3, 24, 24), _square(2, 24, 24)
        maps = torch.stack([torch.from_numpy(instance_targets(item)) for item in labels.numpy()])
        torch.testing.assert_close(model(x, instance_labels=labels).loss, model(x, target_maps=maps).loss)

    def test_class_has_a_name(self):
        assert CellUNetInstanceConfig().id2label == {0: "cell"}
