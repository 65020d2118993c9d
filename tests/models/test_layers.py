"""Layers against their definitions elsewhere."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.models.layers import (
    BatchNorm,
    BlockAttention,
    Conv1x1,
    product_of_norm,
)
from hybrid_jax.ops.backend import compiling_for
from tests import small_hybrid
from tests.absent_chip import Device
from tests.timm_oracle import (
    import_timm,
    random_images,
    random_variables,
    randomise,
    to_torch,
)


@pytest.mark.parametrize(
    "channels", [48, 8]
)  # a sixteenth of which is 3, and 1 at least
@pytest.mark.parametrize("size", [(8, 8), (5, 11)])
def test_block_attention_equals_timms_cbam(size, channels):
    import_timm()
    import torch
    from timm.layers.cbam import CbamModule

    theirs = randomise(CbamModule(channels))
    x = random_images(size, channels=channels)
    state = {key: tensor.numpy().copy() for key, tensor in theirs.state_dict().items()}

    def kernel(key):
        return state[f"{key}.weight"].transpose(2, 3, 1, 0)

    norm = "spatial.conv.bn"
    variables = {
        "params": {
            "reduce": {"kernel": kernel("channel.fc1")[0, 0]},
            "expand": {"kernel": kernel("channel.fc2")[0, 0]},
            "spatial": {"kernel": kernel("spatial.conv.conv")},
            "spatial_norm": {
                "scale": state[f"{norm}.weight"],
                "bias": state[f"{norm}.bias"],
            },
        },
        "batch_stats": {
            "spatial_norm": {
                "mean": state[f"{norm}.running_mean"],
                "var": state[f"{norm}.running_var"],
            }
        },
    }
    with torch.no_grad():
        expected = theirs(to_torch(x)).permute(0, 2, 3, 1).numpy()
    ours = jax.jit(lambda v, x: BlockAttention().apply(v, x, False))(variables, x)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


class NormThenProduct(nn.Module):
    """A norm with a product behind it."""

    activation: str = "none"
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, fold=True):
        norm = BatchNorm(activation=self.activation, dtype=self.dtype, name="norm")
        product = Conv1x1(16, self.use_bias, self.dtype, name="product")
        if fold:
            return product_of_norm(product, norm, x, train=False)
        return product(norm(x, False))


def normalizes_the_map(function, x):
    """Return whether an operation adds to a map as large as the input."""
    return any(
        equation.primitive.name == "add" and equation.outvars[0].aval.shape == x.shape
        for equation in jax.make_jaxpr(function)(x).eqns
    )


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(
    "platform, size, activation, folded",
    [
        ("tpu", (4, 4), "none", True),  # as many positions as the product has columns
        ("gpu", (7, 5), "none", True),
        ("gpu", (5, 3), "none", False),
        ("gpu", (7, 5), "gelu", False),
        ("cpu", (7, 5), "none", False),
    ],
)
@pytest.mark.parametrize("dtype, atol", [(jnp.float32, 1e-5), (jnp.bfloat16, 0.05)])
def test_a_norm_goes_into_the_product_behind_it(
    platform, size, activation, folded, use_bias, dtype, atol
):
    x = random_images(size, channels=6)
    module = NormThenProduct(activation, use_bias, dtype)
    variables = random_variables(module, x)
    expected = module.clone(dtype=jnp.float32).apply(variables, x, fold=False)
    apply = partial(module.apply, variables)
    with compiling_for([Device(platform)]):
        np.testing.assert_allclose(apply(x).astype(jnp.float32), expected, atol=atol)
        assert normalizes_the_map(apply, x) != folded


def test_an_affine_map_stands_behind_the_gate():
    x = random_images((3, 5), channels=6)
    gate = jnp.linspace(0.1, 0.9, 2 * 6).reshape(2, 1, 1, 6)
    slope, term = np.linspace(-2, 2, 12, dtype=np.float32).reshape(2, 6)
    product = Conv1x1(4)
    variables = random_variables(product, x)
    np.testing.assert_allclose(
        product.apply(variables, x, gate, (slope, term)),
        product.apply(variables, gate * x * slope + term),
        atol=1e-5,
    )


@pytest.mark.parametrize("image_size", [(64, 64), (96, 72)])
@pytest.mark.parametrize("stack", [("C", "T"), ("B", "T")])
@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_an_accelerators_network_with_folded_norms_equals_a_cpus(
    stack, image_size, platform
):
    model = small_hybrid.create(5, image_size, stack=stack)
    x = random_images(image_size)
    variables = random_variables(model, x)
    expected = jax.jit(lambda v, x: model.apply(v, x))(variables, x)
    with compiling_for([Device(platform)]):
        folded = jax.jit(lambda v, x: model.apply(v, x))(variables, x)
    np.testing.assert_allclose(folded, expected, atol=1e-5 * np.abs(expected).max())
