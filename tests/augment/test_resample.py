"""Images seen through fixed matrices, against PIL and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from hybrid_jax.augment.resample import (
    Fill,
    bilinear,
    gather_pixels,
    resize_separably,
)
from tests.augment.images import each_channel, noise

TURNED = np.float32([[0.91, -0.5, 3.13], [0.42, 1.1, -2.27]])  # (y, x) from (y, x, 1)


def see(function, images, matrix, *size):
    matrices = jnp.broadcast_to(jnp.float32(matrix), (len(images), 2, 3))
    static = (2,) if size else ()
    return np.asarray(jax.jit(function, static_argnums=static)(images, matrices, *size))


def pil_transform(image, matrix, size):
    (yy, yx, y0), (xy, xx, x0) = np.asarray(matrix, float)
    coefficients = (xx, xy, x0, yx, yy, y0)
    return each_channel(
        lambda band: band.transform(
            size[::-1],
            Image.Transform.AFFINE,
            coefficients,
            Image.Resampling.BILINEAR,
        ),
        image,
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(9, 12), (14, 7)])
def test_bilinear_is_pils_transform(channels, size):
    images = noise(channels=channels)
    ours = see(bilinear, images, TURNED, size)
    theirs = [pil_transform(image, TURNED, size) for image in images]
    np.testing.assert_allclose(ours, theirs, atol=0.01)
    assert ours.dtype == np.float32
    assert (ours == 0).any()


@pytest.mark.parametrize("size", [(9, 12), (18, 24), (12, 5), (4, 7)])
@pytest.mark.parametrize("box", [(0, 0, 12, 9), (1, 2, 9, 8), (0.3, 1.7, 11.2, 6.9)])
@pytest.mark.parametrize("flipped", [False, True])
def test_resize_separably_is_pils_resize_of_a_box(size, box, flipped):
    images = noise()
    left, upper, right, lower = box
    scale_y, scale_x = (lower - upper) / size[0], (right - left) / size[1]
    row = [0, -scale_x, right] if flipped else [0, scale_x, left]
    ours = see(resize_separably, images, [[scale_y, 0, upper], row], size)
    for image, our in zip(images, ours, strict=True):
        theirs = each_channel(
            lambda band: band.resize(size[::-1], Image.Resampling.BILINEAR, box), image
        )
        theirs = theirs[:, ::-1] if flipped else theirs
        np.testing.assert_allclose(our, theirs, atol=0.01)


def shifted(image, y, x):
    padded = np.pad(image, ((20, 20), (20, 20), (0, 0)))
    height, width, _ = image.shape
    return padded[20 + y : 20 + y + height, 20 + x : 20 + x + width]


@pytest.mark.parametrize("shift", [(0, 0), (2, -3), (-4, 1), (8, 11), (9, 0), (0, -15)])
@pytest.mark.parametrize("function", [gather_pixels, resize_separably, bilinear])
def test_whole_shifts_are_exact(function, shift):
    images = noise()
    size = () if function is gather_pixels else (images.shape[1:3],)
    ours = see(function, images, [[1, 0, shift[0]], [0, 1, shift[1]]], *size)
    expected = np.stack([shifted(image, *shift) for image in images])
    np.testing.assert_array_equal(ours, expected)


NUMPY = {"edge": "edge", "reflect": "symmetric"}  # names of modes in `numpy.pad`
SCIPY = {"edge": "nearest", "reflect": "reflect"}  # and in `scipy.ndimage`


def filled(function, name, images, matrix, *size):
    """See images through a matrix, with a row of `FILLS` outside of them."""

    def see_with(images, matrices):
        low = jnp.zeros((len(images), 2))
        fill = Fill(name, low, low + jnp.float32(images.shape[1:3]))
        return function(images, matrices, *size, fill=fill)

    return see(see_with, images, matrix)


@pytest.mark.parametrize("shift", [(2, -3), (-4, 1), (8, 11), (9, 0), (0, -12)])
@pytest.mark.parametrize("function", [gather_pixels, resize_separably, bilinear])
@pytest.mark.parametrize("name", NUMPY)
def test_shifts_show_what_fills_the_outside(name, function, shift):
    images, (y, x) = noise(), shift
    size = () if function is gather_pixels else (images.shape[1:3],)
    ours = filled(function, name, images, [[1, 0, y], [0, 1, x]], *size)
    _, height, width, _ = images.shape
    for image, our in zip(images, ours, strict=True):
        pads = ((height, height), (width, width), (0, 0))
        padded = np.pad(image, pads, mode=NUMPY[name])
        top, left = height + y, width + x
        expected = padded[top : top + height, left : left + width]
        np.testing.assert_array_equal(our, expected)


@pytest.mark.parametrize("name", SCIPY)
def test_turns_show_what_fills_the_outside(name):
    images = noise()
    matrix = np.float32([[0.91, -0.5, 3.13], [0.42, 1.1, -6.27]])
    ours = filled(bilinear, name, images, matrix, (9, 12))
    # SciPy counts from the centers of pixels.
    offset = matrix[:, 2] + matrix[:, :2].sum(1) / 2 - 0.5
    for image, our in zip(images, ours, strict=True):
        for channel in range(image.shape[-1]):
            expected = ndimage.affine_transform(
                image[..., channel].astype(np.float32),
                matrix[:, :2],
                offset,
                (9, 12),
                order=1,
                mode=SCIPY[name],
            )
            np.testing.assert_allclose(our[..., channel], expected, atol=0.01)


SQUARE = {  # (y, x) of the image from (y, x) of the result, 8 px wide
    "identity": ([[1, 0, 0], [0, 1, 0]], lambda a: a),
    "left-right": ([[1, 0, 0], [0, -1, 8]], lambda a: a[:, ::-1]),
    "up-down": ([[-1, 0, 8], [0, 1, 0]], lambda a: a[::-1]),
    "half": ([[-1, 0, 8], [0, -1, 8]], lambda a: np.rot90(a, 2)),
    "quarter": ([[0, 1, 0], [-1, 0, 8]], np.rot90),
    "three": ([[0, -1, 8], [1, 0, 0]], lambda a: np.rot90(a, 3)),
    "transpose": ([[0, 1, 0], [1, 0, 0]], lambda a: a.swapaxes(0, 1)),
    "other": ([[0, -1, 8], [-1, 0, 8]], lambda a: np.rot90(a, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", SQUARE)
@pytest.mark.parametrize("function", [gather_pixels, bilinear])
def test_symmetries_of_the_square_are_exact(function, name):
    matrix, expected = SQUARE[name]
    images = noise(size=(8, 8))
    ours = see(
        function, images, matrix, *(() if function is gather_pixels else ((8, 8),))
    )
    np.testing.assert_array_equal(ours, np.stack([expected(i) for i in images]))


def test_a_turn_into_a_smaller_image_averages_first():
    """Stripes of a pixel become gray, not stripes of another width."""
    stripes = np.zeros((1, 33, 33, 1), np.uint8)
    stripes[:, ::2] = 200
    angle = 0.3
    cos, sin = 4 * np.cos(angle), 4 * np.sin(angle)
    matrix = [[cos, sin, 16.5 - 4 * (cos + sin)], [-sin, cos, 16.5 - 4 * (cos - sin)]]
    seen = see(bilinear, stripes, matrix, (8, 8))[0, 2:6, 2:6]
    np.testing.assert_allclose(seen, 100, atol=2)


def test_averaging_leaves_places_where_they_are():
    ramp = np.broadcast_to(np.arange(35.0)[:, None, None], (1, 35, 35, 1))
    seen = see(bilinear, ramp, [[35 / 8, 0, 0], [0, 35 / 8, 0]], (8, 8))[0, :, 0, 0]
    expected = (np.arange(8) + 0.5) * 35 / 8 - 0.5
    np.testing.assert_allclose(seen[:-1], expected[:-1], atol=0.01)
