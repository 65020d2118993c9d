"""Every field of an experiment, with its default, its rule and its meaning.

Config files and flags start from these defaults, `hybrid-jax fields` prints the
meanings, and the program passes these dataclasses around. To add a field, add it to a
group here, in `data_fields` or in `training_fields`. The rules are in
`hybrid_jax.config.rules`.
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
    """The network."""

    name: str = field("astroformer_nano", rules.MODEL, "name of the model")
    stack: str = field(
        "", rules.STACK, "letters of the blocks in each stage; empty is the model's own"
    )
    strides: tuple[int, ...] = field(
        (),
        rules.STRIDES,
        "for a hybrid: empty chooses strides that leave a last map of 4x4 or more",
    )
    patch_size: int = field(
        0,
        rules.whole_number(0),
        "for a ViT: side of a patch in pixels; 0 is 16, or less to have 7x7 patches",
    )
    attention: str = field(
        "pre",
        rules.one_of(*CHOICES["attention"]),
        "adds the relative bias before (pre) or after (post) the softmax",
    )
    relative_bias: str = field(
        "",
        rules.one_of("", *CHOICES["relative_bias"]),
        "source of the relative bias; torus takes offsets modulo the size of the map; "
        "empty is the model's own",
    )
    padding: str = field(
        "",
        rules.one_of("", *CHOICES["padding"]),
        "padding of convolutions and local attention; empty is the model's own",
    )
    downsample: str = field(
        "strided",
        rules.one_of(*CHOICES["downsample"]),
        "strided is a plain stride, blur puts a low-pass filter before it, aps takes "
        "the phase of largest norm (adaptive polyphase sampling)",
    )
    drop_path: float = field(
        0.0,
        rules.RATE,
        "stochastic depth: drop rate of the last block; from the first block on, the "
        "rate rises evenly from 0 to it",
    )
    dropout: float = field(0.0, rules.RATE, "dropout rate before the classifier")


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """The devices that share a run, and how they share it."""

    kind: str = field(
        "jit",
        rules.one_of("jit", "pmap"),
        "jit runs one program over all devices, pmap (older) one on each device",
        free=True,
    )
    devices: int = field(
        0,
        rules.whole_number(0),
        "number of devices that share a batch; 0 is all devices of all hosts",
        free=True,
    )
    fsdp: int = field(
        1,
        rules.whole_number(1),
        "for kind=jit: devices that each keep a part of the parameters, to save memory",
        free=True,
    )


@dataclasses.dataclass(frozen=True)
class DebugConfig:
    """Injected faults, to test how a run handles them."""

    inject: str = field(
        "",
        rules.FAULT,
        "fault to inject: nan@30 makes the images of the 30th batch NaN, term@30 sends "
        "SIGTERM at that batch",
        free=True,
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """An experiment."""

    seed: int = field(
        0, rules.SEED, "seed of initialization, data order and augmentation"
    )
    dtype: str = field(
        "auto",
        rules.one_of("auto", "float32", "bfloat16"),
        "type of activations and matrix products; auto is bfloat16 on accelerators",
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
        "",
        rules.PATH,
        "weights to start from: a .safetensors or .pth file, or a run's folder",
    )
    init_checkpoint: str = field(
        "",
        rules.CHECKPOINT,
        "for a run in init_from: best, last or a step; all, or several with commas, "
        "takes their mean; empty is the checkpoint that the run tested",
    )
    freeze: tuple[str, ...] = field(
        (),
        rules.PATTERNS,
        "parameters that are not trained, as patterns of their paths",
    )
    loss: LossConfig = dataclasses.field(default=LossConfig())
    optim: OptimConfig = dataclasses.field(default=OptimConfig())
    train: TrainConfig = dataclasses.field(default=TrainConfig())
    parallel: ParallelConfig = ParallelConfig()
    debug: DebugConfig = DebugConfig()

    @classmethod
    def from_flat(cls, values: dict[str, Any]) -> "Config":
        """Return a config with the given values; other fields have their defaults.

        Args:
          values: by name, such as `{"optim.learning_rate": 0.001}`; all in `FIELDS`.
        """
        return cls().replace(values)

    def replace(self, values: dict[str, Any]) -> "Config":
        """Return a copy of the config with new values of some fields, by name."""
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
