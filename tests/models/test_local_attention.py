"""Local attention against the double loop that its equations are."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.models.local_attention import LocalAttention

HEADS, DIM = 2, 32
CHANNELS = HEADS * DIM
# Smaller than the window; one block; blocks and a halo on one axis; on both, padded.
SIZES = [(1, 1), (3, 5), (8, 8), (9, 17), (20, 16)]


def image(size, batch=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, *size, CHANNELS)).astype(np.float32)


def random_params(window, scale=0.3, seed=1):
    rng = np.random.default_rng(seed)
    shapes = {
        "qkv": (HEADS, DIM, 3 * DIM),
        "row_embedding": (window, HEADS, DIM // 2),
        "column_embedding": (window, HEADS, DIM // 2),
    }
    return {
        name: rng.normal(scale=scale, size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }


@partial(jax.jit, static_argnums=(2, 3, 4))
def apply(params, x, window, dtype=jnp.float32, padding="symmetric"):
    module = LocalAttention(window, padding, dtype)
    return module.apply({"params": params}, x)


def double_loop(x, params, window, on_torus=False):
    """One image `[H, W, C]` through the equations, a position at a time, in float64."""
    params = {name: value.astype(np.float64) for name, value in params.items()}
    height, width, _ = x.shape
    reach = window // 2
    out = np.zeros((height, width, HEADS, DIM))
    for h in range(HEADS):
        group = x[..., h * DIM : (h + 1) * DIM].astype(np.float64)
        q, k, v = np.split(group @ params["qkv"][h], 3, axis=-1)
        for yi, xi in np.ndindex(height, width):
            scores, values = [], []
            for yj in range(yi - reach, yi + reach + 1):
                for xj in range(xi - reach, xi + reach + 1):
                    inside = 0 <= yj < height and 0 <= xj < width
                    if not (inside or on_torus):
                        continue
                    yk, xk = yj % height, xj % width
                    row = params["row_embedding"][yj - yi + reach, h]
                    column = params["column_embedding"][xj - xi + reach, h]
                    r = np.concatenate([row, column])
                    score = q[yi, xi] @ k[yk, xk] + q[yi, xi] @ r
                    scores.append(score / np.sqrt(DIM))
                    values.append(v[yk, xk])
            weights = np.exp(scores - np.max(scores))
            out[yi, xi, h] = weights / weights.sum() @ np.array(values)
    return out.reshape(height, width, CHANNELS)


def dense(params, x, window):
    """Every position to every other, with a mask `[P, P]` that leaves the window."""
    batch, height, width, _ = x.shape
    reach, positions = window // 2, height * width
    y, c = np.divmod(np.arange(positions), width)
    dy, dx = y[None, :] - y[:, None], c[None, :] - c[:, None]
    inside = (abs(dy) <= reach) & (abs(dx) <= reach)
    row = params["row_embedding"][np.clip(dy + reach, 0, window - 1)]
    column = params["column_embedding"][np.clip(dx + reach, 0, window - 1)]
    r = jnp.concatenate([row, column], axis=-1)
    tokens = x.reshape(batch, positions, HEADS, DIM)
    qkv = jnp.einsum("bpnd,nde->bpne", tokens, params["qkv"])
    q, k, v = jnp.split(qkv, 3, axis=-1)
    scores = jnp.einsum("bind,bjnd->bnij", q, k) + jnp.einsum("bind,ijnd->bnij", q, r)
    scores = jnp.where(inside, scores / np.sqrt(DIM), -jnp.inf)
    out = jnp.einsum("bnij,bjnd->bind", jax.nn.softmax(scores), v)
    return out.reshape(x.shape)


@pytest.mark.parametrize("padding", ["symmetric", "circular"])
@pytest.mark.parametrize("window", [3, 7])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_double_loop(size, window, padding):
    x, params = image(size, batch=2), random_params(window)
    ours = apply(params, x, window, padding=padding)
    on_torus = padding == "circular"
    theirs = np.stack([double_loop(each, params, window, on_torus) for each in x])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("size", "window"), [((3, 5), 7), ((9, 17), 7), ((20, 16), 3)])
def test_gradients_equal_those_of_dense_attention(size, window):
    x, params = image(size), random_params(window)
    cotangent = image(size, seed=2)

    def gradients(function):
        def loss(params, x):
            return (function(params, x, window) * cotangent).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x)

    ours, theirs = gradients(apply), gradients(dense)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("changed", [(0, 0), (7, 8), (19, 4)])
def test_a_pixel_reaches_its_window_and_no_further(changed):
    window = 5
    x, params = image((20, 17)), random_params(window)
    other = x.copy()
    other[0, *changed] += 1.0
    before, after = apply(params, x, window), apply(params, other, window)
    differs = np.any(np.asarray(before != after)[0], axis=-1)
    y, c = np.indices(differs.shape)
    near = np.maximum(abs(y - changed[0]), abs(c - changed[1])) <= window // 2
    np.testing.assert_array_equal(differs, near)


def test_a_head_sees_its_own_channels_only():
    x, params = image((9, 17)), random_params(7)
    other = x.copy()
    other[..., :DIM] += 1.0
    before, after = apply(params, x, 7), apply(params, other, 7)
    differs = np.any(np.asarray(before != after), axis=(0, 1, 2))
    assert differs[:DIM].all() and not differs[DIM:].any()


def test_large_scores_stay_finite():
    x, params = 100 * image((9, 17)), random_params(7, scale=3.0)
    loss = lambda params, x: (apply(params, x, 7) ** 2).sum()  # noqa: E731
    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1)))(params, x)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("size", [(3, 5), (9, 17)])
def test_bfloat16_is_close_to_float32(size):
    x, params = image(size), random_params(7)
    exact = apply(params, x, 7)
    rounded = apply(params, x, 7, jnp.bfloat16)
    assert rounded.dtype == jnp.bfloat16
    error = np.abs(rounded.astype(jnp.float32) - exact)
    assert error.max() < 0.05 * np.abs(exact).max()
    assert error.mean() < 0.01 * np.abs(exact).mean()


def test_trains_inside_a_loop():
    x, params = image((9, 17)), random_params(3, scale=0.1)

    def loss(params):
        return (apply(params, x, 3) ** 2).mean()

    def step(_, params):
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))

    moved = jax.jit(lambda params: jax.lax.fori_loop(0, 2, step, params))(params)
    assert loss(moved) < loss(params)


def test_initial_parameters():
    x, window = image((8, 8)), 7
    init = jax.jit(LocalAttention(window).init)
    params = init(jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        np.shape, random_params(window)
    )
    limit = np.sqrt(6 / (DIM + DIM))  # of a xavier DIM x DIM product
    largest = np.abs(params["qkv"]).reshape(HEADS, DIM, 3, DIM).max(axis=(1, 3))
    assert (largest <= limit).all() and (largest > 0.98 * limit).all()
    for name in ("row_embedding", "column_embedding"):
        assert np.std(params[name]) == pytest.approx(DIM**-0.5, rel=0.2)


@pytest.mark.parametrize(("window", "channels"), [(4, 32), (7, 48)])
def test_refuses_what_has_no_middle_or_no_whole_head(window, channels):
    with pytest.raises(ValueError, match=r"odd|multiple"):
        LocalAttention(window).init(jax.random.key(0), jnp.zeros((1, 4, 4, channels)))
