"""timm as the numerical oracle."""

import importlib.machinery
import importlib.util
import sys
import types
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from hybrid_jax.models import create_model
from hybrid_jax.weights import timm_models, timm_names


class _TorchvisionStandIn:
    """Answers `import torchvision` where it is not installed.

    timm imports it for its data transforms, which no test here touches. The modules it
    gives are empty, and every attribute of theirs is an empty class.
    """

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = self._attribute
        return module

    def exec_module(self, module):
        pass

    @staticmethod
    def _attribute(name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyMember(name, (), {})


class _AnyMember(type):
    def __getattr__(cls, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return name


def import_timm():
    """timm, or a skip that says what to install."""
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[torch]'")
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_TorchvisionStandIn())
    return pytest.importorskip("timm", reason="needs timm: pip install '.[torch]'")


class Pair(NamedTuple):
    """A model of ours, timm's network, and ours' variables with its weights."""

    model: Any
    network: Any
    variables: dict


def pair(name, image_size, **overrides) -> Pair:
    """A model and timm's, with the same randomised weights.

    Strides are timm's, 2 everywhere, whatever the image's size.
    """
    timm = import_timm()
    if not name.startswith("vit"):
        overrides = {"strides": (2, 2, 2, 2, 2)} | overrides
    model = create_model(name, 10, image_size, **overrides)
    theirs, arguments = timm_models.timm_arguments(model)
    network = randomise(timm.create_model(theirs, **arguments))
    return Pair(model, network, variables_from_timm(model, network))


def variables_from_timm(model, network) -> dict:
    """Flax variables with copies of the values of a timm network."""
    state = {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()}
    shapes = shapes_of(model)
    arrays, _ = timm_names.from_timm(model, state, shapes)
    assert {path: array.shape for path, array in arrays.items()} == shapes
    return unflatten_dict(arrays, sep="/")


def shapes_of(model, channels: int = 3) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's variables by path."""
    images = jax.ShapeDtypeStruct((1, *model.image_size, channels), np.float32)
    return _shapes(model, images)


def _shapes(module, x) -> dict[str, tuple[int, ...]]:
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    return {path: x.shape for path, x in flatten_dict(variables, sep="/").items()}


def random_variables(module, x, seed: int = 0) -> dict:
    """Variables of a Flax module for an input, or its shape, from `random_arrays`."""
    return unflatten_dict(random_arrays(_shapes(module, x), seed), sep="/")


def random_arrays(
    shapes: dict[str, tuple[int, ...]], seed: int = 0
) -> dict[str, np.ndarray]:
    """Draw variables that a trained network could have; none is at its initial 0 or 1.

    Drawing them as a network initializes itself takes a program for each network.
    """
    rng, arrays = np.random.default_rng(seed), {}
    for path, shape in shapes.items():
        noise, leaf = rng.normal(size=shape), path.split("/")[-1]
        if leaf in ("var", "scale"):
            noise = 1 + 0.2 * np.abs(noise)
        elif leaf in ("kernel", "qkv"):
            noise = noise / np.sqrt(np.prod(shape[:-1]))
        else:
            noise = 0.1 * noise
        arrays[path] = noise.astype(np.float32)
    return arrays


def randomise(network, seed: int = 0):
    """Gives every parameter and statistic a value that a trained network could have."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(1 + 0.2 * noise.abs())
        elif name.endswith("running_mean") or tensor.ndim == 1:
            if tensor.is_floating_point():
                tensor.add_(0.1 * noise)
        elif name.endswith(("bias_table", "pos_embed", "cls_token")):
            tensor.copy_(noise)
    return network.eval()


def to_torch(images: np.ndarray):
    """`[B, H, W, C]` as timm takes it."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def random_images(size, batch: int = 2, channels: int = 3) -> np.ndarray:
    """Float images `[B, H, W, C]`."""
    shape = (batch, *size, channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)
