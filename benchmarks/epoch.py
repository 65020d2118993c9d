"""Cost of a whole epoch beyond its bare steps.

    python benchmarks/epoch.py [--images 50000]

astroformer_nano at 32 px, as configs/cifar10.py trains it, on random images in as many
batches as CIFAR has. As in a run, images are picked and augmented for all steps of an
epoch. The epoch alternates with as many steps on a few batches without augmentation.
The ratio is the bare step's time to the epoch's.
"""

import argparse
from functools import partial

from contenders import Case, experiment, train_ours
from interleaved import measure_interleaved, summary_rows, table_title
from rich.console import Console
from rich.table import Table

CIFAR = 50_000  # images to train on
BARE, WHOLE = "bare steps", "an epoch, augmented"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=CIFAR)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = experiment("cifar10")
    case = Case("astroformer_nano", 32, config.train.batch_size)
    steps = max(options.images // case.batch, 1)
    augment = config.augment.to_dict()
    train = partial(train_ours, case, steps, strides=config.model.strides)
    measured = measure_interleaved(
        {BARE: train, WHOLE: partial(train, batches=steps, augment=augment)},
        options.rounds,
    )
    title = table_title(f"{steps} steps of {case}")
    table = Table("", "ms a step", "range", "ratio", title=title)
    for row in summary_rows(measured, (BARE,), 1000):
        table.add_row(*row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
