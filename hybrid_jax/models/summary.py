"""What a network costs, counted in a program that is traced and never run.

A multiply-accumulate (MAC) is one product that is added to a sum. Those of matrix
products and convolutions are counted, for one image, taps on the border's zeros too.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from clu import parameter_overview
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.sharding import SingleDeviceSharding

from hybrid_jax.models.hybrid import HybridNet
from hybrid_jax.models.vit import ViT
from hybrid_jax.ops.backend import plain_operations


class Part(NamedTuple):
    """A module, or a parameter outside of any, of a network.

    Attributes:
      name: such as `stage1_block1`.
      shape: of what a module gives for one image, or of the parameter.
      parameters, macs: how many.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    macs: int


class Cost(NamedTuple):
    """What a network costs for one image.

    Attributes:
      parts: in the order of the computation.
      variables: shapes and types of its parameters and batch statistics.
    """

    parts: list[Part]
    variables: dict

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def macs(self) -> int:
        return sum(part.macs for part in self.parts)


def summary(model: HybridNet | ViT, channels: int = 3, parameters: bool = False) -> str:
    """A table of a network's parts with their shapes, parameters and GMACs, and totals.

    Nothing is computed, so a network may be larger than the machine.

    Args:
      model: the network; costs are those of one image of its `image_size`.
      channels: of the image.
      parameters: whether a table of every parameter follows.
    """
    counted = cost(model, channels)
    rows = [("", "shape", "parameters", "GMACs")]
    rows += [
        (part.name, _by(part.shape), f"{part.parameters:,}", f"{part.macs / 1e9:.3f}")
        for part in counted.parts
    ]
    rows += [("total", "", f"{counted.parameters:,}", f"{counted.macs / 1e9:.3f}")]
    lines = [*_aligned(rows), "", _flops_line(model, channels, counted.variables)]
    if parameters:
        lines += [
            "",
            parameter_overview.get_parameter_overview(
                counted.variables["params"], include_stats=False
            ),
        ]
    return "\n".join(lines)


def cost(model: HybridNet | ViT, channels: int = 3) -> Cost:
    """Counts parameters and multiply-accumulates, part by part.

    The count is the same on every platform.

    Args:
      model: the network; costs are those of one image of its `image_size`.
      channels: of the image.
    """
    names, shapes = [], {}

    def note_shape(call, args, kwargs, context):
        y = call(*args, **kwargs)
        if len(context.module.path) == 1 and context.method_name == "__call__":
            shapes[context.module.name] = y.shape[1:]
        return y

    def init(images):
        _, variables = model.init_with_output(jax.random.key(0), images)
        names.extend(variables["params"])  # still in their order
        return variables

    with plain_operations(), nn.intercept_methods(note_shape):
        jaxpr, variables = jax.make_jaxpr(init, return_shape=True)(
            _image(model, channels)
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
    """Multiply-accumulates of a program, a scan's as often as it runs.

    Args:
      jaxpr: the program.
      names: of the parts; an equation belongs to the outermost that it is named after.
      part: what an equation that is named after none belongs to.
    """
    counts = Counter()
    for equation in jaxpr.eqns:
        scopes = str(equation.source_info.name_stack).split("/")
        inside = next((scope for scope in scopes if scope in names), part)
        counts[inside] += _macs(equation)
        runs = equation.params["length"] if equation.primitive.name == "scan" else 1
        for program in _programs(equation):
            for name, macs in macs_by_part(program, names, inside).items():
                counts[name] += runs * macs
    return counts


def _macs(equation: JaxprEqn) -> int:
    """Of one equation: its outputs, times what each is a sum of."""
    zeros = 1
    if equation.primitive.name == "dot_general":
        (summed, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        terms = math.prod(left[axis] for axis in summed)
    elif equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        features = equation.params["dimension_numbers"].rhs_spec[0]
        terms = kernel.size // kernel.shape[features]
        # In a strided convolution's gradient, one pixel in so many is not a zero.
        zeros = math.prod(equation.params["lhs_dilation"])
    else:
        return 0
    return equation.outvars[0].aval.size * terms // zeros


def _programs(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """What an equation calls, such as the body of a loop."""
    for value in jax.tree.leaves([*equation.params.values()]):
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value


def _flops_line(model: HybridNet | ViT, channels: int, variables: dict) -> str:
    """What XLA says of the program that gives the logits of one image."""
    shape = _by((*model.image_size, channels))
    try:
        # Of all platforms, the CPU analyses what is not compiled.
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return f"for one image of {shape}; no FLOPs, since JAX_PLATFORMS has no cpu"

    with plain_operations():
        # A loop is counted once, so no blocks are scanned over here.
        spelt_out = model.clone(scan="off")
        program = jax.jit(
            spelt_out.apply, in_shardings=SingleDeviceSharding(device)
        ).lower(variables, _image(model, channels))
    gflops = program.cost_analysis()["flops"] / 1e9
    return f"for one image of {shape}; {gflops:.3f} GFLOPs in XLA's cost analysis"


def _image(model: HybridNet | ViT, channels: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *model.image_size, channels), jnp.float32)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Lines of a table: the names to the left, the rest to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        right = [cell.rjust(n) for cell, n in zip(cells, widths[1:], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *right])
