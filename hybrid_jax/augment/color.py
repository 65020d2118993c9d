"""Pillow's color operations, on 8-bit levels of a whole batch.

Each maps float images `[B, H, W, C]` that hold whole levels, and a strength `[B]`, to
images of the same kind. Gray images have one channel; saturation and hue leave them
unchanged.
"""

import jax
import jax.numpy as jnp


def brightness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Apply `ImageEnhance.Brightness`: factor 0 gives black, 1 the image itself."""
    return _blend(0.0, images, factor)


def contrast(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Apply `ImageEnhance.Contrast`: factor 0 gives the mean, 1 the image itself."""
    mean = jnp.floor(gray(images).mean((1, 2, 3), keepdims=True) + 0.5)
    return _blend(mean, images, factor)


def saturation(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Apply `ImageEnhance.Color`: factor 0 gives gray, 1 the image itself."""
    if images.shape[-1] == 1:
        return images
    return _blend(gray(images), images, factor)


def sharpness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Apply `ImageEnhance.Sharpness`: factor 0 smooths, 1 gives the image itself.

    Border pixels are not changed.
    """
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = images[:, 1:-1, 1:-1]
    smooth = jnp.floor((total + 4 * inner) / 13 + 0.5)
    return images.at[:, 1:-1, 1:-1].set(_blend(smooth, inner, factor))


def posterize(images: jax.Array, bits: jax.Array) -> jax.Array:
    """Apply `ImageOps.posterize`: keep the given number of upper bits."""
    step = _each(jnp.left_shift(1, 8 - bits.astype(jnp.int32)).astype(images.dtype))
    return _floor_divide(images, step) * step


def solarize(images: jax.Array, threshold: jax.Array) -> jax.Array:
    """Apply `ImageOps.solarize`: invert levels at or above a threshold."""
    return jnp.where(images < _each(threshold), images, 255 - images)


def autocontrast(images: jax.Array, _: jax.Array) -> jax.Array:
    """Apply `ImageOps.autocontrast`: stretch each channel to levels 0 to 255."""
    least = images.min((1, 2), keepdims=True)
    span = images.max((1, 2), keepdims=True) - least
    stretched = _floor_divide((images - least) * 255, jnp.maximum(span, 1))
    return jnp.where(span > 0, stretched, images)


def equalize(images: jax.Array, _: jax.Array) -> jax.Array:
    """Apply `ImageOps.equalize`: flatten the histogram of each channel."""
    batch, height, width, channels = images.shape
    levels = images.astype(jnp.int32).transpose(0, 3, 1, 2)
    levels = levels.reshape(batch * channels, height * width)
    rows = jnp.arange(batch * channels)[:, None]
    counts = jnp.zeros((batch * channels, 256), jnp.int32).at[rows, levels].add(1)
    largest = levels.max(-1, keepdims=True)
    step = (height * width - jnp.take_along_axis(counts, largest, 1)) // 255
    before = jnp.cumsum(counts, -1) - counts + step // 2
    table = _floor_divide(before.astype(images.dtype), jnp.maximum(step, 1))
    table = jnp.where(step > 0, jnp.minimum(table, 255), jnp.arange(256))
    flat = table[rows, levels]
    return flat.reshape(batch, channels, height, width).transpose(0, 2, 3, 1)


def hue(images: jax.Array, shift: jax.Array) -> jax.Array:
    """Shift the hue by a share of the color circle, in Pillow's 8-bit HSV."""
    if images.shape[-1] == 1:
        return images
    h, s, v = _to_hsv(images)
    h += jnp.mod(jnp.trunc(shift * 255), 256)[:, None, None]
    return _from_hsv(jnp.where(h > 255, h - 256, h), s, v)


def gray(images: jax.Array) -> jax.Array:
    """Convert images to gray, `[B, H, W, 1]`, like Pillow: ITU-R 601-2 luma."""
    if images.shape[-1] == 1:
        return images
    r, g, b = (images[..., i].astype(jnp.int32) for i in range(3))
    luma = (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16
    return luma[..., None].astype(images.dtype)


def _blend(
    degenerate: jax.Array | float, images: jax.Array, factor: jax.Array
) -> jax.Array:
    """Blend a degenerate image (factor 0) with the image (1), clipped to 0 to 255."""
    blended = degenerate + _each(factor) * (images - degenerate)
    return jnp.floor(blended.clip(0, 255))


def _floor_divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the exact `a // b` of floats that hold whole numbers."""
    return jnp.floor((a + 0.5) / b)


def _each(values: jax.Array) -> jax.Array:
    """Reshape `[B]` to multiply images `[B, H, W, C]`."""
    return values[:, None, None, None]


def _to_hsv(images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return whole levels of hue, saturation and value, `[B, H, W]` each."""
    r, g, b = (images[..., i] for i in range(3))
    v, least = images.max(-1), images.min(-1)
    span = v - least
    safe = jnp.maximum(span, 1)
    rc, gc, bc = (v - r) / safe, (v - g) / safe, (v - b) / safe
    h = jnp.where(r == v, bc - gc, jnp.where(g == v, 2 + rc - bc, 4 + gc - rc))
    h = jnp.floor((h / 6 + (h < 0)) * 255)
    s = jnp.floor(span / jnp.maximum(v, 1) * 255)
    return jnp.where(span > 0, h, 0), s, v


def _from_hsv(h: jax.Array, s: jax.Array, v: jax.Array) -> jax.Array:
    """Return images `[B, H, W, 3]`: the inverse of `_to_hsv`."""
    # A channel falls with the distance from its hue on a circle of length six.
    position = h * (6 / 255)
    shares = []
    for channel_hue in (0, 2, 4):
        distance = jnp.abs(position - channel_hue)
        shares.append((jnp.minimum(distance, 6 - distance) - 1).clip(0, 1))
    missing = jnp.stack(shares, -1) * (s / 255)[..., None]
    return jnp.floor(v[..., None] * (1 - missing) + 0.5)
