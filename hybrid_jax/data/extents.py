"""How much of its stored array each image fills, where images have several shapes.

Such images are kept whole, in the upper left corner of arrays of one size, so that
random crops may take any part of them, as from the files. The rest of an array repeats
their last pixels. What the network sees, a crop, a padded or a stretched image, is cut
out on the device (`augment.geometry.WINDOWS`).
"""

import numpy as np
from PIL import Image, ImageOps

ROOM = 2  # sides of a stored array, in those of the network's input


def extents_of(sizes: np.ndarray, target: tuple[int, int], fit: str) -> np.ndarray:
    """Height and width of images as they are kept, at least 1 and never enlarged.

    They fit into `ROOM` times the target. What is cropped to it later keeps as many
    pixels as the target has, where the image does: of one that is longer, the ends are
    left out.

    Args:
      sizes: `[N, 2]`, height and width of the images in their files.
      target: `(height, width)` that they come to later.
      fit: row of `pixels.FITS`, the way in which they do.

    Returns:
      int32 `[N, 2]`.
    """
    most, sizes = ROOM * np.array(target), np.maximum(sizes, 1)
    scales = np.minimum(most / sizes, 1)
    if fit != "stretch":
        scales = scales.min(-1, keepdims=True)
    if fit == "crop":
        least = np.minimum((target / sizes).max(-1, keepdims=True), 1)
        scales = np.maximum(scales, least)
    kept = np.minimum(np.rint(sizes * scales), most)
    return np.maximum(kept, 1).astype(np.int32)


def are_cut(sizes: np.ndarray, extents: np.ndarray) -> np.ndarray:
    """Which images have lost more than a twentieth of their longer side, bool `[N]`.

    Args:
      sizes: height and width of the images in their files, `[N, 2]`.
      extents: of `extents_of`, for a crop.
    """
    scales = extents / np.maximum(sizes, 1)
    return scales.min(-1) < 0.95 * scales.max(-1) - 1 / extents.min(-1)


def bring_whole(
    image: Image.Image, extent: tuple[int, int], size: tuple[int, int], fit: str
) -> np.ndarray:
    """An image in the corner of an array, whose rest repeats its last pixels.

    Args:
      image: gray or RGB.
      extent: height and width that it fills.
      size: `(H, W)` of the array.
      fit: row of `pixels.FITS`.

    Returns:
      uint8 `[H, W]` or `[H, W, 3]`.
    """
    height, width = map(int, extent)
    if image.size != (width, height):
        resize = Image.Image.resize if fit == "stretch" else ImageOps.fit
        image = resize(image, (width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    missing = [(0, size[0] - height), (0, size[1] - width)]
    return np.pad(pixels, [*missing, *[(0, 0)] * (pixels.ndim - 2)], mode="edge")
