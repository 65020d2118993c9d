"""Operations whose derivatives are written by hand, in both modes.

`jax.custom_vjp` has reverse mode alone: `jax.jvp` of it raises. `jax.custom_jvp` has
both, but reverse mode is then what JAX makes of the tangent, which saves and computes
more than a gradient that is written by hand. Here the tangent is one linear operation
that brings its own transpose. Reverse mode runs that transpose, so its program is the
one of `custom_vjp`. JAX's own `linear_call` cannot be vectorized, which `jax.jacfwd`
and per-example gradients need.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Flat = Callable[..., list]  # from arrays to a list of arrays


def define_derivatives(
    operation: jax.custom_jvp, forward: Callable, tangent: Callable, backward: Callable
) -> None:
    """Define forward and reverse mode of an operation.

    Args:
      operation: the function; its static arguments, without derivatives, come last.
      forward: maps the operation's arguments to its result, and to the residuals that
        both modes need: a tree of arrays and other values, such as a shape.
      tangent: maps the static arguments, the residuals and the tangent of each other
        argument to the tangent of the result; linear in the tangents.
      backward: the transpose of `tangent`; maps the static arguments, the residuals and
        the cotangent of the result to a tuple of the other arguments' cotangents.
    """

    def rule(*args: Any) -> tuple[Any, Any]:
        *static, primals, tangents = args
        result, saved = forward(*primals, *static)
        leaves, tree = jax.tree.flatten(saved)
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
        results = jax.tree.structure(result)

        def merge(arrays: Sequence[jax.Array]) -> Any:
            given = iter(arrays)
            both = [next(given) if isinstance(x, jax.Array) else x for x in leaves]
            return jax.tree.unflatten(tree, both)

        def linear(*args: jax.Array) -> list:
            saved = merge(args[: len(arrays)])
            return jax.tree.leaves(tangent(*static, saved, *args[len(arrays) :]))

        def transpose(*args: jax.Array) -> list:
            cotangent = jax.tree.unflatten(results, args[len(arrays) :])
            return [*backward(*static, merge(args[: len(arrays)]), cotangent)]

        flat = _linear_p.bind(
            *arrays,
            *tangents,
            tangent=linear,
            transpose=transpose,
            saved=len(arrays),
            avals=tuple(map(_shaped, jax.tree.leaves(result))),
        )
        return result, jax.tree.unflatten(results, flat)

    operation.defjvp(rule)


def tangent_of_bilinear(operation: Callable) -> Callable:
    """Return the `tangent` of an operation that is linear in each of two arrays.

    Args:
      operation: maps two arrays and the static arguments to an array. The residuals of
        `forward` are these two arrays.
    """

    def tangent(*args: Any) -> jax.Array:
        *static, (a, b), da, db = args
        return operation(da, b, *static) + operation(a, db, *static)

    return tangent


# The first `saved` operands are residuals. The others are tangents, in which the
# function `tangent` is linear. The function `transpose` takes the residuals and the
# cotangents of the results. Each function is traced where it is used. `avals` are the
# shapes and dtypes of the results.
_linear_p = Primitive("linear_with_transpose")
_linear_p.multiple_results = True


def _shaped(x: jax.Array) -> ShapedArray:
    return ShapedArray(x.shape, x.dtype)


def _run(*args: jax.Array, tangent: Flat, **_: Any) -> list:
    return tangent(*args)


def _jvp(
    primals: Sequence, tangents: Sequence, *, saved: int, **params: Any
) -> tuple[list, list]:
    """Differentiate a linear operation by itself, and its residuals by `tangent`."""
    if all(isinstance(t, ad.Zero) for t in tangents[:saved]):
        whole = [ad.instantiate_zeros(t) for t in tangents[saved:]]
        both = (
            _linear_p.bind(*primals[:saved], *values, saved=saved, **params)
            for values in (primals[saved:], whole)
        )
        return next(both), next(both)
    whole = [ad.instantiate_zeros(t) for t in tangents]
    return jax.jvp(params["tangent"], [*primals], whole)


def _transpose(
    cotangents: Sequence, *args: Any, transpose: Flat, saved: int, **_: Any
) -> list:
    whole = [ad.instantiate_zeros(ct) for ct in cotangents]
    found = transpose(*args[:saved], *whole)
    wanted = map(ad.is_undefined_primal, args[saved:])
    pairs = zip(found, wanted, strict=True)
    return [None] * saved + [ct if asked else None for ct, asked in pairs]


def _vectorize(
    args: Sequence,
    dims: Sequence,
    *,
    tangent: Flat,
    transpose: Flat,
    saved: int,
    avals: tuple[ShapedArray, ...],
) -> tuple[list, list[int]]:
    """Vectorize `tangent` and `transpose`; linear operands get the new axis in front.

    An operand that all examples share is broadcast. Otherwise the transpose would have
    to sum its cotangents over the examples.
    """
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)

    def to_front(x: jax.Array, dim: int | None) -> jax.Array:
        if dim is None:
            return jnp.broadcast_to(x, (size, *x.shape))
        return jnp.moveaxis(x, dim, 0)

    linear = [*map(to_front, args[saved:], dims[saved:])]
    fixed, axes = args[:saved], tuple(dims[:saved])

    def transposed(*args: jax.Array) -> list:
        cotangents = len(args) - saved
        return jax.vmap(transpose, (*axes, *[0] * cotangents))(*args)

    results = _linear_p.bind(
        *fixed,
        *linear,
        tangent=jax.vmap(tangent, (*axes, *[0] * len(linear))),
        transpose=transposed,
        saved=saved,
        avals=tuple(ShapedArray((size, *x.shape), x.dtype) for x in avals),
    )
    return results, [0] * len(results)


_linear_p.def_impl(_run)
_linear_p.def_abstract_eval(lambda *_, avals, **__: [*avals])
ad.primitive_jvps[_linear_p] = _jvp
ad.primitive_transposes[_linear_p] = _transpose
batching.primitive_batchers[_linear_p] = _vectorize
mlir.register_lowering(_linear_p, mlir.lower_fun(_run, multiple_results=True))
