"""The networks against timm's, weights carried over, in float32."""

import jax
import numpy as np
import pytest

from hybrid_jax.models import create_model, list_models
from tests.timm_oracle import import_timm, randomise, variables_from_timm


@pytest.mark.parametrize("image_size", [64, 224])
@pytest.mark.parametrize("name", ["astroformer_0", "coatnet_0"])
def test_logits_equal_timm(name, image_size):
    timm = import_timm()
    import torch

    stride = (2, 2, 2, 2, 2)  # timm's are fixed, at 64 px too
    model = create_model(name, 10, image_size, strides=stride)
    network = timm.create_model(
        "coatnet_0_224", block_type=model.stack, num_classes=10, img_size=image_size
    )
    with torch.no_grad():
        randomise(network)

    images = np.random.default_rng(0).normal(size=(2, image_size, image_size, 3))
    images = images.astype(np.float32)
    variables = variables_from_timm(network, model.stack)
    expected_shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, expected_shapes)

    with torch.no_grad():
        theirs = network(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    ours = jax.jit(model.apply)(variables, images)
    assert np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", list_models("*_[0-9]"))
def test_parameter_counts_equal_timm(name):
    timm = import_timm()
    import torch

    model = create_model(name, 1000)
    theirs = f"coatnet_{name[-1]}_224"
    with torch.device("meta"):
        network = timm.create_model(theirs, block_type=model.stack)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    ours = sum(x.size for x in jax.tree.leaves(shapes))
    assert ours == sum(p.numel() for p in network.parameters())
