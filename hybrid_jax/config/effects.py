"""Fields that have no effect for some values of others, which are refused.

To declare such a field, add a row to `EFFECTS`.
"""

import itertools
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from hybrid_jax.config.data_fields import IN_MEMORY, OF_FOLDERS
from hybrid_jax.config.schema import FIELDS, Config, ModelConfig
from hybrid_jax.errors import UserError
from hybrid_jax.models.choices import CHOICES
from hybrid_jax.models.registry import (
    MODELS,
    ViTRow,
    attends,
    passes_strides_over,
)


def _is_vit(name: str) -> bool:
    return isinstance(MODELS[name], ViTRow)


def _is_hybrid(name: str) -> bool:
    return not _is_vit(name)


def _is_folder(name: str) -> bool:
    return name == "folder"


class Effect(NamedTuple):
    """A row of `EFFECTS`: fields that have no effect for some values of another.

    Attributes:
      deciding: name of the other field.
      holds: whether the fields have no effect, given its value.
      others: names of the fields.
      way_out: what to do instead of leaving a field out; may be empty.
    """

    deciding: str
    holds: Callable[[Any], bool]
    others: tuple[str, ...]
    way_out: str


EFFECTS = (
    Effect(
        "model.name",
        _is_vit,
        ("model.stack", *(f"model.{name}" for name in CHOICES)),
        "take a hybrid",
    ),
    Effect("model.name", _is_hybrid, ("model.patch_size",), "take a ViT"),
    Effect("data.name", _is_folder, ("data.label", "data.manual_dir"), ""),
    Effect("data.name", lambda name: name == "digits", ("data.manual_dir",), ""),
    Effect(
        "data.name",
        lambda name: not _is_folder(name),
        OF_FOLDERS,
        "take configs/folder.py",
    ),
    Effect(  # images in memory may be files, whose paths name groups
        "data.name",
        lambda name: not _is_folder(name) and name != IN_MEMORY,
        ("data.group", "data.on_error"),
        "take configs/folder.py",
    ),
    Effect(
        "data.loader",
        lambda name: name == "resident",
        ("data.workers",),
        "take config.data.loader=stream",
    ),
    Effect(
        "data.protocol",
        lambda name: name != "none",
        ("data.fraction",),
        "take config.data.per_class",
    ),
    Effect(
        "optim.schedule",
        lambda name: name in ("cosine", "one_cycle", "constant"),
        ("optim.decay_epochs", "optim.decay_factor"),
        "take config.optim.schedule=step",
    ),
    Effect(
        "optim.name",
        lambda name: name in ("adamw", "lamb", "muon"),
        ("optim.momentum",),
        "take config.optim.name=sgd",
    ),
    Effect(
        "train.sampling",
        lambda name: name == "balanced",
        ("loss.class_weights",),
        "take config.train.sampling=uniform: each of both balances the classes",
    ),
    Effect(
        "augment.policy",
        lambda name: name != "rand_augment",
        ("augment.operations", "augment.magnitude"),
        "take config.augment.policy=rand_augment",
    ),
    Effect(
        "train.non_finite",
        lambda name: name == "stop",
        ("train.max_skips",),
        "take config.train.non_finite=skip",
    ),
    Effect("init_from", lambda path: not path, ("init_checkpoint",), "give a run"),
    Effect(
        "model.relative_bias",
        lambda name: name == "none",
        ("model.attention",),
        "leave the bias in",
    ),
    Effect(
        "loss.name",
        lambda name: name in ("softmax", "sigmoid"),
        ("loss.focal_gamma",),
        "take config.loss.name=focal",
    ),
)


# Fields that count steps, and those that they replace. Experiments set both, so only
# the command line is checked.
IN_STEPS = {
    "train.steps": "train.epochs",
    "train.eval_every_steps": "train.eval_every",
    "optim.warmup_steps": "optim.warmup_epochs",
}

# Like `EFFECTS`, for fields that a search varies; experiments set them nevertheless.
OF_VARIED = (
    *(
        Effect(deciding, bool, (other,), f"take config.{deciding}=0")
        for deciding, other in IN_STEPS.items()
    ),
    Effect("model.name", _is_vit, ("model.strides",), "take a hybrid"),
)
OF_ATTENTION = ("model.attention", "model.relative_bias")
NO_ATTENTION = (
    "no relative attention: leave it out, or take a model with T in its stack"
)


def check_changed(changed: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuse what the command line sets without effect.

    Experiments set these fields too, for whatever model or length a user chooses.

    Args:
      changed: the fields that the command line sets, by name.
      values: all fields, by name.

    Raises:
      UserError: names both fields and the way out.
    """
    for deciding, other in IN_STEPS.items():
        if other in changed and values.get(deciding):
            raise UserError(
                f"--config.{other}={changed[other]} has no effect here, since "
                f"config.{deciding}={values[deciding]}: leave it out, or add "
                f"--config.{deciding}=0"
            )
    if "augment.fill" in changed and not _leaves_images(values):
        raise UserError(
            f"--config.augment.fill={changed['augment.fill']} has no effect here, "
            "since no augmentation leaves the image: leave it out, or take "
            "config.augment.crop_padding, symmetry=rotation or a policy"
        )
    if "model.strides" in changed and ignores_strides(values):
        name, strides = values["model.name"], values["model.strides"]
        row = MODELS[name]
        way_out = (
            "take a hybrid"
            if isinstance(row, ViTRow)
            else f"give {1 + len(row.depths)}, as many as its own {row.strides}"
        )
        raise UserError(
            f"--config.model.strides={','.join(map(str, strides))} has no effect with "
            f"config.model.name={name!r}: leave it out, or {way_out}"
        )


def _leaves_images(values: Mapping[str, Any]) -> bool:
    """Return whether an augmentation shows what lies outside of an image."""
    shifts = values.get("augment.crop_padding") and not values.get("augment.crop_scale")
    turns = values.get("augment.symmetry") in ("dihedral", "rotation")
    return bool(shifts or turns or values.get("augment.policy") != "none")


def ignores_strides(values: Mapping[str, Any]) -> bool:
    """Return whether fields, by name, have strides that their model passes over."""
    row, strides = MODELS.get(values.get("model.name", "")), values.get("model.strides")
    return bool(row and strides and passes_strides_over(row, strides))


def check_stored(changed: Mapping[str, Any], config: Config) -> None:
    """Refuse fields that are changed in a stored config without effect.

    Args:
      changed: the fields, by name.
      config: the config with these changes.

    Raises:
      UserError: names both fields and the way out.
    """
    check_changed(changed, config.flat())
    _check_fields(changed, config)


def check_varied(
    flags: Mapping[str, str], varied: Mapping[str, tuple[Any, ...]], config: Config
) -> None:
    """Refuse a field that has no effect, whatever values other fields are varied to.

    Args:
      flags: the flag of each field to check, by the field's name.
      varied: values of the fields that are varied, by name; of a range, both ends.
      config: the values of all other fields.

    Raises:
      UserError: names the flag, the other field and the way out.
    """
    values = {name: (value,) for name, value in config.flat().items()} | {**varied}
    for deciding, holds, others, way_out in (*EFFECTS, *OF_VARIED):
        for name in filter(flags.__contains__, others):
            if all(map(holds, values[deciding])):
                known = f"config.{deciding}={values[deciding][0]!r}"
                raise UserError(
                    f"{flags[name]} has no effect with {flags.get(deciding, known)}: "
                    f"{_leave_out(way_out)}"
                )
    models = [*itertools.product(values["model.name"], values["model.stack"])]
    if not any(_is_hybrid(name) and attends(name, stack) for name, stack in models):
        for name in filter(flags.__contains__, OF_ATTENTION):
            raise UserError(
                f"{flags[name]} has no effect on a model that has {NO_ATTENTION}"
            )


def check_effects(config: Config) -> None:
    """Refuse a changed field that has no effect, given the value of another field.

    Raises:
      UserError: names both fields and the way out.
    """
    _check_fields(FIELDS, config)
    _check_attention(config.model)
    _check_downsample(config)


def _check_fields(names: Container[str], config: Config) -> None:
    """Refuse those of some fields that are changed without effect."""
    values = config.flat()
    for deciding, holds, others, way_out in EFFECTS:
        for name in filter(names.__contains__, others):
            if holds(values[deciding]) and values[name] != FIELDS[name].default:
                raise UserError(
                    f"config.{name}={values[name]!r} has no effect with "
                    f"config.{deciding}={values[deciding]!r}: {_leave_out(way_out)}"
                )


def _leave_out(way_out: str) -> str:
    return f"leave it out{f', or {way_out}' if way_out else ''}"


def _check_downsample(config: Config) -> None:
    """Refuse a form of downsampling for a network that never halves its maps."""
    strides, form = config.model.strides, config.model.downsample
    is_usual = form == FIELDS["model.downsample"].default
    if {*strides} == {1} and not is_usual and not ignores_strides(config.flat()):
        raise UserError(
            f"config.model.downsample={form!r} has no effect with config.model.strides="
            f"{strides!r}: leave it out, or give a stride above 1"
        )


def _check_attention(model: ModelConfig) -> None:
    """Refuse forms of attention for a network that has none.

    A bias on a torus is allowed, since it belongs to what makes any stack equivariant.
    """
    if attends(model.name, model.stack):
        return
    stack = f" with config.model.stack={model.stack!r}" if model.stack else ""
    also = {"model.relative_bias": "torus"}
    for name in OF_ATTENTION:
        value = getattr(model, name.removeprefix("model."))
        if value not in (FIELDS[name].default, also.get(name)):
            raise UserError(
                f"config.{name}={value!r} has no effect on {model.name}{stack}, "
                f"which has {NO_ATTENTION}"
            )
