"""Pixels as PNG bytes: how builders hand images to TFDS, and how pictures are kept."""

import io

import numpy as np
from PIL import Image


def encode_png(image: np.ndarray) -> bytes:
    """PNG bytes of uint8 pixels `[H, W]`, `[H, W, 1]` or `[H, W, 3]`."""
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
