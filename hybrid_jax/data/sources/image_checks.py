"""Checks of images that are passed as arrays."""

import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from hybrid_jax.errors import (
    UserError,
    at,
    elide,
    first_line,
    listed,
    plural,
    shape_text,
)


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
        images = as_array(images, f"{at(name)}images are")
    except ValueError:
        raise UserError(
            f"{at(name)}images have several sizes: bring them to one, or use a "
            "folder (configs/folder.py)"
        ) from None
    _check_type(images, name)
    _check_rank(images, name, size)
    images = images[..., None] if images.ndim == 3 else images
    if not len(images):
        raise UserError(f"{at(name)}there is no image in it")
    return images


def as_array(values: Any, name: str) -> np.ndarray:
    """Return values of another library as an array.

    Args:
      values: array-like.
      name: what they are in errors, followed by a verb.

    Raises:
      ValueError: they are lists of several lengths.
      UserError: they cannot be read, such as a tensor of PyTorch with gradients.
    """
    try:
        return np.asarray(values)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{name} no array: {first_line(error)}") from None


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
            f"{at(name)}{plural(bad, 'value')} of {rows} {'is' if bad == 1 else 'are'}"
            " masked: leave those images out, or fill them: images.filled(0)"
        )


def _check_modes(images: Any, name: str) -> None:
    """Refuse images of Pillow whose numbers are not gray levels or red, green, blue."""
    if isinstance(images, np.ndarray) and images.dtype.kind != "O":
        return
    pictures = {
        row: each
        for row, each in enumerate(_items(images))
        if isinstance(each, Image.Image)
    }
    modes = {each.mode for each in pictures.values()}
    if others := sorted(modes - {"L", "RGB"}):
        raise UserError(
            f"{at(name)}images are of Pillow's mode {listed(others)}, and L or RGB is "
            "needed: image.convert('RGB')"
        )
    hidden = {row: why for row, each in pictures.items() if (why := _hidden(each))}
    for row, (reason, way_out) in hidden.items():
        raise UserError(
            f"{at(name)}{plural(len(hidden), 'image')} of Pillow would lose something,"
            f" such as image {row:,}, counted from 0, which {reason}: {way_out}, or "
            "give arrays, or the paths of the files"
        )


def _hidden(image: Image.Image) -> tuple[str, str] | None:
    """Return what the pixels of an image of Pillow do not show, and the way out."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        return "an EXIF tag turns", "turn it: ImageOps.exif_transpose(image)"
    if image.format is None or image.format == "MPO":  # converted, or with previews
        return None
    if "transparency" in image.info:
        return "has a transparent level", "convert it: image.convert('RGB')"
    with contextlib.suppress(ValueError):  # its file is closed
        if (pages := getattr(image, "n_frames", 1)) > 1:
            return f"has {pages} pages", "convert one: image.convert('RGB')"
    return None


def _items(values: Any) -> Iterable[Any]:
    is_iterable = isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0
    return values if is_iterable else ()


def _check_type(images: np.ndarray, name: str) -> None:
    kind = images.dtype.kind
    if images.dtype == np.uint8:
        return
    if kind in "SUT" and images.size:
        raise UserError(
            f"{at(name)}images are text, such as {elide(str(images.flat[0]))!r}: give "
            "their pixels, as uint8 [N, h, w] or [N, h, w, C]"
        )
    if kind not in "fiu" or not images.size:
        mask = "; for a mask, images.astype(np.uint8) * 255" if kind == "b" else ""
        raise UserError(
            f"{at(name)}images are of type {images.dtype}, and uint8 is needed{mask}"
        )
    if kind == "f" and (bad := images.size - int(np.isfinite(images).sum())):
        rows = int((~np.isfinite(images)).reshape(len(images), -1).any(1).sum())
        raise UserError(
            f"{at(name)}{plural(bad, 'value')} of {plural(rows, 'image')} "
            f"{'is' if bad == 1 else 'are'} NaN or infinite: leave those images out, "
            "and give bytes from 0 to 255 (uint8)"
        )
    low, high = images.min(), images.max()
    raise UserError(
        f"{at(name)}images are {images.dtype} from {low:.6g} to {high:.6g}, and bytes "
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
    needed = f"{at(name)}images are {found}, and [N, h, w] or [N, h, w, C] is needed"
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
            f"{at(name)}images are {found}, and 1 or 3 channels are needed"
            + (f": {drop} leaves out the last" if drop else "")
        )
    if 0 in images.shape[1:]:
        raise UserError(f"{at(name)}images are {found}, and have no pixels")
