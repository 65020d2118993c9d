"""Compute many calls of the random generator as one, with the same numbers.

A network draws the weights of each layer with a key of its own. XLA compiles a loop and
a dozen kernels for each draw and for each key. A few calls give all of the numbers:
draws of one size are computed together, and so are all small ones, padded to the size
of the largest of them.

That works because jax's default generator is a function of the key and of the place in
the array (`jax_threefry_partitionable`): a longer draw begins with the same numbers.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from hybrid_jax.ops.fusion import compiled_apart

# Primitives of jax's random functions: the last makes keys, the others draw numbers.
MERGED = ("jit", "pjit", "random_fold_in")
# Draws of fewer numbers are padded. Larger ones take time to compute.
PADDED_BELOW = 1 << 16

Values = dict[Var, jax.Array]


class Distribution(NamedTuple):
    """The distribution of a draw.

    Attributes:
      name: of the function in `FLAT_DRAWS`.
      bounds: its other arguments.
      dtype: type of its numbers.
    """

    name: str
    bounds: tuple[float, ...]
    dtype: Any

    def draw(self, key: jax.Array, size: int) -> jax.Array:
        """Return numbers `[size]`."""
        return FLAT_DRAWS[self.name](key, size, self.dtype, *self.bounds)


# Each by the name that jax gives to its program.
FLAT_DRAWS: dict[str, Callable[..., jax.Array]] = {
    "_normal": lambda key, size, dtype: jax.random.normal(key, (size,), dtype),
    "_truncated_normal": lambda key, size, dtype, lower, upper: (
        jax.random.truncated_normal(key, lower, upper, (size,), dtype)
    ),
    "_uniform": lambda key, size, dtype, low, high: jax.random.uniform(
        key, (size,), dtype, low, high
    ),
}


def merge_draws(function: Callable) -> Callable:
    """Return a function in which random draws of one distribution are vectorized.

    Equal calls of other jitted functions are merged likewise. Equal are calls of one
    function with arguments of one shape.

    Args:
      function: pure function of arrays, as `jax.make_jaxpr` takes it.
    """

    def merged(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        jaxpr = closed.jaxpr
        values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
        values |= zip(jaxpr.invars, jax.tree.leaves(args), strict=True)
        for equal in _group(_needed(jaxpr), values):
            values |= _evaluate(jaxpr, equal, values)
        results = [_read(values, atom) for atom in jaxpr.outvars]
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return merged


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """Return the equations that the results depend on, in order."""
    wanted, equations = {*_variables(jaxpr.outvars)}, []
    for equation in reversed(jaxpr.eqns):
        if not wanted.isdisjoint(equation.outvars):
            equations.append(equation)
            wanted |= {*_variables(equation.invars)}
    return equations[::-1]


def _group(
    equations: Sequence[JaxprEqn], given: Iterable[Var]
) -> Iterator[list[JaxprEqn]]:
    """Yield groups of equal equations, each after all that it depends on."""
    known = {*given}
    while equations:
        groups, waiting = defaultdict(list), []
        for equation in equations:
            if not known.issuperset(_variables(equation.invars)):
                waiting.append(equation)
            elif equation.primitive.name in MERGED:
                groups[_kind(equation)].append(equation)
            else:
                known |= {*equation.outvars}
                yield [equation]
        yield from groups.values()
        known |= {x for group in groups.values() for eqn in group for x in eqn.outvars}
        equations = waiting


def _kind(equation: JaxprEqn) -> Hashable:
    """Return what the equations have in common that are merged."""
    distribution = _distribution(equation)
    if distribution is not None:
        size = _size(equation)
        return distribution, size if size >= PADDED_BELOW else None
    shapes = tuple(str(x.aval) for x in equation.invars)
    # Calls of one function with arguments of one shape share their program.
    return equation.primitive.name, id(equation.params.get("jaxpr")), shapes


def _distribution(equation: JaxprEqn) -> Distribution | None:
    """Return the distribution of a draw whose first numbers do not depend on its size.

    None is for all else, such as a draw by another generator than Threefry.
    """
    name = equation.params.get("name")
    if name not in FLAT_DRAWS or not jax.threefry_partitionable.value:
        return None
    key, *bounds = equation.invars
    if str(key.aval) != "key<fry>[]" or _variables(bounds):
        return None
    values = tuple(float(_read({}, bound)) for bound in bounds)
    return Distribution(name, values, _result(equation).dtype)


def _result(equation: JaxprEqn) -> Any:
    """Return shape and dtype of the numbers that a draw gives."""
    return equation.outvars[0].aval


def _size(equation: JaxprEqn) -> int:
    return math.prod(_result(equation).shape)


def _evaluate(jaxpr: Jaxpr, equal: Sequence[JaxprEqn], values: Values) -> Values:
    """Return the values of the variables of one equation, or of several equal ones."""
    if len(equal) == 1:
        return _evaluate_one(jaxpr, equal[0], values)
    distribution = _distribution(equal[0])
    if distribution is not None:
        return _evaluate_draws(distribution, equal, values)
    first = equal[0]
    inner = first.params.get("jaxpr")
    bind = partial(first.primitive.bind, **first.params)
    rows = [[_read(values, x) for x in equation.invars] for equation in equal]
    stacked = _map_rows(jaxpr_as_fun(inner) if inner else lambda *x: [bind(*x)], rows)
    return {
        variable: array[i]
        for i, equation in enumerate(equal)
        for variable, array in zip(equation.outvars, stacked, strict=True)
    }


def _evaluate_one(jaxpr: Jaxpr, equation: JaxprEqn, values: Values) -> Values:
    given = [*dict.fromkeys(_variables(equation.invars))]
    part = jaxpr.replace(
        constvars=[], invars=given, outvars=equation.outvars, eqns=[equation]
    )
    results = jaxpr_as_fun(ClosedJaxpr(part, []))(*[values[x] for x in given])
    return dict(zip(equation.outvars, results, strict=True))


def _evaluate_draws(
    distribution: Distribution, draws: Sequence[JaxprEqn], values: Values
) -> Values:
    size = max(map(_size, draws))
    keys = [[_read(values, draw.invars[0])] for draw in draws]
    (drawn,) = _map_rows(lambda key: [distribution.draw(key, size)], keys)
    return {
        draw.outvars[0]: drawn[i, : _size(draw)].reshape(_result(draw).shape)
        for i, draw in enumerate(draws)
    }


def _map_rows(function: Callable, rows: Sequence[Sequence[Any]]) -> list[jax.Array]:
    """Return the results of a function for each row of arguments, stacked."""
    columns = map(jnp.stack, zip(*rows, strict=True))
    # Otherwise XLA would compute each slice by kernels of its own. A CPU ignores the
    # barrier, and only a CPU heeds that the call is compiled apart.
    return lax.optimization_barrier(compiled_apart(jax.vmap(function))(*columns))


def _variables(atoms: Iterable[Any]) -> list[Var]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _read(values: Values, atom: Any) -> Any:
    return atom.val if isinstance(atom, Literal) else values[atom]
