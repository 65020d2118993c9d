"""The config of an experiment: its defaults and its validation.

Both come from one table, `hybrid_jax.config.schema`. A config file starts from
`default()` and changes what its experiment is about.
"""

import ast
import contextlib
import typing

from absl import flags
from ml_collections import ConfigDict, FieldReference

from hybrid_jax.config.schema import FIELDS, Field
from hybrid_jax.config.suggestions import unknown_field
from hybrid_jax.errors import UserError, closest
from hybrid_jax.models.registry import (
    MODELS,
    ViTRow,
    block_plan,
    check_heads,
    parse_stack,
)
from hybrid_jax.models.strides import as_size, check_strides, choose_strides


def default() -> ConfigDict:
    """Every field at its default; a misspelt one cannot be set."""
    return unflatten({name: field.default for name, field in FIELDS.items()})


def flatten(config: ConfigDict | dict) -> dict[str, typing.Any]:
    """`{"optim.learning_rate": 0.001, ...}`, tuples for lists."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, (ConfigDict, dict)):
            flat |= {f"{name}.{leaf}": v for leaf, v in flatten(value).items()}
        else:
            flat[name] = tuple(value) if isinstance(value, list) else value
    return flat


def unflatten(flat: dict[str, typing.Any]) -> ConfigDict:
    """`flatten`, undone; the result is locked."""
    tree = {}
    for name, value in flat.items():
        *groups, leaf = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        several = name in FIELDS and FIELDS[name].types
        # A plain field keeps the type of its first value.
        node[leaf] = FieldReference(value, field_type=object) if several else value
    return ConfigDict(tree).lock()


def validate(config: ConfigDict) -> None:
    """Checks every field, then how they go together.

    Raises:
      UserError: names the field, its value and what is allowed.
    """
    values = flatten(config)
    for name in {**values, **FIELDS}:
        if name not in FIELDS:
            raise UserError(unknown_field(name))
        if name not in values:
            raise UserError(f"config.{name} is missing: start from config.default()")
    for name, field in FIELDS.items():
        _check_field(name, values[name], field)
    _check_together(values)


def _check_field(name: str, value: typing.Any, field: Field) -> None:
    whole = (float, int) if type(field.default) is float else (type(field.default),)
    right_type = type(value) in (field.types or whole)
    if not (right_type and field.rule.holds(value)):
        hint = closest(value, MODELS) if name == "model.name" else ""
        raise UserError(_refusal(name, repr(value)) + hint)


def _refusal(name: str, shown: str) -> str:
    return f"config.{name}={shown} is not allowed: {allowed(name)}"


def allowed(name: str) -> str:
    """Says what a field may be."""
    words = FIELDS[name].rule.allowed
    return words if isinstance(words, str) else words()


def parse_value(name: str, text: str) -> typing.Any:
    """Reads a field's value from a command line.

    Args:
      name: of a field.
      text: as it was typed.

    Returns:
      The value in the field's own type.

    Raises:
      UserError: the text is of another type; says what is allowed.
    """
    field = FIELDS[name]
    for kind in field.types or (type(field.default),):
        with contextlib.suppress(ValueError):
            return _PARSERS[kind](text, field)
    raise UserError(_refusal(name, text or "''"))


def _parse_tuple(text: str, field: Field) -> tuple:
    """Reads `64,64`, `(64, 64)`, `('stem', 'head')`, one text, or nothing.

    Raises:
      ValueError: it is none of these.
    """
    if not text.strip():
        return ()
    try:
        literal = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError):  # a text, such as stage[12]
        literal = text
    if isinstance(literal, (tuple, list)):
        values = (tuple(literal),)
    else:
        values = ((literal,), (text,))
    for value in values:
        if field.rule.holds(value):
            return value
    raise ValueError


_PARSERS: dict[type, typing.Callable[[str, Field], typing.Any]] = {
    bool: lambda text, field: flags.BooleanParser().parse(text),
    int: lambda text, field: int(text),
    float: lambda text, field: float(text),
    str: lambda text, field: text,
    tuple: _parse_tuple,
}


def _check_together(values: dict[str, typing.Any]) -> None:
    batch, pieces = values["train.batch_size"], values["optim.accumulate"]
    if batch % pieces:
        raise UserError(
            f"config.optim.accumulate={pieces} does not divide "
            f"config.train.batch_size={batch}"
        )
    warmup, epochs = values["optim.warmup_epochs"], values["train.epochs"]
    if warmup >= epochs:
        raise UserError(
            f"config.optim.warmup_epochs={warmup} is not below "
            f"config.train.epochs={epochs}"
        )
    if values["augment.crop_padding"] and values["augment.crop_scale"]:
        raise UserError(
            "config.augment.crop_padding and config.augment.crop_scale are two ways to "
            "crop: leave one at 0"
        )
    if values["train.patience"] and values["data.validation"] == 0:
        raise UserError(
            f"config.train.patience={values['train.patience']} needs a validation "
            "split: leave it at 0, or take another config.data.validation than 0"
        )
    _check_data(values)
    _check_model(values)
    if values["data.image_size"]:
        check_image_size(values["data.image_size"], values["model.strides"])


def _check_data(values: dict[str, typing.Any]) -> None:
    """Refuses fields that mean nothing to the data set."""
    folder = values["data.name"] == "folder"
    for field in (
        ("data.label", "data.manual_dir") if folder else ("data.path", "data.group")
    ):
        if values[field] != FIELDS[field].default:
            raise UserError(
                f"config.{field}={values[field]!r} means nothing to "
                f"config.data.name={values['data.name']!r}: leave it out"
                + ("" if folder else ", or take configs/folder.py")
            )


def _check_model(values: dict[str, typing.Any]) -> None:
    """Refuses fields that the model has no use for, and stages that cannot be built."""
    name = values["model.name"]
    row = MODELS[name]
    vit = isinstance(row, ViTRow)
    # Strides suit a data set, for whichever hybrid; a ViT passes them over.
    others = ("stack", "attention") if vit else ("patch_size",)
    for field in (f"model.{other}" for other in others):
        if values[field] != FIELDS[field].default:
            raise UserError(
                f"config.{field}={values[field]!r} means nothing to {name}: leave it "
                f"out, or take {'a hybrid' if vit else 'a ViT'}"
            )
    if vit:
        return
    stack = parse_stack(values["model.stack"]) or row.stack
    try:
        check_heads(block_plan(stack, row.widths, row.depths))
    except ValueError as error:
        raise UserError(f"{error} (config.model.stack, config.model.name)") from None


def check_image_size(image_size: tuple[int, int], strides: tuple[int, ...]) -> None:
    """Refuses a size that the network cannot serve.

    Raises:
      UserError: with a size or strides that would do.
    """
    size = as_size(image_size)
    try:
        check_strides(size, strides or choose_strides(size))
    except ValueError as error:
        raise UserError(
            f"{error} (config.data.image_size, config.model.strides)"
        ) from None
