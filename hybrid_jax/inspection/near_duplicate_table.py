"""A table of copies: what to leave out, and what it is a copy of."""

import csv
from pathlib import Path

from hybrid_jax.inspection.near_duplicates import BY_FEATURES, Copies, Pair
from hybrid_jax.inspection.scan import Images

NAME = "near_copies.csv"
COLUMNS = (
    *("likeness", "path", "split", "label"),
    *("other", "other_split", "other_label", "sure", "change"),
)


def write(folder: Path, images: Images, copies: Copies) -> list[str]:
    """Writes `near_copies.csv`, the most alike pairs first, if there are any.

    Returns:
      The names of what was written.
    """
    pairs = [(pair, pair.first, pair.second) for pair in copies.across]
    pairs += [(pair, pair.second, pair.first) for pair in copies.within]
    if not pairs:  # of an earlier look
        (folder / NAME).unlink(missing_ok=True)
        return []
    # Likeness by features is another one, and less sure.
    pairs.sort(key=lambda row: (row[0].band == BY_FEATURES, -row[0].likeness))
    # Names of files need not be text; this way their bytes are kept.
    options = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with (folder / NAME).open("w", **options) as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(_row(images, *row) for row in pairs)
    return [NAME]


def _row(images: Images, pair: Pair, out: int, other: int) -> tuple:
    return (
        f"{pair.likeness:.4f}",
        *(images.name(out), images.split(out), images.class_of(out)),
        *(images.name(other), images.split(other), images.class_of(other)),
        *(pair.band, pair.change),
    )
