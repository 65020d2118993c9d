"""Every field of an experiment, with its default, its rule and its meaning.

Files and flags start from these defaults, help prints these meanings, and the parts of
the program are handed these dataclasses. To add a field, add a line to a group: here,
in `data_fields` or in `training_fields`. `hybrid_jax.config.rules` has the rules.
"""

import dataclasses
from typing import Any

from hybrid_jax.config import rules
from hybrid_jax.config.data_fields import AugmentConfig, DataConfig
from hybrid_jax.config.field import Field, field, fields_of, value_of
from hybrid_jax.config.training_fields import LossConfig, OptimConfig, TrainConfig
from hybrid_jax.models.choices import CHOICES


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
        "pre",
        rules.one_of(*CHOICES["attention"]),
        "relative bias before or after the softmax",
    )
    relative_bias: str = field(
        "",
        rules.one_of("", *CHOICES["relative_bias"]),
        "its source; torus: offsets modulo the map; empty is the model's own",
    )
    padding: str = field(
        "",
        rules.one_of("", *CHOICES["padding"]),
        "of convolutions and local attention; empty is the model's own",
    )
    downsample: str = field(
        "strided",
        rules.one_of(*CHOICES["downsample"]),
        "stride, low-pass before it, or the phase of largest norm",
    )
    drop_path: float = field(0.0, rules.RATE, "stochastic depth of the last block")
    dropout: float = field(0.0, rules.RATE, "before the classifier")


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
    data: DataConfig = dataclasses.field(default=DataConfig())
    augment: AugmentConfig = dataclasses.field(default=AugmentConfig())
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
    loss: LossConfig = dataclasses.field(default=LossConfig())
    optim: OptimConfig = dataclasses.field(default=OptimConfig())
    train: TrainConfig = dataclasses.field(default=TrainConfig())
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
