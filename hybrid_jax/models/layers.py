"""Layers that more than one block uses.

Shapes: `B` batch, `H W` map, `C` channels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer

from hybrid_jax.models.block_config import PAPER, BlockConfig
from hybrid_jax.models.downsample import Phase, halve_alike, pool
from hybrid_jax.ops.backend import REFERENCE, target_backend
from hybrid_jax.ops.batch_axis import current_axis
from hybrid_jax.ops.batch_norm import affine_of, batch_norm, normalize
from hybrid_jax.ops.conv import convolution
from hybrid_jax.ops.depthwise_conv import depthwise
from hybrid_jax.ops.gelu import gelu
from hybrid_jax.ops.norm_depthwise import norm_depthwise
from hybrid_jax.ops.pointwise import gated_pointwise

# Convolutions preserve the variance of gradients (fan-out), as EfficientNet does.
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# A depthwise kernel's fan-out is its nine taps, whatever the number of channels.
depthwise_init = nn.initializers.normal((2.0 / 9) ** 0.5)

MOMENTUM = 0.9  # share of the running statistics that a batch keeps

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "none": lambda x: x,
    "gelu": gelu,
    "gelu_tanh": partial(nn.gelu, approximate=True),
    "silu": nn.silu,
    "relu": nn.relu,
}


# Factor and term of each channel, float32 [C]: what a norm computes in evaluation.
Affine = tuple[jax.Array, jax.Array]


class BatchNorm(nn.Module):
    """Batch norm with PyTorch's constants, followed by an activation.

    Statistics and parameters are float32. The running variance averages the biased
    variances of batches. PyTorch averages the unbiased ones, which are larger by
    `n / (n - 1)` for `n` values per channel.

    Attributes:
      epsilon: added to the variance.
      activation: a key of `ACTIVATIONS`.
      dtype: of the result.
    """

    epsilon: float = 1e-5
    activation: str = "none"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, then: Callable[..., Any] | None = None
    ) -> jax.Array:
        """Normalize `[..., C]`; return the same shape.

        Args:
          x: the map.
          train: whether statistics are those of the batch.
          then: in training, an operation in place of `batch_norm`, which computes it
            and what comes after it; its result is returned.
        """
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        x, activation = x.astype(self.dtype), ACTIVATIONS[self.activation]
        if not train:
            return normalize(
                x,
                mean=mean.value,
                variance=variance.value,
                scale=scale,
                bias=bias,
                epsilon=self.epsilon,
                activation=activation,
            )
        operation = then or batch_norm
        y, *moments = operation(x, scale, bias, self.epsilon, activation)
        if not self.is_initializing():
            for running, new in zip((mean, variance), moments, strict=True):
                step = (1 - MOMENTUM) * (new - running.value)
                running.value += step.astype(running.value.dtype)
        return y

    def fold(self) -> Affine:
        """Return the factor and term that evaluation applies to each channel.

        The module must have its variables already, so call this outside `init`.
        """
        params, stats = (self.variables[kind] for kind in ("params", "batch_stats"))
        return affine_of(stats["mean"], stats["var"], **params, epsilon=self.epsilon)


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014), with equal masks on any number of devices.

    Attributes:
      rate: probability of a zero; a traced array in a block that is scanned over.
      per_image: whether an image is dropped as a whole, as in stochastic depth.
    """

    rate: float | jax.Array
    per_image: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Drop values of `[B, ...]` in training; keep shape and expectation."""
        if not train or (not isinstance(self.rate, jax.Array) and self.rate == 0):
            return x
        shape = (1,) * (x.ndim - 1) if self.per_image else x.shape[1:]
        key, keep = self.make_rng("dropout"), 1 - self.rate
        mask = current_axis().sample(
            lambda batch: jax.random.bernoulli(key, keep, (batch, *shape)), len(x)
        )
        return jnp.where(mask, x / jnp.asarray(keep, x.dtype), 0)


class Conv1x1(nn.Module):
    """A 1x1 convolution as one matrix product over all positions."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = conv_init
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        gate: jax.Array | float = 1.0,
        affine: Affine | None = None,
    ) -> jax.Array:
        """Map `[B, H, W, C]` to `[B, H, W, features]`.

        Args:
          x: the map.
          gate: factors `[B, 1, 1, C]` of the map, or 1.
          affine: factor and term of each input channel, which act after the gate. They
            are folded into kernel and bias before those are rounded to `dtype`.
        """
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias: jax.Array | None = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        if affine is not None:
            slope, term = affine
            bias = term @ kernel + (0 if bias is None else bias)
            kernel = slope[:, None] * kernel
        y = gated_pointwise(x.astype(self.dtype), gate, kernel.astype(self.dtype))
        return y if bias is None else y + bias.astype(self.dtype)


def product_of_norm(
    product: Conv1x1, norm: BatchNorm, x: jax.Array, train: bool
) -> jax.Array:
    """Compute `product(norm(x))`, as one product where that moves less memory.

    In evaluation, a norm is a factor and a term of each channel, which can be folded
    into the product's kernel and bias. An accelerator then neither writes nor reads the
    normalized map. This saves more than the folded kernel costs if the map of one image
    has at least as many positions as the product has columns. A CPU gains nothing.
    """
    fixed = not train and norm.activation == "none" and not norm.is_initializing()
    is_large = x.shape[1] * x.shape[2] >= product.features
    if fixed and is_large and target_backend() in ("gpu", "tpu"):
        return product(x, affine=norm.fold())
    return product(norm(x, train))


class Conv(nn.Module):
    """A dense convolution with a kernel of odd size."""

    features: int
    size: int = 3
    stride: int = 1
    padding: str = "symmetric"
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), features]`."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", conv_init, shape, jnp.float32)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = convolution(x, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            x = x + bias.astype(self.dtype)
        return x


class DepthwiseConv(nn.Module):
    """A 3x3 convolution of each channel by itself, without a bias."""

    stride: int = 1
    padding: str = "symmetric"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, norm: Callable[..., jax.Array] | None = None
    ) -> jax.Array:
        """Map `[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), C]`.

        Args:
          x: the map.
          norm: a `BatchNorm` in training, which is computed before the convolution, and
            in one operation with it; takes `x` and `then`.
        """
        shape = (3, 3, 1, x.shape[-1])
        kernel = self.param("kernel", depthwise_init, shape, jnp.float32)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if norm is None:
            return depthwise(x, kernel, self.stride, self.padding)

        def operation(
            x: jax.Array, scale: jax.Array, bias: jax.Array, *static: Any
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            how = (*static, self.stride, self.padding)
            return norm_depthwise(x, scale, bias, kernel, *how)

        return norm(x, then=operation)


def depthwise_of_norm(
    conv: DepthwiseConv, norm: BatchNorm, x: jax.Array, train: bool, kernels: str
) -> jax.Array:
    """Compute `conv(norm(x))`; in training by the kernels that are named.

    `xla` computes two operations, `pallas` one (`ops.norm_depthwise`).
    """
    is_one = kernels == "pallas" and target_backend() != REFERENCE
    if is_one and train and not norm.is_initializing():
        return conv(x, partial(norm, train=True))
    return conv(norm(x, train))


class SqueezeExcite(nn.Module):
    """Squeeze-excite: channel gates from the pooled map (Hu et al. 2018)."""

    hidden: int
    activation: str = "silu"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, H, W, C]` to gates `[B, 1, 1, C]` between 0 and 1."""
        gate = x.mean((1, 2), keepdims=True)
        gate = Conv1x1(self.hidden, dtype=self.dtype, name="reduce")(gate)
        gate = ACTIVATIONS[self.activation](gate)
        gate = Conv1x1(x.shape[-1], dtype=self.dtype, name="expand")(gate)
        return nn.sigmoid(gate)


class BlockAttention(nn.Module):
    """CBAM (Woo et al. 2018): gates of channels, then gates of positions.

        F'  = M_c(F) * F     M_c = sigmoid(MLP(mean_HW F) + MLP(max_HW F))
        F'' = M_s(F') * F'   M_s = sigmoid(norm(conv7x7([mean_C F'; max_C F'])))

    One MLP without biases, with a sixteenth of the channels inside, serves both pooled
    vectors. The norm is in the authors' code, not in their equation.
    """

    padding: str = "symmetric"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Gate `[B, H, W, C]`; return the same shape."""
        channels = x.shape[-1]
        conv1x1 = partial(Conv1x1, use_bias=False, dtype=self.dtype)
        reduce = conv1x1(max(1, channels // 16), name="reduce")
        expand = conv1x1(channels, name="expand")

        pooled = (f(x, (1, 2), keepdims=True) for f in (jnp.mean, jnp.max))
        x = x * nn.sigmoid(sum(expand(nn.relu(reduce(p))) for p in pooled))

        maps = [f(x, -1, keepdims=True) for f in (jnp.mean, jnp.max)]
        conv = Conv(1, size=7, padding=self.padding, dtype=self.dtype, name="spatial")
        gate = conv(jnp.concatenate(maps, axis=-1))
        gate = BatchNorm(dtype=self.dtype, name="spatial_norm")(gate, train)
        return x * nn.sigmoid(gate)


class Shortcut(nn.Module):
    """Skip connection: pooled if strided, projected if the width changes."""

    features: int
    stride: int
    block_config: BlockConfig = PAPER
    use_bias: bool = True
    kernel_init: Initializer = conv_init
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, phase: Phase = None) -> jax.Array:
        """Map `[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), features]`.

        Args:
          x: the map.
          phase: the phase that the main branch kept, see `downsample`.
        """
        if self.stride == 2:
            x = pool(x, self.block_config.pool, self.block_config)
            x = halve_alike(x, phase, self.block_config)
        if x.shape[-1] != self.features:
            x = Conv1x1(
                self.features,
                use_bias=self.use_bias,
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                name="project",
            )(x)
        return x
