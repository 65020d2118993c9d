"""Turn the values of files and flags into a `Config`, and check them once.

A config file starts from `default()`, a `ConfigDict`, and changes some fields.
`resolve` checks the `ConfigDict` and returns frozen dataclasses. The rest of the
program sees only those.
"""

import ast
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict, FieldReference

from hybrid_jax.config.effects import check_effects
from hybrid_jax.config.field import Field
from hybrid_jax.config.schema import FIELDS, Config, ModelConfig
from hybrid_jax.config.suggestions import shorter_warmup, unknown_field
from hybrid_jax.errors import UserError, closest, plural
from hybrid_jax.models.block_config import BlockConfig
from hybrid_jax.models.choices import (
    CHOICES,
    check_heads,
    check_torus,
    check_windows,
)
from hybrid_jax.models.registry import (
    MODELS,
    HybridRow,
    ViTRow,
    block_plan,
    parse_stack,
    passes_strides_over,
)
from hybrid_jax.models.strides import as_size, check_strides, choose_strides


def default() -> ConfigDict:
    """Return a config with all defaults; setting a misspelled field is an error."""
    return to_config_dict({name: field.default for name, field in FIELDS.items()})


def to_config_dict(flat: dict[str, Any]) -> ConfigDict:
    """Turn values by name into a locked `ConfigDict` that nests the groups."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, leaf = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        # ml_collections allows only the type of the first value; `object` allows any.
        several = name in FIELDS and str in FIELDS[name].types[1:]
        node[leaf] = FieldReference(value, field_type=object) if several else value
    return ConfigDict(tree).lock()


def flatten(config: ConfigDict | dict[str, Any]) -> dict[str, Any]:
    """Return all values by name, such as `optim.learning_rate`; lists become tuples."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, (ConfigDict, dict)):
            flat |= {f"{name}.{leaf}": v for leaf, v in flatten(value).items()}
        else:
            flat[name] = tuple(value) if isinstance(value, list) else value
    return flat


def resolve(config: ConfigDict | Config, is_stored: bool = False) -> Config:
    """Check every field, then their combinations, and return the config.

    Args:
      config: the values.
      is_stored: whether a run was trained with them. Then fields may be without effect,
        which an earlier version allowed.

    Raises:
      UserError: names the field, its value and what is allowed.
    """
    if not isinstance(config, Config | ConfigDict | dict):
        raise UserError(
            f"a config is needed, not {config!r}: give an experiment such as 'digits', "
            "or change hybrid_jax.config.default()"
        )
    values = config.flat() if isinstance(config, Config) else flatten(config)
    resolved = Config.from_flat(check_values(values))
    _check_together(resolved)
    if not is_stored:
        check_effects(resolved)
    return resolved


def check_values(values: dict[str, Any]) -> dict[str, Any]:
    """Check the value of each field by itself, and return plain values.

    Args:
      values: of all fields, by name.

    Raises:
      UserError: a field is unknown, missing, or has a value that is not allowed.
    """
    for name in {**values, **FIELDS}:
        if name not in FIELDS:
            raise UserError(unknown_field(name))
        if name not in values:
            raise UserError(f"config.{name} is missing: start from config.default()")
    checked = {name: plain(value) for name, value in values.items()}
    for name, value in checked.items():
        _check_field(name, value, FIELDS[name])
    return checked


def plain(value: Any) -> Any:
    """Turn a NumPy number, as in scikit-learn's grids, into a Python number."""
    return value.item() if isinstance(value, np.generic) else value


def parse_value(name: str, text: str) -> Any:
    """Read a field's value from a command line.

    Args:
      name: of the field.
      text: the value, as it was typed.

    Returns:
      The value, in one of the field's types.

    Raises:
      UserError: the text has another type; says what is allowed.
    """
    field = FIELDS[name]
    for kind in field.types:
        with contextlib.suppress(ValueError):
            return _PARSERS[kind](text, field)
    raise UserError(_refusal(name, text or "''"))


def read_value(name: str, text: str) -> Any:
    """Read a field's value from a command line, and check the value.

    Raises:
      UserError: the text has another type, or the value is not allowed.
    """
    value = parse_value(name, text)
    _check_field(name, value, FIELDS[name])
    return value


def check_image_size(image_size: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Refuse an image size that does not go with the strides of a network.

    Args:
      image_size: `(height, width)` in pixels.
      strides: of the stem and of each stage; empty chooses them by the size.

    Raises:
      UserError: names a size or strides that would do.
    """
    height, width = image_size
    size = as_size((height, width))
    try:
        check_strides(size, strides or choose_strides(size))
    except ValueError as error:
        raise UserError(
            f"{error} (config.data.image_size, config.model.strides)"
        ) from None


def _check_field(name: str, value: Any, field: Field) -> None:
    # A default is not looked up in its table, whose import may need jax.
    if type(value) not in field.types or not (
        value == field.default or field.rule.holds(value)
    ):
        hint = closest(value, MODELS) if name == "model.name" else ""
        raise UserError(_refusal(name, repr(value)) + hint)


def _refusal(name: str, shown: str) -> str:
    return f"config.{name}={shown} is not allowed: {FIELDS[name].rule.words}"


def _parse_tuple(text: str, field: Field) -> tuple:
    """Read a tuple such as `64,64`, `(64, 64)` or `('stem', 'head')`, or one item.

    Raises:
      ValueError: the text is no tuple that the field allows.
    """
    if not text.strip():
        return ()
    try:
        literal = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError):  # a plain text, such as stage[12]
        literal = text
    except (MemoryError, RecursionError):  # nested too deeply
        raise ValueError from None
    if isinstance(literal, (tuple, list)):
        values = [tuple(literal)]
    else:
        values = [(literal,), (text,)]
    for value in values:
        with contextlib.suppress(TypeError):  # a rule for numbers may be given a text
            if field.rule.holds(value):
                return value
    raise ValueError


_PARSERS: dict[type, Callable[[str, Field], Any]] = {
    bool: lambda text, field: flags.BooleanParser().parse(text),
    int: lambda text, field: int(text),
    float: lambda text, field: float(text),
    str: lambda text, field: text,
    tuple: _parse_tuple,
}


def _check_together(config: Config) -> None:
    batch, micro_batches = config.train.batch_size, config.optim.accumulate
    if batch % micro_batches:
        raise UserError(
            f"config.optim.accumulate={micro_batches} does not divide "
            f"config.train.batch_size={batch}: change one of them"
        )
    warmup, epochs = config.optim.warmup_epochs, config.train.epochs
    if warmup >= epochs and _counts_epochs(config):
        raise UserError(
            f"config.optim.warmup_epochs={warmup} is not below "
            f"config.train.epochs={epochs}: give a shorter warm-up, such as "
            f"--config.optim.warmup_epochs={epochs / 10:g}"
        )
    if config.optim.warmup_steps >= config.train.steps > 0:
        raise UserError(
            f"config.optim.warmup_steps={config.optim.warmup_steps} is not below "
            f"config.train.steps={config.train.steps}: give a shorter warm-up, such as "
            f"{shorter_warmup(config.train.steps)}"
        )
    if config.augment.crop_padding and config.augment.crop_scale:
        raise UserError(
            "config.augment.crop_padding and config.augment.crop_scale are two ways to "
            "crop: leave one at 0"
        )
    if config.train.patience and config.data.validation == 0:
        raise UserError(
            f"config.train.patience={config.train.patience} needs a validation "
            "split: leave it at 0, or take another config.data.validation than 0"
        )
    _check_schedule(config)
    _check_stages(config)
    if config.data.image_size:
        row, strides = MODELS[config.model.name], config.model.strides
        if isinstance(row, ViTRow):
            strides = ()
        elif passes_strides_over(row, strides):
            strides = row.strides
        check_image_size(config.data.image_size, strides)
        if isinstance(row, HybridRow):
            _check_torus(config, strides, len(row.depths))


def _check_torus(config: Config, strides: tuple[int, ...], stages: int) -> None:
    """Refuse an image size that circular padding or `aps` does not allow.

    Raises:
      UserError: names a size that would do.
    """
    height, width = config.data.image_size
    size = as_size((height, width))
    strides = strides or choose_strides(size, stages)
    try:
        check_torus(block_config_of(config.model), size, strides)
    except ValueError as error:
        raise UserError(f"config.model.{error} (config.data.image_size)") from None


def block_config_of(model: ModelConfig) -> BlockConfig:
    """Return the block config of a hybrid, with the choices of a `ModelConfig`."""
    chosen = {name: getattr(model, name) for name in CHOICES if getattr(model, name)}
    return dataclasses.replace(MODELS[model.name].block_config, **chosen)


def _check_schedule(config: Config) -> None:
    """Refuse `one_cycle` without a warm-up, and falls of `step` outside the run."""
    optim, epochs, steps = config.optim, config.train.epochs, config.train.steps
    warmup = optim.warmup_epochs or optim.warmup_steps
    if steps == 1 and optim.schedule in ("one_cycle", "step"):
        raise UserError(
            f"config.optim.schedule={optim.schedule!r} changes the learning rate "
            "within a run, and config.train.steps=1: give more, or another schedule"
        )
    if optim.schedule == "one_cycle" and not warmup:
        longer = f"warmup_epochs={0.3 * epochs:g}"
        if steps:
            longer = f"warmup_steps={max(int(0.3 * steps), 1)}"
        raise UserError(
            "config.optim.schedule='one_cycle' rises during warm-up, and there is "
            f"none: give one, such as --config.optim.{longer}"
        )
    if optim.schedule == "step" and not optim.decay_epochs:
        where = f"such as {0.5 * epochs:g},{0.75 * epochs:g}"
        if steps:
            where = f"within the run's {plural(steps, 'step')}"
        raise UserError(
            "config.optim.schedule='step' needs epochs at which it falls: give "
            f"config.optim.decay_epochs, {where}"
        )
    for epoch in optim.decay_epochs:
        if _counts_epochs(config) and not optim.warmup_epochs < epoch < epochs:
            raise UserError(
                f"config.optim.decay_epochs={optim.decay_epochs!r} has {epoch}, and "
                "the learning rate can fall only after "
                f"config.optim.warmup_epochs={optim.warmup_epochs} and before "
                f"config.train.epochs={epochs}"
            )


def _counts_epochs(config: Config) -> bool:
    """Return whether the lengths of the run and of its warm-up are given in epochs."""
    return not config.train.steps and not config.optim.warmup_steps


def _check_stages(config: Config) -> None:
    """Refuse a stack or strides that do not suit the model."""
    row = MODELS[config.model.name]
    if isinstance(row, ViTRow):
        return
    stack, strides = parse_stack(config.model.stack) or row.stack, config.model.strides
    if len(stack) != len(row.depths):
        raise UserError(
            f"config.model.stack={config.model.stack!r} names {len(stack)} stages, and "
            f"{config.model.name} has {len(row.depths)}: name as many"
        )
    is_used = strides and not passes_strides_over(row, strides)
    if is_used and len(strides) != 1 + len(row.depths):
        raise UserError(
            f"config.model.strides={strides!r} has {len(strides)} strides, and "
            f"{config.model.name} takes {1 + len(row.depths)}: give one for the stem, "
            "and one for each stage"
        )
    try:
        plan = block_plan(stack, row.widths, row.depths)
        blocks = block_config_of(config.model)
        check_heads(plan, row.stem_widths[-1], blocks)
        check_windows(plan, blocks)
    except ValueError as error:
        raise UserError(f"{error} (config.model.stack, config.model.name)") from None
