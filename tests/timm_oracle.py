"""timm as the numerical oracle, and its weights as trees of this project."""

import importlib.machinery
import importlib.util
import sys
import types

import numpy as np
import pytest


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


_BLOCK = {
    "C": {
        "shortcut.expand": "shortcut/project",
        "pre_norm": "pre_norm",
        "conv1_1x1": "expand",
        "norm1": "expand_norm",
        "conv2_kxk": "depthwise",
        "norm2": "depthwise_norm",
        "se.fc1": "squeeze_excite/reduce",
        "se.fc2": "squeeze_excite/expand",
        "conv3_1x1": "project",
    },
    "T": {
        "shortcut.expand": "shortcut/project",
        "norm1": "attention_norm",
        "norm1.norm": "attention_norm",
        "attn.qkv": "attention/qkv",
        "attn.rel_pos": "attention",
        "attn.proj": "attention/project",
        "norm2": "mlp_norm",
        "mlp.fc1": "mlp/expand",
        "mlp.fc2": "mlp/project",
    },
}
_OUTSIDE = {
    "stem.conv1": "stem/conv1",
    "stem.norm1": "stem/norm",
    "stem.conv2": "stem/conv2",
    "head.norm": "head/norm",
    "head.pre_logits.fc": "head/hidden",
    "head.fc": "head/classifier",
}


def flax_module(timm_module: str, stack) -> str:
    """`stages.0.blocks.1.conv2_kxk` as `stage1_block2/depthwise`."""
    if not timm_module.startswith("stages."):
        return _OUTSIDE[timm_module]
    _, stage, _, block, rest = timm_module.split(".", 4)
    return (
        f"stage{int(stage) + 1}_block{int(block) + 1}/{_BLOCK[stack[int(stage)]][rest]}"
    )


def flax_leaf(leaf: str, tensor: np.ndarray, module: str):
    """Collection, name and value of one tensor."""
    if leaf == "relative_position_bias_table":
        return "params", "bias_table", tensor
    if leaf in ("running_mean", "running_var"):
        return "batch_stats", leaf.removeprefix("running_"), tensor
    if leaf == "bias":
        return "params", "bias", tensor
    if tensor.ndim == 1:
        return "params", "scale", tensor
    if tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 1, 0)  # OIHW to HWIO
        if tensor.shape[:2] == (1, 1):
            tensor = tensor[0, 0]
        return "params", "kernel", tensor
    return "params", "kernel", tensor.T


def variables_from_timm(network, stack) -> dict:
    """Flax variables with the values of a timm network's state dict."""
    variables = {"params": {}, "batch_stats": {}}
    for name, tensor in network.state_dict().items():
        module, leaf = name.rsplit(".", 1)
        if leaf in ("num_batches_tracked", "relative_position_index"):
            continue
        path = flax_module(module, stack)
        collection, leaf, value = flax_leaf(leaf, tensor.numpy(), path)
        node = variables[collection]
        for part in path.split("/"):
            node = node.setdefault(part, {})
        node[leaf] = value
    return variables


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
        elif name.endswith("bias_table"):
            tensor.copy_(noise)
    return network.eval()
