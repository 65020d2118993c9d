"""Images that a caller hands to a trained run: files, arrays, or images of Pillow.

Of whatever kind they are, they are decoded and resized like the run's own files.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from hybrid_jax.data.image_io import Unreadable, encode_image, encode_png
from hybrid_jax.data.lazy_images import Files
from hybrid_jax.data.pixel_format import PixelFormat
from hybrid_jax.data.sources.estimator_inputs import paths_or_images
from hybrid_jax.data.sources.image_checks import (
    as_array,
    check_images,
    refuse_masked_images,
)
from hybrid_jax.errors import UserError


class Pictures:
    """Images of any size and mode as records, which have numbers for names."""

    def __init__(self, images: Sequence[np.ndarray | Image.Image]):
        """Read the files of images of Pillow that are open; arrays are not copied.

        Args:
          images: uint8 `[h, w, C]`, or images of Pillow.
        """
        self._images = [
            encode_image(each) if isinstance(each, Image.Image) else each
            for each in images
        ]

    def __len__(self) -> int:
        return len(self._images)

    def read(self, rows: Sequence[int]) -> list[bytes | Unreadable]:
        """Return files of some images."""
        found = (self._images[row] for row in rows)
        return [encode_png(i) if isinstance(i, np.ndarray) else i for i in found]

    def name(self, row: int) -> str:
        """Return the number of an image, in words."""
        return f"image {row:,}, counted from 0,"


def as_new_images(
    images: Any, form: PixelFormat, name: str = ""
) -> np.ndarray | Files | Pictures:
    """Return images of one size as they are, uint8 `[N, h, w, C]`, and others encoded.

    Args:
      images: an array; a list of arrays, of images of Pillow, or of paths; or what this
        function returned.
      form: pixel format of the run.
      name: name of the images in errors; empty if the caller has no name for them.

    Raises:
      UserError: `images` is one image or one path, or has no images; or arrays have
        another shape or dtype, or masked values.
    """
    if isinstance(images, Files | Pictures):
        return images
    paths, found = paths_or_images(images, name or "images")
    if paths:
        return Files(paths)
    if isinstance(found, list):
        refuse_masked_images(found, name)
        found = [_as_picture(each, row) for row, each in enumerate(found)]
        shapes = {getattr(each, "shape", None) for each in found}
        if None in shapes or len(shapes) > 1:  # images of Pillow, or several sizes
            return Pictures(_checked(found))
    return check_images(found, name, form.target or form.size)


def _as_picture(image: Any, row: int) -> np.ndarray | Image.Image:
    """Return an image of Pillow as it is, and another as an array.

    Raises:
      UserError: it is no array.
    """
    if isinstance(image, Image.Image):
        return image
    try:
        return as_array(image, f"image {row:,}, counted from 0, is")
    except ValueError:  # lists of several lengths
        raise UserError(
            f"image {row:,}, counted from 0, is no array: give uint8 [h, w] or "
            "[h, w, C]"
        ) from None


def _checked(
    images: Sequence[np.ndarray | Image.Image],
) -> list[np.ndarray | Image.Image]:
    """Return images whose arrays have channels; see `check_images`."""
    return [
        each
        if isinstance(each, Image.Image)
        else check_images(each[None], f"image {row:,}, counted from 0")[0]
        for row, each in enumerate(images)
    ]
