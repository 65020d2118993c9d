import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.augment.random_erasing import erase

BATCH, HEIGHT, WIDTH = 3000, 24, 32


@pytest.fixture(scope="module")
def erased():
    """Which pixels are erased, for half of the images: `[B, H, W]`."""
    images = jnp.full((BATCH, HEIGHT, WIDTH, 3), -1.0)  # no level
    out = np.asarray(erase(jax.random.key(0), images, 0.5))
    levels = out[out >= 0]
    assert levels.max() == 255
    assert levels.mean() == pytest.approx(127.5, abs=1)
    gone = out >= 0
    assert (gone.all(-1) == gone.any(-1)).all()
    return gone.any(-1)


def test_half_of_the_images_lose_a_box(erased):
    assert erased.any((1, 2)).mean() == pytest.approx(0.5, abs=0.04)
    rows, columns = erased.any(2), erased.any(1)
    assert (erased == rows[:, :, None] & columns[:, None]).all()
    for axis in (rows, columns):
        runs = (np.diff(axis.astype(int), axis=1, prepend=0) == 1).sum(1)
        assert runs.max() == 1


def test_areas_and_shapes_are_those_of_the_paper(erased):
    boxes = erased[erased.any((1, 2))]
    heights, widths = boxes.any(2).sum(1), boxes.any(1).sum(1)
    area = heights * widths / (HEIGHT * WIDTH)
    # Half a pixel of rounding, on the short side of small boxes, is a fifth of it.
    assert 0.015 < area.min() < 0.03
    assert 0.3 < area.max() < 0.37
    assert area.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.01)
    aspect = np.log(heights / widths)
    assert np.median(aspect) == pytest.approx(0, abs=0.1)
    assert np.exp(np.abs(aspect).max()) < 4


def test_boxes_lie_anywhere(erased):
    share = erased.mean(0)
    assert share.min() > 0
    for mirrored in (share[::-1], share[:, ::-1]):
        np.testing.assert_allclose(share, mirrored, atol=0.03)
