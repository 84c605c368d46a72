"""Configuration of the classifier: a ready backbone, or a network described in a few lists."""

from typing import Any

from transformers import PreTrainedConfig

POOLINGS = ("avg", "max", "flatten")
DOWNSAMPLINGS = ("max", "avg", "conv")
NORMS = ("batch", "group", "none")
HEADS = ("linear", "mlp", "svm")
LOSSES = ("cross_entropy", "bce", "focal", "smooth_l1", "hinge", "tversky")
PROBLEMS = ("single_label_classification", "multi_label_classification")


class CellClassificationConfig(PreTrainedConfig):
    r"""Everything that shapes a [`CellForImageClassification`].

    The lists describe logistic regression (`hidden_sizes=[]`, `pooling="flatten"`), perceptrons (the same with
    `head_hidden_sizes`), plain and residual convolution networks, and heads on a backbone.

    Args:
        num_channels: Input channels.
        image_size: Height and width that the network takes; only `pooling="flatten"` without a backbone needs it.
        backbone: Name of a timm model, or "alexnet" (torchvision's), in place of the stages below. Weights come from
            `from_backbone`, never from the constructor.
        backbone_kwargs: Further arguments of `timm.create_model`.
        stem_stride: Space-to-depth factor before the first convolution (1: none).
        hidden_sizes: Filters of each stage; empty for a network without convolutions.
        depths: Convolutions in each stage, or residual blocks of two; one number or one a stage.
        kernel_size: Side of the kernels; one number or one a stage.
        downsample: Factor by which the size shrinks after each stage; by default 2, and 1 after the last stage where
            global pooling follows.
        downsample_type: "max" or "avg" pooling, or "conv": the next stage's first convolution strides.
        residual: Blocks of two convolutions with a shortcut (He et al. 2016).
        squeeze_ratio: Channel attention in residual blocks (Hu et al. 2018), with this many times fewer units; 0: none.
        hidden_act: Any activation name known to transformers ("relu", "mish", "leaky_relu", "gelu", …).
        norm: "batch", "group" (8 channels a group) or "none".
        dropout: Probability of dropping a channel after each stage.
        drop_path: Probability of leaving out a residual branch of the last block, rising linearly to it (Huang et al.
            2016).
        mix_style: Share of training batches in which the styles of the images (mean and deviation of each channel) are
            mixed after the first two stages, so that an unseen stain or exposure is less strange (Zhou et al. 2021,
            arXiv:2104.02008).
        pooling: "avg" or "max" over the last map, or "flatten". None takes a timm backbone's own.
        head_type: "linear", "mlp" (with `head_hidden_sizes`) or "svm" (standardised features, a linear layer and the
            multi-class hinge of Crammer & Singer 2001; scores are softmax over the margins).
        head_hidden_sizes: Units of the dense layers before the last one.
        head_dropout: Before each dense layer of the head; one number or one a layer, the last included.
        loss_name: "cross_entropy", "bce", "focal" (Lin et al. 2017), "smooth_l1" (on probabilities), "hinge" or
            "tversky" (Salehi et al. 2017); by default cross_entropy, bce for multi-label problems, and hinge for the
            svm head.
        focal_gamma: Exponent of the focal loss.
        focal_alpha: Weight of labels that are there in a multi-label focal loss, 1 - alpha that of absent ones; None
            weighs both alike.
        tversky_alpha: Cost of a false positive in the Tversky loss.
        tversky_beta: Cost of a false negative in it.
        label_smoothing: Share of the label given to all classes alike (cross_entropy).
        class_weights: Weight of each class in the loss, or None.
        test_time_views: In evaluation the logits are the mean over this many views: 1, 4 (flips) or 8 (flips and
            quarter turns, of square images). For images without an up and a down; costs as many times the time.
        calibration_temperature: What the logits have been divided by: it is folded into the last layer already, so
            every pipeline and export is calibrated. Nothing divides by it again.
        decision_thresholds: By label name; see `decisions.decide`. `model.decide()` and the `cell-classification`
            pipeline apply them.
        thresholds_chosen_on: Where they come from: "default", or the split they were chosen on.
    """

    model_type = "cell_classification"

    num_channels: int = 3
    image_size: int | list[int] | tuple[int, int] | None = None
    backbone: str | None = None
    backbone_kwargs: dict[str, Any] | None = None
    stem_stride: int = 1
    hidden_sizes: list[int] | tuple[int, ...] = (32, 64, 128)
    depths: int | list[int] = 1
    kernel_size: int | list[int] = 3
    downsample: list[int] | None = None
    downsample_type: str = "max"
    residual: bool = False
    squeeze_ratio: int = 0
    hidden_act: str = "relu"
    norm: str = "batch"
    dropout: float | int = 0.0
    drop_path: float | int = 0.0
    mix_style: float | int = 0.0
    pooling: str | None = "avg"
    head_type: str = "linear"
    head_hidden_sizes: list[int] | tuple[int, ...] = ()
    head_dropout: float | int | list[float] = 0.0
    loss_name: str | None = None
    focal_gamma: float | int = 2.0
    focal_alpha: float | int | None = None
    tversky_alpha: float | int = 0.8
    tversky_beta: float | int = 0.5
    label_smoothing: float | int = 0.0
    class_weights: list[float] | None = None
    test_time_views: int = 1
    calibration_temperature: float | int = 1.0
    decision_thresholds: dict[str, float] | None = None
    thresholds_chosen_on: str = "default"
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if self.id2label and not self.label2id:  # the base class would save None
            self.label2id = {label: int(i) for i, label in self.id2label.items()}
        super().__post_init__(**kwargs)
        self.problem_type = self.problem_type or "single_label_classification"
        if self.loss_name is None:
            multi = self.problem_type == PROBLEMS[1]
            self.loss_name = "hinge" if self.head_type == "svm" else "bce" if multi else "cross_entropy"
        for name, known in (
            ("downsample_type", DOWNSAMPLINGS),
            ("norm", NORMS),
            ("head_type", HEADS),
            ("loss_name", LOSSES),
            ("problem_type", PROBLEMS),
            ("pooling", (*POOLINGS, None)),
        ):
            if getattr(self, name) not in known:
                choices = ", ".join(str(choice) for choice in known if choice)
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; choose one of {choices}")
        if self.test_time_views not in (1, 4, 8):
            raise ValueError(
                f"test_time_views={self.test_time_views}: give 1, 4 (flips) or 8 (flips and turns)"
            )
        if self.multi_label and self.loss_name == "cross_entropy":
            raise ValueError(
                "cross_entropy is for one label an image; a multi-label problem takes bce, focal or tversky"
            )
        if self.focal_alpha is not None and not 0 <= self.focal_alpha <= 1:
            raise ValueError(
                f"focal_alpha={self.focal_alpha}: give the weight of labels that are there, 0 to 1"
            )
        if self.tversky_alpha < 0 or self.tversky_beta < 0:
            raise ValueError("tversky_alpha and tversky_beta are costs; give numbers of 0 and more")
        if (self.num_labels or 0) < (1 if self.multi_label else 2):
            raise ValueError("a classifier needs two labels at least, or one in a multi-label problem")
        if self.head_hidden_sizes and self.head_type == "linear":
            self.head_type = "mlp"
        if self.pooling == "flatten" and not self.backbone and self.image_size is None:
            raise ValueError('pooling="flatten" needs image_size, so that the first dense layer has a size')
        if self.class_weights is not None and len(self.class_weights) != self.num_labels:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} entries for {self.num_labels} labels"
            )
        unknown = sorted(set(self.decision_thresholds or {}) - set((self.label2id or {}).keys()))
        if unknown:
            raise ValueError(f"decision_thresholds names {unknown[0]!r}, which is no label of the model")
        for name in ("depths", "kernel_size", "downsample"):
            value = getattr(self, name)
            if isinstance(value, (list, tuple)) and len(value) != len(self.hidden_sizes):
                raise ValueError(f"{name} has {len(value)} entries for {len(self.hidden_sizes)} stages")
        if any(kernel % 2 == 0 for kernel in self.per_stage("kernel_size")):
            raise ValueError(f"kernel_size={self.kernel_size} must be odd, so that a stage keeps the size")

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.problem_type == PROBLEMS[1]

    def loss_settings(self) -> dict[str, Any]:
        """What `classification_loss` takes of the configuration, but for name and weights."""
        names = ("multi_label", "focal_gamma", "focal_alpha", "tversky_alpha", "tversky_beta")
        return {name: getattr(self, name) for name in names}

    def per_stage(self, name: str) -> list[int]:
        """`depths`, `kernel_size` or `downsample` as one number a stage."""
        value, stages = getattr(self, name), len(self.hidden_sizes)
        if value is None:  # downsample: the last map stays as large as it is where it is pooled anyway
            last = 2 if self.pooling == "flatten" else 1
            return [2] * (stages - 1) + [last] * bool(stages)
        return [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)] * stages


__all__ = ["CellClassificationConfig"]
