"""Compute equal calls of the random generator as one, with the same numbers.

A network draws the weights of each layer with a key of its own. XLA compiles a loop and
a dozen kernels for each draw and for each key. Most layers share their shapes with
others, so a few calls give all of the numbers.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from hybrid_jax.ops.fusion import compiled_apart

# Primitives of jax's random functions: the last makes keys, the others draw numbers.
MERGED = ("jit", "pjit", "random_fold_in")

Values = dict[Var, jax.Array]


def merge_draws(function: Callable) -> Callable:
    """Return a function in which equal random draws are vectorized.

    Draws are equal if they have the same distribution and shape. Calls of other jitted
    functions are merged likewise.

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
    shapes = tuple(str(x.aval) for x in equation.invars)
    # Calls of one function with arguments of one shape share their program.
    return equation.primitive.name, id(equation.params.get("jaxpr")), shapes


def _evaluate(jaxpr: Jaxpr, equal: Sequence[JaxprEqn], values: Values) -> Values:
    """Return the values of the variables of one equation, or of several equal ones."""
    first = equal[0]
    if len(equal) == 1:
        given = [*dict.fromkeys(_variables(first.invars))]
        part = jaxpr.replace(
            constvars=[],
            invars=given,
            outvars=first.outvars,
            eqns=[first],
        )
        results = jaxpr_as_fun(ClosedJaxpr(part, []))(*[values[x] for x in given])
        return dict(zip(first.outvars, results, strict=True))
    inner = first.params.get("jaxpr")
    bind = partial(first.primitive.bind, **first.params)
    function = jax.vmap(jaxpr_as_fun(inner) if inner else lambda *x: [bind(*x)])
    rows = [[_read(values, x) for x in eqn.invars] for eqn in equal]
    # Otherwise XLA would compute each slice by kernels of its own. A CPU ignores the
    # barrier, and only a CPU heeds that the call is compiled apart.
    drawn = compiled_apart(function)(*map(jnp.stack, zip(*rows, strict=True)))
    stacked = lax.optimization_barrier(drawn)
    return {
        variable: array[i]
        for i, equation in enumerate(equal)
        for variable, array in zip(equation.outvars, stacked, strict=True)
    }


def _variables(atoms: Iterable[Any]) -> list[Var]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _read(values: Values, atom: Any) -> Any:
    return atom.val if isinstance(atom, Literal) else values[atom]
