"""Cost of a network, counted in a program that is traced and never run.

A multiply-accumulate (MAC) is a product that is added to a sum. The count covers the
matrix products and convolutions for one image, taps on padding included.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple, SupportsIndex

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from hybrid_jax.models.hybrid import HybridNet
from hybrid_jax.models.vit import ViT
from hybrid_jax.ops.backend import reference_implementations


class Part(NamedTuple):
    """A module of a network, or a parameter outside of any.

    Attributes:
      name: such as `stage1_block1`.
      shape: of a module's output for one image, or of the parameter.
      parameters, macs: number of parameters, and of multiply-accumulates.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    macs: int


class Cost(NamedTuple):
    """Cost of a network for one image.

    Attributes:
      parts: in the order of the computation.
      variables: shapes and types of its parameters and batch statistics.
    """

    parts: list[Part]
    variables: dict

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(part.parameters for part in self.parts)

    @property
    def macs(self) -> int:
        """Number of multiply-accumulates of the network."""
        return sum(part.macs for part in self.parts)


def cost(model: HybridNet | ViT, channels: int = 3) -> Cost:
    """Count parameters and multiply-accumulates, part by part.

    The count is equal on every platform.

    Args:
      model: the network; costs are those of one image of its `image_size`.
      channels: of the image.

    Raises:
      ValueError: `channels` is no whole number above 0.
      TypeError: `model` is no network.
    """
    if not isinstance(model, HybridNet | ViT):
        raise TypeError(
            f"a network is needed, not {model!r}: hybrid_jax.create_model returns one"
        )
    if not isinstance(channels, SupportsIndex) or channels < 1:
        raise ValueError(f"channels={channels!r}: give a whole number from 1")
    names: list[str] = []
    shapes: dict[str | None, tuple[int, ...]] = {}

    def record_shape(
        call: Callable, args: tuple, kwargs: dict, context: Any
    ) -> jax.Array:
        y = call(*args, **kwargs)
        if len(context.module.path) == 1 and context.method_name == "__call__":
            shapes[context.module.name] = y.shape[1:]
        return y

    def init(images: jax.Array) -> Any:
        _, variables = model.init_with_output(jax.random.key(0), images)
        names.extend(variables["params"])  # in order; make_jaxpr returns them sorted
        return variables

    with reference_implementations(), nn.intercept_methods(record_shape):
        jaxpr, variables = jax.make_jaxpr(init, return_shape=True)(
            image_shape(model, channels)
        )
    macs = macs_by_part(jaxpr.jaxpr, names)
    params = variables["params"]
    parts = [
        Part(
            name,
            shapes[name] if name in shapes else params[name].shape,
            sum(x.size for x in jax.tree.leaves(params[name])),
            macs[name],
        )
        for name in names
    ]
    return Cost(parts, variables)


def macs_by_part(jaxpr: Jaxpr, names: Collection[str], part: str = "") -> Counter[str]:
    """Count the multiply-accumulates of a program; a scan counts every iteration.

    Args:
      jaxpr: the program.
      names: of the parts; an equation belongs to the outermost one in its name stack.
      part: name under which all other equations are counted.

    Returns:
      Multiply-accumulates by name of the part.
    """
    counts: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        scopes = str(equation.source_info.name_stack).split("/")
        inside = next((scope for scope in scopes if scope in names), part)
        counts[inside] += _count_macs(equation)
        runs = equation.params["length"] if equation.primitive.name == "scan" else 1
        for program in _called_programs(equation):
            for name, macs in macs_by_part(program, names, inside).items():
                counts[name] += runs * macs
    return counts


def _count_macs(equation: JaxprEqn) -> int:
    """Return an equation's number of outputs times the terms that each one sums."""
    zeros = 1
    operands: list[Any] = [variable.aval for variable in equation.invars]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        terms = math.prod(operands[0].shape[axis] for axis in contracted)
    elif equation.primitive.name == "conv_general_dilated":
        kernel = operands[1]
        features = equation.params["dimension_numbers"].rhs_spec[0]
        terms = kernel.size // kernel.shape[features]
        # The gradient of a strided convolution dilates its input with zeros.
        zeros = math.prod(equation.params["lhs_dilation"])
    else:
        return 0
    output: Any = equation.outvars[0].aval
    return output.size * terms // zeros


def _called_programs(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """Yield programs that an equation calls, such as the body of a loop."""
    for value in jax.tree.leaves([*equation.params.values()]):
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value


def image_shape(model: HybridNet | ViT, channels: int) -> jax.ShapeDtypeStruct:
    """Return the shape of a batch of one image, float32 `[1, H, W, channels]`."""
    return jax.ShapeDtypeStruct((1, *model.image_size, channels), jnp.float32)
