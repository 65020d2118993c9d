"""Layers against their definitions elsewhere."""

import jax
import numpy as np
import pytest

from hybrid_jax.models.layers import BlockAttention
from tests.timm_oracle import import_timm, random_images, randomise, to_torch


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
