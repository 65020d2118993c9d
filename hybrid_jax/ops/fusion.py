"""Limits of XLA's fusion: what is computed once, and what is compiled apart."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from hybrid_jax.ops.backend import target_backend, use_cpu_implementations


def written_once(x: jax.Array) -> jax.Array:
    """Return `x`; make a GPU write it to memory before anything reads it.

    Without this, XLA writes the result of a convolution as products to memory. It then
    computes the norm and the activation twice: for a mean, and for its other consumer.
    """
    return lax.optimization_barrier(x) if target_backend() == "gpu" else x


def compiled_apart(
    fn: Callable[..., Any], static_argnums: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """Return `fn`; XLA fuses nothing on a CPU across its border, nor its gradient's.

    XLA inlines functions, and then fuses cheap operations into all their consumers. So
    it may compute an argument's elementwise operations in each of many consumers, and
    may keep values of the forward pass that the backward pass was to compute again. A
    CPU ignores `optimization_barrier`, but does not inline a call with this attribute.

    Args:
      fn: a function of arrays, or of trees of arrays.
      static_argnums: see `jax.jit`. They have to say all that the trace depends on.
    """

    @functools.partial(jax.jit, static_argnums=static_argnums)
    @functools.wraps(fn)
    def inner(*args: Any) -> Any:
        # Said explicitly, since derivatives of what is inside are traced elsewhere.
        with _calls_on_a_cpu(inlineable="true"):
            return fn(*args)

    @functools.wraps(fn)
    def apart(*args: Any) -> Any:
        with _calls_on_a_cpu(inlineable="false"):
            return inner(*args)

    return apart


def _calls_on_a_cpu(**attributes: str) -> AbstractContextManager:
    """Give attributes to the calls that are traced inside, if the target is a CPU."""
    return set_xla_metadata(**(attributes if use_cpu_implementations() else {}))
