"""Configs of the blocks in published networks. Plain Python.

CoAtNet's paper, its Astroformer descendant, the TensorFlow release of MaxViT, timm's
own CoAtNets ("rw") and ViT share their blocks up to the choices below.
"""

import dataclasses
from dataclasses import replace

from hybrid_jax.models.strides import HEAD_DIM


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """Choices inside the blocks; the defaults are those of CoAtNet's paper.

    Attributes:
      activation: of stem and convolution blocks, a key of `layers.ACTIVATIONS`.
      padding: of convolutions: `symmetric` as in PyTorch or `same` as in TensorFlow,
        which differ where there is a stride, or `circular`, as on a torus.
      downsample: how strides halve a map, a key of `downsample.DOWNSAMPLING`.
      batch_norm_epsilon: in stem and convolution blocks.
      stem_bias: whether the stem's convolutions have biases.
      conv_bias: whether a convolution block's shortcut and last 1x1 convolution have
        biases.
      pre_activation: whether an activation follows a convolution block's first norm.
      expanded: which width of a block is expanded fourfold, `output` or `input`.
      stride_in: where the stride is, in the `depthwise` convolution or in a `pool`
        before it.
      gate_activation: inside squeeze-excite.
      gate_before_norm: whether squeeze-excite comes before or after the norm that
        follows the depthwise convolution.
      pool: of strided shortcuts and transformer blocks, a key of `downsample.POOLS`.
      attention: where the relative bias is added, before (`pre`) or after (`post`) the
        softmax.
      relative_bias: source of the relative bias: a `table` of offsets, a table of
        offsets on a `torus`, an `mlp` of log offsets, or `none`.
      relative_bias_hidden: width of that MLP.
      head_dim: channels of an attention head.
      widened_by: the projection that widens a strided transformer block, `qkv` or
        `project`.
      shortcut_bias: whether a transformer block's shortcut projection has a bias.
      transformer_activation: inside its MLP.
      transformer_norm: of transformer blocks and head, `layer` or `batch`.
      transformer_norm_epsilon: epsilon of that norm.
      head_activation: after the head's norm, a key of `layers.ACTIVATIONS`.
      layer_scale: initial factor of a transformer's branches; 0 has none.
      kernels: how a convolution block computes norm and depthwise convolution in
        training, see `layers.depthwise_of_norm`; the result is the same.
    """

    activation: str = "gelu"
    padding: str = "symmetric"
    downsample: str = "strided"
    batch_norm_epsilon: float = 1e-5
    stem_bias: bool = False
    conv_bias: bool = True
    pre_activation: bool = False
    expanded: str = "output"
    stride_in: str = "depthwise"
    gate_activation: str = "silu"
    gate_before_norm: bool = False
    pool: str = "average"
    attention: str = "pre"
    relative_bias: str = "table"
    relative_bias_hidden: int = 512
    head_dim: int = HEAD_DIM
    widened_by: str = "qkv"
    shortcut_bias: bool = True
    transformer_activation: str = "gelu"
    transformer_norm: str = "layer"
    transformer_norm_epsilon: float = 1e-6
    head_activation: str = "none"
    layer_scale: float = 0.0
    kernels: str = "xla"


PAPER = BlockConfig()

# Dosovitskiy et al. 2021: positions enter through their embedding alone.
VIT = BlockConfig(relative_bias="none", head_dim=64)

# Tu et al. 2022, as released for TensorFlow.
MAXVIT = BlockConfig(
    activation="gelu_tanh",
    padding="same",
    batch_norm_epsilon=1e-3,
    stem_bias=True,
    transformer_activation="gelu_tanh",
    transformer_norm_epsilon=1e-5,
)

# Zagoruyko & Komodakis 2016.
WIDE_RESNET = BlockConfig(
    activation="relu",
    transformer_norm="batch",
    transformer_norm_epsilon=1e-5,
    head_activation="relu",
)
# Wide residual blocks, followed by transformers and a head as in CoAtNet.
WIDE_HYBRID = BlockConfig(activation="relu")

# timm's CoAtNets, made before the originals were released: two generations ...
RW = BlockConfig(activation="silu", expanded="input", widened_by="project")
RW_EARLY = replace(
    RW, conv_bias=False, pre_activation=True, stride_in="pool", gate_activation="relu"
)
# ... and the configs that timm trained.
RW_NANO = replace(RW, stride_in="pool")
RW_0 = replace(RW_EARLY, gate_before_norm=True, shortcut_bias=False)
RW_1 = replace(RW_0, stride_in="depthwise")
RW_BN = replace(RW_1, transformer_norm="batch")
RW_2 = replace(RW_EARLY, stride_in="depthwise", gate_activation="silu")
RW_3 = replace(RW_2, layer_scale=1e-6)
RW_MLP_NANO = replace(RW, relative_bias="mlp", relative_bias_hidden=384)
RW_MLP_1 = replace(RW_0, pool="max", relative_bias="mlp", relative_bias_hidden=384)
RW_MLP_1_SECOND = replace(RW_EARLY, stride_in="depthwise", relative_bias="mlp")
RW_MLP_2 = replace(RW_3, relative_bias="mlp")
