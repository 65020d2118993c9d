"""Optimizers against PyTorch and timm, SAM and Lookahead against their equations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hybrid_jax.config.schema import OptimConfig
from hybrid_jax.models import create_model
from hybrid_jax.training import optimizers
from hybrid_jax.training.packed_params import pack

torch = pytest.importorskip("torch")

RATE, STEPS = 0.05, 6


def create(name, freeze=(), **fields):
    config = OptimConfig(**{"name": name, "clip_norm": 0.0, **fields})
    row = optimizers.OPTIMIZERS[name]
    return optimizers.create_optimizer(
        row, optax.constant_schedule(RATE), config, freeze
    )


def parameters():
    """A block and a head, with weights that decay and biases that do not."""
    rng = np.random.default_rng(0)

    def dense(inputs, outputs):
        return {
            "kernel": rng.normal(size=(inputs, outputs)).astype(np.float32),
            "bias": rng.normal(size=outputs).astype(np.float32),
        }

    params = {"stem": dense(3, 4), "block1": dense(4, 6), "head": dense(6, 2)}
    return jax.tree.map(jnp.asarray, params)


def loss(params, target=0.5):
    return sum(((x - target) ** 4).sum() for x in jax.tree.leaves(params)) / 4


def run(optimizer, params, steps=STEPS):
    """The parameters after each step, the gradient for SAM at hand."""
    optimizer = optax.with_extra_args_support(optimizer)

    @jax.jit
    def step(params, state):
        grads = jax.grad(loss)(params)
        updates, state = optimizer.update(
            grads, state, params, grad_fn=lambda p, _: jax.grad(loss)(p)
        )
        return optax.apply_updates(params, updates), state

    state, found = optimizer.init(params), [params]
    for _ in range(steps):
        params, state = step(params, state)
        found.append(params)
    return found, state


def run_torch(create_optimizer, params, steps=STEPS):
    """The parameters after some steps, with weight decay on kernels alone."""
    leaves, tree = jax.tree.flatten(params)
    tensors = [torch.tensor(np.array(x), requires_grad=True) for x in leaves]
    groups = [
        {"params": [x for x in tensors if x.ndim == 2]},
        {"params": [x for x in tensors if x.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = create_optimizer(groups)
    for _ in range(steps):
        optimizer.zero_grad()
        (sum(((x - 0.5) ** 4).sum() for x in tensors) / 4).backward()
        optimizer.step()
    return tree.unflatten([x.detach().numpy() for x in tensors])


def assert_close(a, b, **tolerance):
    tolerance = {"rtol": 2e-4, "atol": 1e-6} | tolerance
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_sgd_is_that_of_pytorch(momentum):
    found, _ = run(create("sgd", momentum=momentum, weight_decay=0.3), parameters())
    expected = run_torch(
        lambda groups: torch.optim.SGD(
            groups,
            lr=RATE,
            momentum=momentum,
            nesterov=momentum > 0,
            weight_decay=0.3,
        ),
        parameters(),
    )
    assert_close(found[-1], expected)


def test_adamw_is_that_of_pytorch():
    found, _ = run(create("adamw", weight_decay=0.3), parameters())
    expected = run_torch(
        lambda groups: torch.optim.AdamW(groups, lr=RATE, weight_decay=0.3),
        parameters(),
    )
    assert_close(found[-1], expected)


def test_lamb_is_its_equation():
    """You et al. 2020, algorithm 2; the trust ratio is for kernels alone."""
    found, _ = run(create("lamb", weight_decay=0.3), parameters())
    leaves, tree = jax.tree.flatten(parameters())
    weights = [np.asarray(x, np.float64) for x in leaves]
    first = [np.zeros_like(x) for x in weights]
    second = [np.zeros_like(x) for x in weights]
    for step in range(1, STEPS + 1):
        for i, x in enumerate(weights):
            gradient = (x - 0.5) ** 3
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            update = first[i] / (1 - 0.9**step)
            update = update / (np.sqrt(second[i] / (1 - 0.999**step)) + 1e-6)
            if x.ndim == 2:
                update = update + 0.3 * x
                update = update * np.linalg.norm(x) / np.linalg.norm(update)
            weights[i] = x - RATE * update
    assert_close(found[-1], tree.unflatten(weights))


def test_muon_turns_hidden_matrices_and_leaves_the_rest_to_adam():
    """A first update has singular values of one size, or else elements of one size."""
    before = parameters()
    after = run(create("muon", weight_decay=0.0), before, steps=1)[0][-1]
    update = jax.tree.map(lambda a, b: np.asarray(b - a) / RATE, before, after)
    singular = np.linalg.svd(update["block1"]["kernel"], compute_uv=False)
    scaled = singular / (0.2 * np.sqrt(6))  # of the larger side
    assert (scaled > 0.6).all() and (scaled < 1.3).all()
    nesterov = 1 + 0.9 * 0.1 / (1 - 0.9**2)  # Adam's first update is 1 without it
    for module, leaf in (("stem", "kernel"), ("head", "kernel"), ("block1", "bias")):
        np.testing.assert_allclose(np.abs(update[module][leaf]), nesterov, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "block", "matrices"),
    [
        (
            "astroformer_pico",
            "stage4_block1",
            {
                "attention/project/kernel": ((0,), (1,)),
                "attention/qkv/kernel": ((0,), (1,)),
                "mlp/expand/kernel": ((0,), (1,)),
                "mlp/project/kernel": ((0,), (1,)),
            },
        ),
        (
            "astroformer_pico",
            "stage1_block1",
            {
                "expand/kernel": ((0,), (1,)),
                "project/kernel": ((0,), (1,)),
                "squeeze_excite/expand/kernel": ((0,), (1,)),
                "squeeze_excite/reduce/kernel": ((0,), (1,)),
            },
        ),
        (
            "sasa_pico",
            "stage1_block1",
            {"local_attention/qkv": ((1,), (2,)), "project/kernel": ((0,), (1,))},
        ),
        ("astroformer_pico", "stem", {}),
        ("astroformer_pico", "head", {}),
        ("vit_tiny", "patch_embedding", {}),
        ("vit_tiny", "head", {}),
    ],
)
def test_muon_takes_the_matrices_of_blocks(name, block, matrices):
    """Adam takes depthwise kernels, bias tables, vectors, embeddings and heads."""
    fields = {"depth": 1} if name == "vit_tiny" else {}
    model = create_model(name, 3, 16, **fields)
    params = jax.eval_shape(
        lambda key: pack(model.init(key, jnp.zeros((1, 16, 16, 1)))["params"]),
        jax.random.key(0),
    )
    kinds = optimizers.muon_dimensions(params)[block]
    is_kind = lambda x: isinstance(x, optax.contrib.MuonDimensionNumbers)  # noqa: E731
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(kind)
        for path, kind in jax.tree_util.tree_leaves_with_path(kinds, is_leaf=is_kind)
    }
    for path, kind in matrices.items():
        assert found.pop(path) == kind
    # The projections of a local attention's block beside those named.
    assert not [path for path in found if "kernel" not in path or not matrices]


def test_muon_sees_a_convolution_as_a_matrix():
    params = {"stage1_block1": {"conv": {"kernel": jnp.zeros((3, 3, 8, 16))}}}
    kind = optimizers.muon_dimensions(params)["stage1_block1"]["conv"]["kernel"]
    assert kind == optax.contrib.MuonDimensionNumbers((0, 1, 2), (3,))


def test_sam_steps_with_the_gradient_at_the_worst_point_nearby():
    params, rho = parameters(), 0.1
    found, _ = run(create("sgd", momentum=0.0, weight_decay=0.0, sam_rho=rho), params)
    for before, after in itertools.pairwise(found):
        grads = jax.grad(loss)(before)
        norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(grads)))
        worst = jax.tree.map(lambda p, g, n=norm: p + rho * g / n, before, grads)
        expected = jax.tree.map(
            lambda p, g: p - RATE * g, before, jax.grad(loss)(worst)
        )
        assert_close(after, expected)


def test_sam_survives_a_gradient_of_0():
    params = jax.tree.map(lambda x: jnp.full_like(x, 0.5), parameters())
    found, _ = run(create("sgd", weight_decay=0.0, sam_rho=0.1), params)
    assert_close(found[-1], params)


@pytest.mark.parametrize("freeze", [(), ("stem",)])
def test_lookahead_goes_half_the_way_every_few_steps(freeze):
    params = parameters()
    fields = {"momentum": 0.8, "weight_decay": 0.0}
    found, state = run(create("sgd", freeze, lookahead_steps=3, **fields), params)
    fast = create("sgd", freeze, **fields)
    slow, weights, inner = params, params, fast.init(params)
    for step in range(1, STEPS + 1):
        updates, inner = fast.update(jax.grad(loss)(weights), inner, weights)
        weights = optax.apply_updates(weights, updates)
        if step % 3 == 0:
            slow = jax.tree.map(lambda s, f: s + 0.5 * (f - s), slow, weights)
            weights = slow
        assert_close(found[step], weights)
    assert_close(optimizers.slow_weights(state), slow)
    if freeze:
        assert_close(slow["stem"], params["stem"], rtol=0, atol=0)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_goes_with_everything_around_it(name):
    params = parameters()
    fields = {"sam_rho": 0.05, "lookahead_steps": 2, "layer_decay": 0.7}
    optimizer = create(name, ("stem",), clip_norm=1.0, **fields)
    found, state = run(optimizer, pack(params))
    assert float(loss(found[-1])) < float(loss(found[0]))
    assert_close(found[-1]["stem"], pack(params)["stem"], rtol=0, atol=0)
    again = optimizers.with_slow_weights(state, found[0])
    assert_close(optimizers.slow_weights(again), found[0])
    assert jax.tree.structure(again) == jax.tree.structure(state)


def test_weight_decay_alone_shrinks_weights_alone():
    params = parameters()
    for name in optimizers.OPTIMIZERS:
        optimizer = create(name, weight_decay=0.5, momentum=0.0)
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, _ = optimizer.update(zeros, optimizer.init(params), params)
        for module in params:
            kernel, old = updates[module]["kernel"], params[module]["kernel"]
            # LAMB scales an update to the size of its weight.
            factor = 1.0 if name == "lamb" else 0.5
            np.testing.assert_allclose(kernel, -RATE * factor * old, rtol=1e-4)
            assert not np.any(updates[module]["bias"])
