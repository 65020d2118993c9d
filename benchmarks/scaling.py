"""Growth of a step's cost with the number of images, and of blocks.

    python benchmarks/scaling.py

Training steps of astroformer_0 at 32 px alternate, in batches of 8 to 64, and with 2 to
16 blocks in the third stage. A line is fitted to the medians of each. The table has its
slope, which is the cost of an image or a block, and the largest deviation from it.
"""

import argparse
import statistics
from functools import partial

import numpy as np
from contenders import Case, train_ours
from interleaved import measure_interleaved, table_title
from rich.console import Console
from rich.table import Table

MODEL, PIXELS = "astroformer_0", 32
BATCHES = (8, 16, 32, 64)
DEPTHS, BATCH = (2, 4, 8, 16), 32  # depths of the third stage, and the batch they take

GROWTHS = {
    "image": {n: partial(train_ours, Case(MODEL, PIXELS, n)) for n in BATCHES},
    "block": {
        n: partial(train_ours, Case(MODEL, PIXELS, BATCH), depths=(2, 3, n, 2))
        for n in DEPTHS
    },
}


def line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Return slope and intercept by least squares, and largest relative deviation."""
    slope, intercept = np.polyfit(x, y, 1)
    deviations = np.abs(np.polyval((slope, intercept), x) / np.asarray(y) - 1)
    return float(slope), float(intercept), float(deviations.max())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    columns = ("growing", "ms a step", "slope", "at none", "worst point")
    table = Table(*columns, title=table_title("growth of a training step"))
    for unit, contenders in GROWTHS.items():
        measured = measure_interleaved(contenders, rounds)
        medians = [1000 * statistics.median(measured[n]) for n in contenders]
        slope, intercept, worst = line([*contenders], medians)
        steps = zip(contenders, medians, strict=True)
        table.add_row(
            f"{unit}s",
            ", ".join(f"{n}: {ms:.0f}" for n, ms in steps),
            f"{slope:.2f} ms each",
            f"{intercept:.0f} ms",
            f"{100 * worst:.0f} % off",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
