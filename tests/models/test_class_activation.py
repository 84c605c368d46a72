"""Class activation maps against hand-made networks, and boxes around what they show."""

import numpy as np
import pytest
import torch

from hf_cells.models import CellClassificationConfig, CellForImageClassification
from hf_cells.models.class_activation import (
    activation_method,
    box_of,
    class_activation_map,
    class_activation_maps,
    feature_maps,
    peak_of,
)

LABELS = {0: "left", 1: "right"}


def copying_network(pooling: str = "avg", **changes) -> CellForImageClassification:
    """Its two maps are the two channels of the image, and each class looks at one of them."""
    config = CellClassificationConfig(
        id2label=LABELS,
        num_channels=2,
        hidden_sizes=[2],
        kernel_size=1,
        norm="none",
        pooling=pooling,
        **changes,
    )
    model = CellForImageClassification(config).eval()
    with torch.no_grad():
        model.backbone.stages[0][0][0].weight.copy_(torch.eye(2)[:, :, None, None])
        model.backbone.stages[0][0][0].bias.zero_()
        if not model.head.hidden:
            model.head.classifier.weight.copy_(torch.eye(2))
            model.head.classifier.bias.zero_()
    return model


def two_spots() -> torch.Tensor:
    """Class 0's channel has a square on the left, class 1's a brighter one on the right."""
    image = torch.zeros(1, 2, 16, 24)
    image[0, 0, 4:8, 2:6] = 0.5
    image[0, 1, 9:14, 15:20] = 1.0
    return image


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_the_map_is_what_the_class_weights_say(pooling):
    model, image = copying_network(pooling), two_spots()
    for class_id in (0, 1):
        found = class_activation_map(model, image, class_id)
        assert found.shape == (1, 16, 24) and found.max() == 1
        torch.testing.assert_close(found[0], image[0, class_id] / image[0, class_id].max())
    best = class_activation_map(model, image)
    torch.testing.assert_close(best, class_activation_map(model, image, 1))
    both = class_activation_map(model, image.expand(2, -1, -1, -1), torch.tensor([0, 1]))
    assert both[0, 5, 3] == 1 and both[1, 10, 16] == 1 and both[0, 10, 16] == 0


def test_gradients_stand_in_where_the_head_has_layers():
    torch.manual_seed(0)
    config = CellClassificationConfig(
        id2label=LABELS, num_channels=1, hidden_sizes=[4, 8], head_hidden_sizes=[6]
    )
    model = CellForImageClassification(config).train()
    model.freeze()  # no weight of the backbone learns; the map needs gradients all the same
    found = class_activation_map(model, torch.randn(2, 1, 20, 28), 1)
    assert found.shape == (2, 20, 28) and found.min() >= 0 and found.max() <= 1
    assert model.training and all(p.grad is None for p in model.parameters())


def test_a_class_that_nothing_speaks_for_has_an_empty_map():
    model = copying_network()
    image = two_spots()
    image[:, 0] = 0
    assert class_activation_map(model, image, 0).max() == 0
    assert box_of(class_activation_map(model, image, 0)[0].numpy()) is None


def test_wrong_classes_and_networks_without_maps_are_refused():
    with pytest.raises(ValueError, match="no class 2; the model has 2"):
        class_activation_map(copying_network(), two_spots(), 2)
    dense = CellClassificationConfig(id2label=LABELS, hidden_sizes=[], pooling="flatten", image_size=8)
    with pytest.raises(ValueError, match="without convolutions has no maps"):
        feature_maps(CellForImageClassification(dense), torch.zeros(1, 3, 8, 8))


def test_the_box_holds_the_region_of_the_maximum_alone():
    activation = np.zeros((20, 30), np.float32)
    activation[3:9, 4:12] = 1.0
    activation[14:18, 20:28] = 0.9
    assert box_of(activation) == (3, 4, 9, 12)
    assert box_of(np.full((5, 5), 0.4)) is None


@pytest.mark.parametrize("changes", [{}, {"head_hidden_sizes": [6], "pooling": "avg"}])
def test_several_classes_at_once_are_each_as_alone(changes):
    torch.manual_seed(1)
    config = CellClassificationConfig(
        num_labels=3, num_channels=2, hidden_sizes=[4, 8], **{"pooling": "max", **changes}
    )
    model = CellForImageClassification(config).train()
    images = torch.randn(2, 2, 20, 28)
    together = class_activation_maps(model, images, [2, 0])
    assert together.shape == (2, 2, 20, 28) and model.training
    for place, class_id in enumerate((2, 0)):
        torch.testing.assert_close(together[:, place], class_activation_map(model, images, class_id))
    with pytest.raises(ValueError, match="no class 3; the model has 3"):
        class_activation_maps(model, images, [0, 3])


def test_the_method_is_told():
    def method(**changes):
        config = CellClassificationConfig(**{"num_labels": 2, "hidden_sizes": [4], **changes})
        return activation_method(CellForImageClassification(config))

    assert method() == method(pooling="max") == "CAM"
    assert method(head_hidden_sizes=[3]) == method(pooling="flatten", image_size=8) == "Grad-CAM"
    assert method(head_type="svm") == "Grad-CAM"
    with pytest.raises(ValueError, match="without convolutions has no maps"):
        method(hidden_sizes=[], pooling="flatten", image_size=8)


def test_the_peak_of_a_plateau_is_in_its_middle():
    activation = np.zeros((12, 12), np.float32)
    activation[2:7, 3:10] = 1
    activation[4, 4] += 1e-6  # rounding
    assert peak_of(activation) == (4, 6)
    activation[9, 1] = 1.5
    assert peak_of(activation) == (9, 1)
    assert peak_of(np.zeros((3, 3))) is None
    ring = np.ones((5, 5))
    ring[1:4, 1:4] = 0
    assert ring[peak_of(ring)] == 1  # never beside the maximum
