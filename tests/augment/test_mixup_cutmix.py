import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.augment.mixup_cutmix import mix

KEY = jax.random.key(0)


@pytest.mark.parametrize("alphas", [(0.5, 0.0), (0.0, 1.0), (0.5, 1.0)], ids=str)
def test_mixing_gives_each_label_the_share_of_its_pixels(alphas):
    count, pixels = 256, 64
    # An image of ones among zeros: its share of the mixture can be read off.
    marked = jnp.zeros((count, 8, 8, 1)).at[: count // 2].set(1.0)
    labels = jax.nn.one_hot((jnp.arange(count) < count // 2).astype(int), 2)
    images, targets = mix(KEY, marked, labels, *alphas)
    np.testing.assert_allclose(images.mean((1, 2, 3)), targets[:, 1], atol=1e-6)
    np.testing.assert_allclose(targets.sum(-1), 1.0, atol=1e-6)
    whole = np.isin(np.asarray(images), [0.0, 1.0]).all((1, 2, 3))
    if alphas == (0.5, 0.0):
        constant = np.ptp(np.asarray(images).reshape(count, pixels), axis=1) < 1e-6
        assert constant.all()
        assert not whole.all()
    elif alphas == (0.0, 1.0):
        assert whole.all()
    else:
        assert 0.3 < whole.mean() < 0.7


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0])
def test_mixup_draws_its_shares_as_jax_draws_from_the_beta_distribution(alpha):
    labels = jnp.eye(64)
    _, targets = mix(KEY, jnp.zeros((64, 1, 1, 1)), labels, alpha, 0.0)
    alphas = jnp.full(64, alpha)
    shares = jax.random.beta(jax.random.split(KEY, 3)[0], alphas, alphas)
    np.testing.assert_allclose(jnp.diag(targets), shares, atol=1e-6)


def test_cutmix_boxes_have_the_area_of_a_beta_distribution():
    marked = jnp.zeros((4000, 32, 32, 1)).at[:2000].set(1.0)
    labels = jax.nn.one_hot((jnp.arange(4000) < 2000).astype(int), 2)
    _, targets = mix(KEY, marked, labels, 0.0, 1.0)
    pasted = 1 - np.asarray(targets[:2000, 1])
    # Uniform areas, less what boxes lose over the border.
    assert 0.2 < pasted.mean() < 0.5
    assert pasted.min() < 0.02
    assert pasted.max() > 0.7


def test_mixup_shares_have_the_moments_of_a_beta_distribution():
    marked = jnp.zeros((4000, 2, 2, 1)).at[:2000].set(1.0)
    labels = jax.nn.one_hot((jnp.arange(4000) < 2000).astype(int), 2)
    _, targets = mix(KEY, marked, labels, 0.8, 0.0)
    shares = np.asarray(targets[:2000, 1])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), abs=0.01)
