"""Every field of an experiment, with its default, its rule and its meaning.

Files and flags start from these defaults, help prints these meanings, and the parts of
the program are handed these dataclasses. To add a field, add a line to a group;
`hybrid_jax.config.rules` has the rules.
"""

import dataclasses
from typing import Any

from hybrid_jax.config import rules
from hybrid_jax.config.field import Field, field, fields_of, value_of
from hybrid_jax.config.rules import Rule


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images are trained on, validated on and tested on."""

    name: str = field(
        "digits", rules.NAME, "a data set of this project or of TFDS, or folder"
    )
    dir: str = field(
        "",
        rules.PATH,
        "where data sets lie; empty is ~/tensorflow_datasets",
        local=True,
    )
    manual_dir: str = field(
        "",
        rules.PATH,
        "where your archives lie; empty is downloads/manual there",
        local=True,
    )
    path: str = field(
        "", rules.PATH, "of folder: its place, or a .csv of path and label", local=True
    )
    label: str = field("label", rules.NAME, "such as coarse_label of cifar100")
    image_size: tuple[int, ...] = field(
        (), rules.IMAGE_SIZE, "images are resized to it; empty keeps theirs"
    )
    fit: str = field(
        "crop",
        rules.row_of("hybrid_jax.data.image_io:FITS"),
        "how images of another shape come to that size",
    )
    background: str = field(
        "white", rules.COLOR, "what lies behind transparent parts of images"
    )
    on_error: str = field(
        "stop",
        rules.one_of("stop", "skip"),
        "at images that cannot be read; those that you held out always stop",
    )
    exclude: str = field(
        "",
        rules.PATH,
        "file that lists images to leave out: a path a line, or a .csv of paths",
        local=True,
    )
    group: str = field(
        "", rules.PATTERN, "finds in a path what belongs together, such as a patient"
    )
    test_fraction: float = field(
        0.2, rules.PART, "of each class, in a folder that is not split"
    )
    validation: float | str = field(
        0.1,
        rules.VALIDATION,
        "share of the training images that chooses the best weights, or a fold as 2/5; "
        "0 trains on all",
        types=(int, float, str),
    )
    fraction: float = field(1.0, rules.FACTOR, "of each class's training images")
    per_class: int = field(
        0, rules.whole_number(0), "training images a class, 0 for all"
    )
    split_seed: int = field(
        0, rules.SEED, "of test_fraction, validation, fraction and per_class"
    )
    loader: str = field(
        "auto",
        rules.one_of("auto", "resident", "stream"),
        "images on the device, or decoded on the way; auto goes by their size",
        free=True,
    )
    workers: int = field(
        0,
        rules.whole_number(0),
        "processes that decode a stream; 0 uses threads",
        local=True,
    )


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training batches, on the device."""

    crop_padding: int = field(
        0, rules.whole_number(0), "black pixels around images before random crops"
    )
    crop_scale: float = field(
        0.0, rules.SHARE, "least share of the area of a random resized crop; 0 is off"
    )
    symmetry: str = field(
        "none",
        rules.row_of("hybrid_jax.augment.affine:SYMMETRIES"),
        "what images are mirrored and turned by",
    )
    policy: str = field(
        "none",
        rules.row_of("hybrid_jax.augment.auto_augment:SPACES", off="none"),
        "random operations on places and colors",
    )
    operations: int = field(
        2, rules.whole_number(1), "that rand_augment applies to an image"
    )
    magnitude: int = field(
        9, rules.MAGNITUDE, "of rand_augment: how strong its operations are"
    )
    color_jitter: float = field(
        0.0,
        rules.NOT_NEGATIVE,
        "how far brightness, contrast and saturation change, as 0.4",
    )
    hue_jitter: float = field(
        0.0, rules.HALF, "share of the color circle by which hues turn"
    )
    erasing: float = field(
        0.0, rules.SHARE, "share of the images in which a box becomes noise"
    )
    mixup: float = field(0.0, rules.NOT_NEGATIVE, "alpha of mixup; 0 is off")
    cutmix: float = field(
        0.0,
        rules.NOT_NEGATIVE,
        "alpha of cutmix; 0 is off; with mixup, either by chance",
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which network."""

    name: str = field("astroformer_nano", rules.MODEL, "row of the model table")
    stack: str = field(
        "", rules.STACK, "letters of each stage; empty is the model's own"
    )
    strides: tuple[int, ...] = field(
        (), rules.STRIDES, "of a hybrid; empty leaves a last map of 4x4 or more"
    )
    patch_size: int = field(
        0,
        rules.whole_number(0),
        "of a ViT; 0 is 16 px, or what leaves 7x7 patches or more",
    )
    attention: str = field(
        "pre", rules.one_of("pre", "post"), "relative bias before or after the softmax"
    )
    drop_path: float = field(0.0, rules.RATE, "stochastic depth of the last block")
    dropout: float = field(0.0, rules.RATE, "before the classifier")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What training minimizes."""

    name: str = field(
        "softmax",
        rules.row_of("hybrid_jax.training.losses:LOSSES"),
        "cross-entropy over all classes (softmax), of each (sigmoid), or focal",
    )
    label_smoothing: float = field(
        0.1, rules.RATE, "share of a label's mass that all classes get alike"
    )
    class_weights: str = field(
        "none",
        rules.row_of("hybrid_jax.training.losses:CLASS_WEIGHTS"),
        "of each class in the loss; balanced favors rare classes",
    )
    focal_gamma: float = field(
        2.0, rules.NOT_NEGATIVE, "of focal: exponent that makes easy classes count less"
    )


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """How weights are updated."""

    name: str = field(
        "adamw",
        rules.row_of("hybrid_jax.training.optimizers:OPTIMIZERS"),
        "what updates weights; learning rates start at 1e-3 for adamw, 0.1 for sgd",
    )
    learning_rate: float = field(1e-3, rules.POSITIVE, "peak, at the end of warm-up")
    schedule: str = field(
        "cosine",
        rules.row_of("hybrid_jax.training.schedules:SCHEDULES"),
        "how the learning rate falls after warm-up",
    )
    warmup_epochs: float = field(
        5.0, rules.NOT_NEGATIVE, "epochs in which the learning rate rises"
    )
    decay_epochs: tuple[float, ...] = field(
        (), rules.EPOCHS, "of step: epochs after which the learning rate falls"
    )
    decay_factor: float = field(
        0.1, rules.FACTOR, "of step: factor of the learning rate at each fall"
    )
    weight_decay: float = field(
        0.05,
        rules.NOT_NEGATIVE,
        "of weights, not of biases and norms; for sgd try 5e-4",
    )
    momentum: float = field(0.9, rules.RATE, "of sgd: Nesterov momentum")
    layer_decay: float = field(
        1.0, rules.FACTOR, "of the learning rate from a layer to the one before it"
    )
    clip_norm: float = field(1.0, rules.NOT_NEGATIVE, "global gradient norm; 0 is off")
    sam_rho: float = field(
        0.0, rules.NOT_NEGATIVE, "radius of SAM (sharpness), such as 0.05; 0 is off"
    )
    lookahead_steps: int = field(
        0,
        rules.whole_number(0),
        "of Lookahead, between moves of the slow weights; 0 is off",
    )
    ema_decay: float = field(
        0.999,
        rules.RATE,
        "of the averaged weights that are evaluated; 0 averages none",
    )
    accumulate: int = field(
        1,
        rules.whole_number(1),
        "micro-batches a step; each is batch_size / accumulate images",
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long a run is, and what it writes."""

    epochs: int = field(100, rules.whole_number(1), "passes over the training split")
    batch_size: int = field(128, rules.whole_number(1), "images a step")
    micro_batch: str = field(
        "auto",
        Rule("auto or off", lambda v: v in ("auto", "off", "")),
        "auto adds up gradients of as many images at a time as fit into memory",
        free=True,
    )
    sampling: str = field(
        "uniform",
        rules.row_of("hybrid_jax.data.sampler:SAMPLINGS"),
        "of images, or of classes first",
    )
    scan: str = field(
        "auto",
        rules.one_of("auto", "on", "off"),
        "compile alike blocks once, and loop over them; auto does on accelerators",
        free=True,
    )
    remat: str = field(
        "none",
        rules.one_of("none", "products", "full"),
        "what backward computes again, to save memory: all but products, or all",
        free=True,
    )
    eval_every: int = field(
        1,
        rules.whole_number(1),
        "epochs between checkpoints, and evaluations",
        free=True,
    )
    eval_batch_size: int = field(
        256, rules.whole_number(1), "images a device pass", free=True
    )
    log_every: int = field(
        50, rules.whole_number(1), "steps between lines of metrics", free=True
    )
    checkpoint: str = field(
        "best",
        rules.one_of("best", "last"),
        "whose weights are tested: the best on validation, or the last",
    )
    patience: int = field(
        0,
        rules.whole_number(0),
        "evaluations without a better one that end a run; 0 is off",
    )
    non_finite: str = field(
        "stop",
        rules.one_of("stop", "skip"),
        "at a loss that is not finite: end, or go back and leave two batches out",
        free=True,
    )
    max_skips: int = field(
        3, rules.whole_number(1), "how often to go back, at most", free=True
    )
    keep: int = field(
        2, rules.whole_number(2), "newest checkpoints kept, beside the best", free=True
    )


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """Which devices share the work, and how."""

    kind: str = field(
        "jit",
        rules.one_of("jit", "pmap"),
        "one program over all devices, or one on each, the old way",
        free=True,
    )
    devices: int = field(
        0,
        rules.whole_number(0),
        "how many share a batch; 0 is all of all hosts",
        free=True,
    )
    fsdp: int = field(
        1,
        rules.whole_number(1),
        "of jit: devices that each keep a part of the parameters, to save memory",
        free=True,
    )


@dataclasses.dataclass(frozen=True)
class DebugConfig:
    """Faults on purpose, to see what a run makes of them."""

    inject: str = field(
        "", rules.FAULT, "a fault with a step's batch: nan@30 or term@30", free=True
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """An experiment."""

    seed: int = field(0, rules.SEED, "of initialization, data order and augmentation")
    dtype: str = field(
        "auto",
        rules.one_of("auto", "float32", "bfloat16"),
        "of activations and products; auto is bfloat16 on accelerators",
    )
    compilation_cache: bool = field(
        True,
        rules.SWITCH,
        "keep compiled programs in the user's cache folder",
        local=True,
    )
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    init_from: str = field(
        "", rules.PATH, "weights to start from: .safetensors, .pth, or a run's folder"
    )
    init_checkpoint: str = field(
        "",
        rules.CHECKPOINT,
        "of such a folder: best, last or a step; empty is the one that was tested",
    )
    freeze: tuple[str, ...] = field(
        (), rules.PATTERNS, "parameters that are kept, by patterns of their paths"
    )
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    parallel: ParallelConfig = ParallelConfig()
    debug: DebugConfig = DebugConfig()

    @classmethod
    def from_flat(cls, values: dict[str, Any]) -> "Config":
        """Make a config of values by name; the others are at their defaults.

        Args:
          values: such as `{"optim.learning_rate": 0.001}`; names in `FIELDS` alone.
        """
        return cls().replace(values)

    def replace(self, values: dict[str, Any]) -> "Config":
        """Return the config with other values of some fields, by name."""
        groups: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            group, _, leaf = name.rpartition(".")
            groups.setdefault(group, {})[leaf] = value
        changed = groups.pop("", {}) | {
            group: dataclasses.replace(getattr(self, group), **leaves)
            for group, leaves in groups.items()
        }
        return dataclasses.replace(self, **changed)

    def flat(self) -> dict[str, Any]:
        """Return every value by its field's name, in the order of `FIELDS`."""
        return {name: value_of(self, name) for name in FIELDS}


FIELDS: dict[str, Field] = fields_of(Config)
