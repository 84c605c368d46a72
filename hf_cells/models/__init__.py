"""Models, processors and everything that travels with them to the Hub.

Importing this package registers the Auto classes and the pipelines `cell-segmentation` and `cell-classification`.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForImageSegmentation,
    AutoModelForInstanceSegmentation,
    AutoModelForSemanticSegmentation,
    AutoVideoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .backbone_weights import inflate, load_backbone_weights
from .classification_losses import classification_loss
from .configuration_cell_classification import CellClassificationConfig
from .configuration_cell_unet import CellUNetConfig, CellUNetInstanceConfig, CellUNetSemanticConfig
from .decisions import decide
from .image_processing_cells import CellImageProcessor, CellInstanceImageProcessor, CellSemanticImageProcessor
from .image_processing_classification import CellClassificationImageProcessor
from .image_processing_native import NativeSemanticImageProcessor
from .image_reading import read_image
from .instance_decoding import DECODING_DEFAULTS, decode_instances
from .instance_targets import INSTANCE_MAPS, instance_loss, instance_targets
from .loading import FAMILIES, pipeline
from .losses import focal_loss, semantic_loss, soft_dice_loss
from .modeling_cell_classification import CellForImageClassification
from .modeling_cell_unet import (
    CellInstanceSegmentationOutput,
    CellUNetForInstanceSegmentation,
    CellUNetForSemanticSegmentation,
    CellUNetPreTrainedModel,
)
from .native_segmentation import SegformerForSemanticSegmentation, UperNetForSemanticSegmentation
from .pipeline_cell_classification import CellClassificationPipeline
from .pipeline_cell_segmentation import CellSegmentationPipeline
from .saving import save_model_repository
from .tiling import tiled_logits

# The stock image-segmentation pipeline asks for ForImageSegmentation first, so both models answer to it.
for _config, _model, _processor, _heads in (
    (
        CellUNetSemanticConfig,
        CellUNetForSemanticSegmentation,
        CellSemanticImageProcessor,
        (AutoModelForSemanticSegmentation, AutoModelForImageSegmentation, AutoModel),
    ),
    (
        CellUNetInstanceConfig,
        CellUNetForInstanceSegmentation,
        CellInstanceImageProcessor,
        (AutoModelForInstanceSegmentation, AutoModelForImageSegmentation, AutoModel),
    ),
    (
        CellClassificationConfig,
        CellForImageClassification,
        CellClassificationImageProcessor,
        (AutoModelForImageClassification, AutoModel),
    ),
):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoImageProcessor.register(_config, image_processor_classes={"torchvision": _processor}, exist_ok=True)
    # A pipeline of transformers also looks for a video processor, guesses one from the image processor's code, and asks
    # at the terminal whether to run it. An entry of None says that there is none.
    AutoVideoProcessor.register(_config, None, exist_ok=True)
    for _head in _heads:
        _head.register(_config, _model, exist_ok=True)
    # From now on save_pretrained writes the code beside the weights, and `auto_map` into the configuration.
    _config.register_for_auto_class()
    _processor.register_for_auto_class()
    _model.register_for_auto_class(_heads[0].__name__)

for _task, _pipeline, _auto_model in (
    ("cell-segmentation", CellSegmentationPipeline, AutoModelForImageSegmentation),
    ("cell-classification", CellClassificationPipeline, AutoModelForImageClassification),
):
    if _task not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            _task, pipeline_class=_pipeline, pt_model=(_auto_model,), type="image"
        )

__all__ = [
    "DECODING_DEFAULTS",
    "FAMILIES",
    "INSTANCE_MAPS",
    "CellClassificationConfig",
    "CellClassificationImageProcessor",
    "CellClassificationPipeline",
    "CellForImageClassification",
    "CellImageProcessor",
    "CellInstanceImageProcessor",
    "CellInstanceSegmentationOutput",
    "CellSegmentationPipeline",
    "CellSemanticImageProcessor",
    "CellUNetConfig",
    "CellUNetForInstanceSegmentation",
    "CellUNetForSemanticSegmentation",
    "CellUNetInstanceConfig",
    "CellUNetPreTrainedModel",
    "CellUNetSemanticConfig",
    "NativeSemanticImageProcessor",
    "SegformerForSemanticSegmentation",
    "UperNetForSemanticSegmentation",
    "classification_loss",
    "decide",
    "decode_instances",
    "focal_loss",
    "inflate",
    "instance_loss",
    "instance_targets",
    "load_backbone_weights",
    "pipeline",
    "read_image",
    "save_model_repository",
    "semantic_loss",
    "soft_dice_loss",
    "tiled_logits",
]
