"""Checks of labels and groups that are passed as arrays."""

from collections.abc import Iterable, Mapping, MappingView, Sequence, Set
from typing import Any

import numpy as np

from hybrid_jax.data.names import class_name, sort_key
from hybrid_jax.data.sources.image_checks import as_array
from hybrid_jax.errors import UserError, at, closest, elide, listed, plural, shape_text


def encode_labels(labels: Any, classes: Sequence[str], name: str) -> np.ndarray:
    """Encode labels that name classes as indices int32 `[N]`.

    Args:
      labels: `[N]`, names of classes; numbers where classes are named by numbers.
      classes: names, in the order of the numbers.
      name: name of the labels in errors, such as `test`; may be empty.

    Raises:
      UserError: some labels are no classes.
    """
    values = check_labels(labels, name)
    numbers = {label_name(each): number for number, each in enumerate(classes)}
    found, inverse = np.unique(values, return_inverse=True)
    names = [label_name(value) for value in found]
    unknown = [label for label in names if label not in numbers]
    if unknown:
        way_out = (
            "; give names: np.array(classes)[labels]"
            if values.dtype.kind in "iu"
            else closest(unknown[0], classes)
        )
        raise UserError(
            f"{at(name)}{plural(len(unknown), 'unknown label')} for this run: "
            f"{listed([*map(repr, unknown)])}; its classes are "
            f"{listed([*map(repr, classes)])}{way_out}"
        )
    return np.array([numbers[n] for n in names], np.int32)[inverse.reshape(-1)]


def check_labels(labels: Any, name: str, noun: str = "label") -> np.ndarray:
    """Check labels, and return them as an array `[N]` of numbers or text.

    Text, and bytes in its place, become the names that class folders would have.

    Args:
      labels: `[N]`, array-like.
      name: name of the labels in errors, such as `train`.
      noun: what one of them is called in errors, such as `group`.

    Raises:
      UserError: there is not one label per image, or labels are mixed or missing.
    """
    refuse_masked_labels(labels, name, noun)
    array = _to_array(labels, name, noun)
    if array.ndim != 1:
        way_out = ""
        if array.ndim == 2:
            way_out = (
                f": for a column, {noun}s.ravel()"
                if array.shape[1] == 1
                else f": for one-hot labels, {noun}s.argmax(1)"
            )
        raise UserError(
            f"{at(name)}{noun}s are {shape_text(array.shape)}, and one per image is "
            f"needed{way_out}"
        )
    if array.dtype.kind in "SUT":
        found, inverse = np.unique(array, return_inverse=True)
        _refuse_nul(found, name, noun)
        return np.array([*map(label_name, found)], str)[inverse]
    return _whole_numbers(array, name, noun) if array.dtype.kind == "f" else array


def _whole_numbers(array: np.ndarray, name: str, noun: str) -> np.ndarray:
    """Return floats `[N]` as integers if all are whole numbers, else unchanged.

    Raises:
      UserError: some are NaN or infinite, or too large to be exact.
    """
    if missing := int((~np.isfinite(array)).sum()):
        raise _unlabeled(missing, array, name, noun, "NaN or infinite")
    if (np.abs(array) >= np.float64(2**53)).any():  # as float16, it would be infinite
        raise UserError(
            f"{at(name)}{noun}s of 2**53 and more are not exact as {array.dtype}: "
            "give them as whole numbers or as text"
        )
    integers = array.astype(np.int64)
    return integers if (integers == array).all() else array


def _to_array(labels: Any, name: str, noun: str) -> np.ndarray:
    """Convert labels to an array; NumPy would turn numbers among text into text."""
    is_table = hasattr(labels, "columns")
    is_unordered = isinstance(labels, Mapping | Set)
    if is_table or (is_unordered and not isinstance(labels, MappingView)):
        one_column = f"one column; for one-hot {noun}s, {noun}s.to_numpy().argmax(1)"
        raise UserError(
            f"{at(name)}{noun}s are a {type(labels).__name__}, and one per image is "
            f"needed, in their order: give {one_column if is_table else 'a list'}"
        )
    if not hasattr(labels, "dtype"):
        try:
            labels = np.array([*labels], object)
        except TypeError:
            raise UserError(
                f"{at(name)}{noun}s are {type(labels).__name__}, and a list or an "
                "array is needed"
            ) from None
    array = as_array(labels, f"{at(name)}{noun}s are")
    _refuse_missing(array, name, noun)
    if array.dtype.kind != "O":
        return array
    _refuse_nul(array.ravel(), name, noun)
    kinds = {_kind(value) for value in array.ravel()}
    if len(kinds) > 1:
        raise UserError(
            f"{at(name)}{noun}s are of several types ({', '.join(sorted(kinds))}): "
            "give all as numbers, or all as text"
        )
    try:
        return np.array(array.tolist())
    except ValueError:  # lists of several lengths
        raise UserError(
            f"{at(name)}{noun}s are lists: give one value an image"
        ) from None


def check_groups(groups: Any, name: str) -> np.ndarray:
    """Check groups, and return them as text `[N]`, as tables have them.

    Args:
      groups: `[N]`, numbers or text.
      name: name of the groups in errors, such as `train`; may be empty.

    Raises:
      UserError: there is not one group per image, or groups are mixed or missing.
    """
    return np.array([*map(label_name, check_labels(groups, name, "group"))], object)


def refuse_masked_labels(labels: Any, name: str, noun: str = "label") -> None:
    """Refuse labels that are masked, which NumPy would show unmasked.

    Args:
      labels: `[N]`, array-like.
      name: name of the labels in errors.
      noun: what one of them is called in errors.

    Raises:
      UserError: some are masked.
    """
    if np.ma.is_masked(labels):
        raise _unlabeled(np.ma.count_masked(labels), labels, name, noun, "masked")


def _refuse_missing(array: np.ndarray, name: str, noun: str) -> None:
    """Refuse labels without a value, except NaN in floats; see `_whole_numbers`.

    Raises:
      UserError: some are None, NaN, or pandas's NA or NaT.
    """
    if array.dtype.kind in "OT":
        values = array.astype(object).ravel()
    else:  # NaT and complex NaN alone differ from themselves
        values = array[array != array] if array.dtype.kind in "cmM" else array[:0]
    missing = [value for value in values if _is_missing(value)]
    if missing:
        kinds = ", ".join(sorted({*map(str, missing)}))
        raise _unlabeled(len(missing), array, name, noun, f"missing ({kinds})")


def _is_missing(value: Any) -> bool:
    if value is None or value is np.ma.masked:
        return True
    if isinstance(value, (str, bytes, int)):
        return False
    try:
        return bool(value != value)
    except TypeError:  # pandas's NA is neither true nor false
        return True
    except ValueError:  # of an array
        return False


def _unlabeled(count: int, labels: Any, name: str, noun: str, what: str) -> UserError:
    return UserError(
        f"{at(name)}{plural(count, noun)} of {np.size(labels):,} "
        f"{'is' if count == 1 else 'are'} {what}: leave those images out"
    )


def _refuse_nul(values: Iterable[Any], name: str, noun: str) -> None:
    """Refuse text with the character NUL; without it, two labels could become one."""
    texts = (value for value in values if isinstance(value, (str, bytes)))
    if any("\0" in text if isinstance(text, str) else 0 in text for text in texts):
        raise UserError(
            f"{at(name)}a {noun} holds the character NUL, which NumPy drops at its "
            "end: give it another name"
        )


def _kind(value: Any) -> str:
    kinds = ((str, "text"), (bool, "bool"), (np.bool_, "bool"))
    for kind, word in kinds:
        if isinstance(value, kind):
            return word
    if isinstance(value, (int, float, np.number)):
        return "numbers"
    return type(value).__name__


def label_name(value: Any) -> str:
    """Return the name of a class, formed like the names of class folders."""
    is_bytes = isinstance(value, bytes)
    text = value.decode(errors="surrogateescape") if is_bytes else str(value)
    return class_name(text)


def encode_classes(
    labels: dict[str, np.ndarray],
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return the names of all classes, and labels of each split as indices into them.

    Args:
      labels: labels of each split, `[N]`, numbers or text.

    Returns:
      Class names, and labels int32 `[N]` of each split.

    Raises:
      UserError: some splits have numbers, and others text; or values have no order.
    """
    kinds = {name: _values_in_words(split) for name, split in labels.items()}
    if len({*kinds.values()}) > 1:
        kinds_found = ", ".join(f"{kind} in {name}" for name, kind in kinds.items())
        raise UserError(
            f"labels are {kinds_found}: give all as numbers, or all as text"
        )
    labels = {name: _signed(split) for name, split in labels.items()}
    try:
        distinct = [np.unique(split) for split in labels.values()]
        values = np.unique(np.concatenate(distinct))
    except TypeError:
        kind = type(labels["train"][0]).__name__
        raise UserError(
            f"labels of the type {kind} have no order: give numbers or text"
        ) from None
    if kinds["train"] == "text":
        values = np.array(sorted(values, key=sort_key(values)))
    classes = tuple(map(label_name, values))
    order = np.argsort(values)
    return classes, {
        name: order[np.searchsorted(values, split, sorter=order)].astype(np.int32)
        for name, split in labels.items()
    }


def check_classes(classes: tuple[str, ...], labels: dict[str, np.ndarray]) -> None:
    """Refuse labels of a single class, and classes without a training image.

    Args:
      classes: class names, in the order of the labels.
      labels: int32 `[N]` of each split.

    Raises:
      UserError: there is one class only, or a class has no training image.
    """
    counts = np.bincount(labels["train"], minlength=len(classes))
    if (counts > 0).sum() == 1:
        only = classes[int(counts.argmax())]
        raise UserError(f"train: all labels are {only!r}: two classes are needed")
    for name, split in labels.items():
        if not counts[split].all():
            absent = np.unique(split[counts[split] == 0])
            missing = [repr(elide(classes[label])) for label in absent]
            raise UserError(
                f"{name}: train lacks {len(missing)} of its classes: {listed(missing)};"
                " add images of them to train, or leave them out"
            )


def _values_in_words(array: np.ndarray) -> str:
    """Return what labels are in words: `text`, `numbers`, or the name of their type."""
    if array.dtype.kind in "OMm" and len(array) and not isinstance(array[0], int):
        return type(array[0]).__name__
    return "text" if array.dtype.kind == "U" else "numbers"


def _signed(array: np.ndarray) -> np.ndarray:
    """Return whole numbers without a sign so that others can join them exactly.

    NumPy joins int64 and uint64 as floats.
    """
    if array.dtype.kind != "u":
        return array
    is_small = not len(array) or array.max() <= np.iinfo(np.int64).max
    return array.astype(np.int64 if is_small else object)
