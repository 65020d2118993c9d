"""Checks of images and labels that are passed as arrays."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from PIL import Image

from hybrid_jax.data.names import class_name
from hybrid_jax.errors import UserError, closest, elide, listed, plural


def check_images(
    images: Any, name: str, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Check images that a caller passes as arrays.

    Args:
      images: uint8 `[N, h, w]` or `[N, h, w, C]`, C being 1 or 3; array-like.
      name: name of the images in errors, such as `train`; may be empty.
      size: `(h, w)` of the images that are usual here, which tells one image from rows
        of pixels; None if any size is.

    Returns:
      uint8 `[N, h, w, C]`; an array is not copied.

    Raises:
      UserError: type, rank or shape is not valid, or a value is masked; the message
        gives the call that converts the images.
    """
    refuse_masked_images(images, name)
    _check_modes(images, name)
    try:
        images = np.asarray(images)
    except ValueError:
        raise UserError(
            f"{_at(name)}images have several sizes: bring them to one, or use a "
            "folder (configs/folder.py)"
        ) from None
    _check_type(images, name)
    _check_rank(images, name, size)
    images = images[..., None] if images.ndim == 3 else images
    if not len(images):
        raise UserError(f"{_at(name)}there is no image in it")
    return images


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
            f"{_at(name)}{plural(len(unknown), 'unknown label')} for this run: "
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
            f"{_at(name)}{noun}s are {shape_text(array.shape)}, and one per image is "
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
            f"{_at(name)}{noun}s of 2**53 and more are not exact as {array.dtype}: "
            "give them as whole numbers or as text"
        )
    integers = array.astype(np.int64)
    return integers if (integers == array).all() else array


def _to_array(labels: Any, name: str, noun: str) -> np.ndarray:
    """Convert labels to an array; NumPy would turn numbers among text into text."""
    is_table = hasattr(labels, "columns")
    if is_table or isinstance(labels, Mapping | Set):
        one_column = f"one column; for one-hot {noun}s, {noun}s.to_numpy().argmax(1)"
        raise UserError(
            f"{_at(name)}{noun}s are a {type(labels).__name__}, and one per image is "
            f"needed, in their order: give {one_column if is_table else 'a list'}"
        )
    if not hasattr(labels, "dtype"):
        try:
            labels = np.array([*labels], object)
        except TypeError:
            raise UserError(
                f"{_at(name)}{noun}s are {type(labels).__name__}, and a list or an "
                "array is needed"
            ) from None
    array = np.asarray(labels)
    _refuse_missing(array, name, noun)
    if array.dtype.kind != "O":
        return array
    _refuse_nul(array.ravel(), name, noun)
    kinds = {_kind(value) for value in array.ravel()}
    if len(kinds) > 1:
        raise UserError(
            f"{_at(name)}{noun}s are of several types ({', '.join(sorted(kinds))}): "
            "give all as numbers, or all as text"
        )
    try:
        return np.array(array.tolist())
    except ValueError:  # lists of several lengths
        raise UserError(
            f"{_at(name)}{noun}s are lists: give one value an image"
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


def refuse_masked_images(images: Any, name: str) -> None:
    """Refuse images with masked values, which NumPy would show unmasked.

    Args:
      images: `[N, ...]`, array-like.
      name: name of the images in errors.

    Raises:
      UserError: values are masked.
    """
    is_array = isinstance(images, np.ndarray) and images.dtype.kind != "O"
    if is_array and not np.ma.isMaskedArray(images):
        return
    counts = [
        int(np.ma.count_masked(part))
        for part in _items(images)
        if np.ma.isMaskedArray(part)
    ]
    if bad := sum(counts):
        rows = plural(sum(map(bool, counts)), "image")
        raise UserError(
            f"{_at(name)}{plural(bad, 'value')} of {rows} {'is' if bad == 1 else 'are'}"
            " masked: leave those images out, or fill them: images.filled(0)"
        )


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
        f"{_at(name)}{plural(count, noun)} of {np.size(labels):,} "
        f"{'is' if count == 1 else 'are'} {what}: leave those images out"
    )


def _refuse_nul(values: Iterable[Any], name: str, noun: str) -> None:
    """Refuse text with the character NUL; without it, two labels could become one."""
    texts = (value for value in values if isinstance(value, (str, bytes)))
    if any("\0" in text if isinstance(text, str) else 0 in text for text in texts):
        raise UserError(
            f"{_at(name)}a {noun} holds the character NUL, which NumPy drops at its "
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
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return class_name(text)


def _check_modes(images: Any, name: str) -> None:
    """Refuse images of Pillow whose numbers are not gray levels or red, green, blue."""
    if isinstance(images, np.ndarray) and images.dtype.kind != "O":
        return
    modes = {each.mode for each in _items(images) if isinstance(each, Image.Image)}
    if others := sorted(modes - {"L", "RGB"}):
        raise UserError(
            f"{_at(name)}images are of Pillow's mode {listed(others)}, and L or RGB is "
            "needed: image.convert('RGB')"
        )


def _at(name: str) -> str:
    """Return what a message begins with: the name of the images, if there is one."""
    return f"{name}: " if name else ""


def _items(values: Any) -> Iterable[Any]:
    is_iterable = isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0
    return values if is_iterable else ()


def _check_type(images: np.ndarray, name: str) -> None:
    kind = images.dtype.kind
    if images.dtype == np.uint8:
        return
    if kind in "SUT" and images.size:
        raise UserError(
            f"{_at(name)}images are text, such as {elide(str(images.flat[0]))!r}: give "
            "their pixels, as uint8 [N, h, w] or [N, h, w, C]"
        )
    if kind not in "fiu" or not images.size:
        mask = "; for a mask, images.astype(np.uint8) * 255" if kind == "b" else ""
        raise UserError(
            f"{_at(name)}images are of type {images.dtype}, and uint8 is needed{mask}"
        )
    if kind == "f" and (bad := images.size - int(np.isfinite(images).sum())):
        rows = int((~np.isfinite(images)).reshape(len(images), -1).any(1).sum())
        raise UserError(
            f"{_at(name)}{plural(bad, 'value')} of {plural(rows, 'image')} "
            f"{'is' if bad == 1 else 'are'} NaN or infinite: leave those images out, "
            "and give bytes from 0 to 255 (uint8)"
        )
    low, high = images.min(), images.max()
    raise UserError(
        f"{_at(name)}images are {images.dtype} from {low:.6g} to {high:.6g}, and bytes "
        "from 0 to 255 (uint8) are needed: "
        + _conversion(images, float(low), float(high))
    )


def _conversion(images: np.ndarray, low: float, high: float) -> str:
    """Return the call that converts images to bytes, judged by their range."""
    is_integer = images.dtype.kind in "iu"
    if low >= 0 and high <= 1 and not is_integer:
        return "np.round(images * 255).astype(np.uint8)"
    if low >= 0 and high <= 255:
        exact = is_integer or bool((images == np.round(images)).all())
        if exact:
            return "images.astype(np.uint8)"
        return "np.clip(np.round(images), 0, 255).astype(np.uint8)"
    if low >= -1 and high <= 1 and not is_integer:
        return "np.round((images + 1) * 127.5).astype(np.uint8)"
    if low >= 0 and high < 2**16 and is_integer:
        return "(images >> 8).astype(np.uint8), where 65535 is the highest level"
    if low >= -64 and 64 <= high <= 320:  # a little beyond, as resizing leaves it
        return "np.clip(images, 0, 255).astype(np.uint8)"
    return (
        "undo what scaled them, such as images * std + mean, or stretch them: "
        "np.round((images - images.min()) / np.ptp(images) * 255).astype(np.uint8)"
    )


def _check_rank(images: np.ndarray, name: str, size: tuple[int, int] | None) -> None:
    rank, found = images.ndim, shape_text(images.shape)
    needed = f"{_at(name)}images are {found}, and [N, h, w] or [N, h, w, C] is needed"
    one = "for one image, images[None]"
    rows = "for rows of pixels, images.reshape(-1, h, w)"
    if rank == 3 and images.shape[-1] in (1, 3, 4):
        raise UserError(f"{needed}: {one}")
    if rank == 2 and images.shape == size:
        raise UserError(f"{needed}: {one}")
    if rank == 2:
        raise UserError(f"{needed}: {rows}" + (f"; {one}" if size else ""))
    if rank not in (3, 4):
        raise UserError(needed)
    if rank == 4 and images.shape[-1] not in (1, 3):
        if images.shape[1] in (1, 3):
            raise UserError(
                f"{needed}: channels come last, images.transpose(0, 2, 3, 1)"
            )
        drop = {2: "images[..., :1]", 4: "images[..., :3]"}.get(images.shape[-1], "")
        raise UserError(
            f"{_at(name)}images are {found}, and 1 or 3 channels are needed"
            + (f": {drop} leaves out the last" if drop else "")
        )
    if 0 in images.shape[1:]:
        raise UserError(f"{_at(name)}images are {found}, and have no pixels")


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as text, such as `[28, 28, 1]`."""
    return f"[{', '.join(map(str, shape))}]"
