"""Images to augment, and PIL's view of them."""

import jax.numpy as jnp
import numpy as np
from PIL import Image


def noise(batch=2, size=(9, 12), channels=3) -> np.ndarray:
    """uint8 `[B, H, W, C]`, no level 0, so that black shows."""
    rng = np.random.default_rng(0)
    return rng.integers(1, 256, (batch, *size, channels), np.uint8)


def smooth(batch=2, size=(9, 12), channels=3) -> np.ndarray:
    """uint8 `[B, H, W, C]` of few levels that neighbours share, as photographs have."""
    coarse = noise(batch, (5, 6), channels)[..., :channels] // 2 + 30
    zoomed = [
        np.asarray(to_pil(image).resize(size[::-1], Image.Resampling.BICUBIC))
        for image in coarse
    ]
    return np.stack(zoomed).reshape(batch, *size, channels)


def labels(batch: int, classes: int = 5):
    """One-hot targets."""
    return jnp.asarray(np.eye(classes, dtype=np.float32)[np.arange(batch) % classes])


def to_pil(image: np.ndarray) -> Image.Image:
    """An image of uint8 `[H, W, C]`."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def from_pil(image: Image.Image) -> np.ndarray:
    """`[H, W, C]`."""
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def each_channel(function, image: np.ndarray) -> np.ndarray:
    """What PIL's `function` makes of each channel as floats, `[H, W, C]`."""
    bands = [
        Image.fromarray(band.astype(np.float32)) for band in image.T.swapaxes(1, 2)
    ]
    return np.stack([np.asarray(function(band)) for band in bands], -1)
