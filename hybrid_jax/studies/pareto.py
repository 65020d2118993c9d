"""Which points are on the Pareto front: none costs less and is as good, or better."""

from collections.abc import Mapping


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points on the front, the cheapest first.

    Points that are equal in both are on it together.

    Args:
      points: cost and accuracy by name.
    """
    found: list[str] = []
    cheaper = best = float("-inf")
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        cost, accuracy = points[name]
        if accuracy > best or (accuracy == best and cost == cheaper):
            found.append(name)
            cheaper, best = cost, accuracy
    return found
