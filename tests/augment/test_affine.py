"""Which matrices are drawn, and that one warp is what several are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.augment import affine, to_float
from hybrid_jax.augment.affine import compose, draw_symmetries, random_resized_crops
from hybrid_jax.augment.resample import bilinear
from tests.augment.images import noise, smooth

KEY = jax.random.key(0)
warp = jax.jit(
    affine.warp, static_argnums=2, static_argnames=("padding", "scale", "symmetry")
)


def test_crop_is_a_shift_with_black_coming_in():
    images = noise(64, (8, 10))
    cropped = np.asarray(warp(KEY, jnp.asarray(images), (8, 10), padding=2))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for image, around in zip(cropped, padded, strict=True):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(image, around[y : y + 8, x : x + 10])
        ]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) > 15  # of 25 shifts, in 64 draws


def test_crops_shift_as_far_one_way_as_the_other():
    images = jnp.zeros((100, 5, 5, 1), jnp.uint8).at[:, 2, 2].set(255)
    moved = np.asarray(warp(KEY, images, (5, 5), padding=1)).reshape(100, -1)
    seen = {divmod(place, 5) for place in moved.argmax(1).tolist()}
    assert seen == {(y, x) for y in (1, 2, 3) for x in (1, 2, 3)}


@pytest.mark.parametrize("symmetry", ["none", "rotation"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("fill", ["edge", "reflect"])
def test_a_fill_leaves_black_only_in_the_bars_of_padded_images(fill, fit, symmetry):
    """The arrays are larger than the images, and black beside them."""
    extents = jnp.int32([[8, 8], [5, 8], [8, 6]] * 8)
    y, x = np.arange(8)[:, None], np.arange(8)
    inside = (y < extents[:, 0, None, None]) & (x < extents[:, 1, None, None])
    images = np.where(inside, 200, 0).astype(np.uint8)[..., None]
    warped = jax.jit(
        lambda images: affine.warp(
            KEY,
            images,
            (8, 8),
            padding=4,
            symmetry=symmetry,
            extents=extents,
            fit=fit,
            fill=fill,
        )
    )
    out = np.asarray(warped(jnp.asarray(images)))
    is_black = (out < 100).any((1, 2, 3))
    is_padded = (fit == "pad") & np.asarray((extents < 8).any(-1))
    assert not is_black[~is_padded].any()
    assert (is_black[is_padded].mean() > 0.9) if fit == "pad" else True


def oriented(image):
    """The 8 images of a square one under its symmetries."""
    turned = [np.rot90(image, k) for k in range(4)]
    return [*turned, *(t[:, ::-1] for t in turned)]


@pytest.mark.parametrize(
    ("symmetry", "members"),
    [("none", 1), ("flip", 2), ("flips", 4), ("dihedral", 8)],
)
@pytest.mark.parametrize("size", [(6, 6), (12, 12)], ids=str)
def test_symmetries_are_all_drawn_alike(symmetry, members, size):
    """At another size too: a symmetry and a resize can be swapped."""
    count = 80 * members
    image = noise(1, (6, 6), 1)
    plain = np.asarray(warp(KEY, jnp.asarray(image), size))[0]
    images = jnp.asarray(np.repeat(image, count, 0))
    out = np.asarray(warp(KEY, images, size, symmetry=symmetry))
    eight = np.stack(oriented(plain))
    matches = np.isclose(out[:, None], eight[None], atol=1e-3).all((2, 3, 4))
    assert (matches.sum(1) == 1).all()
    counts = matches.sum(0)
    assert (counts > 0).sum() == members
    assert counts[counts > 0].min() > 40
    if symmetry == "flip":
        assert counts[4] > 0  # left to right


def test_quarter_turns_of_oblong_images_keep_shapes():
    images = noise(32, (4, 8), 1)
    out = np.asarray(warp(KEY, jnp.asarray(images), (4, 8), symmetry="dihedral"))
    turned = (out[:, :, :2] == 0).all((1, 2, 3))
    assert 4 < turned.sum() < 28
    for image, result in zip(images[turned], out[turned], strict=True):
        middle = result[:, 2:6]
        assert any(np.array_equal(middle, o) for o in oriented(image[:, 2:6]))


def test_rotations_are_orthogonal_and_uniform():
    turns = np.asarray(draw_symmetries(KEY, 2000, "rotation"))
    np.testing.assert_allclose(
        turns @ turns.swapaxes(1, 2), np.broadcast_to(np.eye(2), turns.shape), atol=1e-5
    )
    assert (np.linalg.det(turns) > 0).mean() == pytest.approx(0.5, abs=0.05)
    angles = np.arctan2(turns[:, 0, 1], turns[:, 0, 0]) % (2 * np.pi)
    counts, _ = np.histogram(angles, 8, (0, 2 * np.pi))
    assert counts.min() > 190


@pytest.mark.parametrize("quarters", range(4))
def test_rotation_by_quarters_is_exact(quarters):
    """Counterclockwise, like PIL and NumPy."""
    image = noise(1, (8, 8))
    turn = affine.rotation(jnp.float32([quarters * np.pi / 2]))
    corners, sides = jnp.zeros((1, 2)), jnp.full((1, 2), 8.0)
    matrices = affine.crop_matrices(corners, sides, turn, (8, 8))
    out = np.asarray(bilinear(jnp.asarray(image), matrices, (8, 8)))
    # A last bit decides which of the outermost half pixels are black.
    np.testing.assert_allclose(out[0], np.rot90(image[0], quarters), atol=0.01)


def test_random_resized_crops_have_the_areas_and_aspects_asked_for():
    corners, sides = map(
        np.asarray,
        random_resized_crops(KEY, jnp.tile(jnp.float32([30, 40]), (4000, 1)), 0.25),
    )
    assert (corners >= 0).all()
    assert (corners + sides <= [30.001, 40.001]).all()
    share = sides.prod(1) / 1200
    assert 0.24 < share.min() < 0.27
    free = (sides < [29.99, 39.99]).all(1)  # not cut to the image
    assert free.mean() > 0.6
    ratio = sides[free, 1] / sides[free, 0]
    assert 0.749 < ratio.min() < 0.77
    assert 1.3 < ratio.max() < 1.334
    small = share < 0.4  # of which none is cut
    assert np.log(sides[small, 1] / sides[small, 0]).mean() == pytest.approx(
        0, abs=0.03
    )


def test_without_settings_a_resize_is_that_of_evaluation():
    for stored, size in (
        ((9, 12), (20, 16)),
        ((20, 24), (9, 12)),
        ((32, 32), (224, 224)),
    ):
        images = jnp.asarray(noise(1, stored))
        np.testing.assert_allclose(
            warp(KEY, images, size), to_float(images, size), atol=0.01
        )


def test_one_warp_is_what_two_in_a_row_are():
    """But for the blur of the second: smooth images, away from the border."""
    images = jnp.asarray(smooth(1, (40, 40)))
    first = jnp.float32([[[0.95, 0.2, -2.0], [-0.2, 0.95, 3.0]]])
    second = jnp.float32([[[1.0, 0.0, 1.5], [0.15, 1.0, -2.0]]])
    one = bilinear(images, compose(first, second), (40, 40))
    two = bilinear(bilinear(images, first, (40, 40)), second, (40, 40))
    inner = (slice(None), slice(10, 30), slice(10, 30))
    np.testing.assert_allclose(one[inner], two[inner], atol=3)


def test_moves_act_in_their_order_on_the_finished_image():
    images = jnp.asarray(noise(1, (8, 8)))
    double = jnp.float32([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]])
    shift = jnp.float32([[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]])
    out = warp(KEY, images, (16, 16), matrices=jnp.stack([double, shift]))
    # Twice the size for the resize, twice again for the first move, then up by 2.
    matrix = jnp.float32([[[0.25, 0.0, 0.5], [0.0, 0.25, 0.0]]])
    np.testing.assert_allclose(out, bilinear(images, matrix, (16, 16)), atol=1e-3)


def test_a_turned_crop_shows_what_lay_beside_it_and_black_outside_of_the_image():
    image = jnp.asarray(noise(1, (28, 28)))  # without black
    turn = affine.rotation(jnp.float32([np.pi / 4]))
    sides = jnp.full((1, 2), 8.0)
    for corner, black in ((10.0, False), (0.0, True)):
        corners = jnp.full((1, 2), corner)
        seen = bilinear(
            image, affine.crop_matrices(corners, sides, turn, (8, 8)), (8, 8)
        )
        assert (seen == 0).any() == black


@pytest.mark.parametrize("symmetry", affine.SYMMETRIES)
@pytest.mark.parametrize("size", [(6, 6), (6, 8)])
def test_views_are_what_the_symmetry_makes_of_an_image(symmetry, size):
    images = noise(2, size)
    views = [np.asarray(v) for v in affine.views(jnp.asarray(images), symmetry)]
    whole = {"dihedral": range(8), "rotation": range(8), "flip": (0, 4)}
    whole |= {"none": (0,), "flips": (0, 2, 4, 6)}  # by turns, then by mirrored turns
    upright = [k for k in whole[symmetry] if size[0] == size[1] or k % 2 == 0]
    expected = [oriented(images[0])[k] for k in upright]
    assert len(views) == len(expected)
    np.testing.assert_array_equal(views[0], images)
    for image in expected:
        assert any(np.array_equal(view[0], image) for view in views)
