"""Find the Pareto front of cost and accuracy."""

from collections.abc import Mapping


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points on the Pareto front, the cheapest first.

    A point is on the front if no other point is better in cost or accuracy and at least
    as good in the other. Of equal points, all are on the front.

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
