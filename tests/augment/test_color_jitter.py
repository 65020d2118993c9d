import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.augment.color_jitter import color_jitter
from tests.augment.images import noise, smooth


def test_no_strength_leaves_the_images():
    images = jnp.float32(noise())
    out = color_jitter(jax.random.key(0), images, 1e-9, 0.0)
    np.testing.assert_allclose(out, images, atol=1)


def test_each_image_is_changed_its_own_way():
    same = jnp.broadcast_to(jnp.float32(smooth(1)), (16, 9, 12, 3))
    run = jax.jit(lambda key: color_jitter(key, same, 0.4, 0.1))
    outs = [np.asarray(run(jax.random.key(i))) for i in range(2)]
    for out in outs:
        assert 0 <= out.min() <= out.max() <= 255
        assert len(np.unique(out, axis=0)) == 16
    assert (outs[0] != outs[1]).any((1, 2, 3)).all()


def test_factors_are_uniform():
    # Where all levels are one, neither contrast nor saturation changes them.
    flat = jnp.full((2000, 2, 2, 1), 100.0)
    levels = np.asarray(color_jitter(jax.random.key(0), flat, 0.4, 0.0))[:, 0, 0, 0]
    assert levels.min() == pytest.approx(60, abs=2)
    assert levels.max() == pytest.approx(140, abs=2)
    assert levels.std() == pytest.approx(80 / 12**0.5, abs=1)


def test_hues_turn_both_ways():
    red = jnp.broadcast_to(jnp.float32([200, 0, 0]), (200, 2, 2, 3))
    out = np.asarray(color_jitter(jax.random.key(0), red, 0.0, 0.1))[:, 0, 0]
    # A tenth of the circle is six tenths of the way to yellow or magenta.
    np.testing.assert_allclose(out[:, 1:].max(0), 120, atol=8)
    assert (out[:, 1:] > 8).any(0).all()
