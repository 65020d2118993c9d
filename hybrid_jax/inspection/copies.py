"""Find all copies among images: by pixels, by likeness, and by a network's features."""

from collections.abc import Iterator, Sequence

from hybrid_jax.inspection import near_duplicates
from hybrid_jax.inspection.near_duplicates import POSSIBLE, Copies, Pair
from hybrid_jax.inspection.scan import ScannedImages


def find_copies(images: ScannedImages, run: str = "") -> Copies:
    """Return exact copies, and then near copies, the most similar first.

    Args:
      images: images of the data set.
      run: workdir of a network whose features are compared too; empty compares none.

    Raises:
      UserError: there is no such run.
    """
    exact = near_duplicates.find_exact(images)
    near = near_duplicates.find_near(images)
    found = _joined(exact, near)
    if not run:
        return found
    # Only here, since it imports models and runs.
    from hybrid_jax.inspection import features

    known = {
        pair[:2]
        for pair in found.between_splits + found.within_split
        if pair.band != POSSIBLE
    }
    new = [pair for pair in features.find(run, images) if pair[:2] not in known]
    return _joined(found, near_duplicates.group_by_split(new, images.split_index))


def _joined(first: Copies, second: Copies) -> Copies:
    return Copies(
        first.between_splits + second.between_splits,
        first.within_split + second.within_split,
    )


def best_pairs(
    images: ScannedImages, pairs: Sequence[Pair], band: str
) -> Iterator[Pair]:
    """Yield the best pair of each second image and split, if it is of this band."""
    best: dict[tuple[int, int], Pair] = {}
    for pair in pairs:
        if pair.band != POSSIBLE:  # which no check shows
            split = int(images.split_index[pair.first])
            best.setdefault((pair.second, split), pair)
    return (pair for pair in best.values() if pair.band == band)
