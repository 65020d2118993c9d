"""Milliseconds of a training step on this chip, beside the least that its bytes take.

Compiles the step for the chip that jax finds here, with `--target`, and counts the
bytes that it moves; then trains. The ratio is the measured time to the least time.

    python benchmarks/bound.py --models astroformer_0 astroformer_1
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from chips import command
from rich.console import Console
from rich.table import Table


def main() -> None:
    """Measure each model, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["astroformer_0"])
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    chip = chip_here()
    table = Table(
        "model", "GB a step", "bound, ms", "measured, ms", "ratio", title=f"{chip} here"
    )
    for model in args.models:
        size = f"--config.train.batch_size={args.batch_size}"
        counted = benchmark(model, size, f"--target={chip}")
        measured = benchmark(model, size, "--config.dtype=bfloat16")
        table.add_row(model, *row(counted, measured))
    Console(width=80).print(table)


def chip_here() -> str:
    """Return the name that `--target` knows this machine's chip by."""
    import jax

    from hybrid_jax.chips.specs import CHIPS

    kind = jax.devices()[0].device_kind
    for chip in CHIPS.values():
        if chip.device_kind == kind:
            return chip.name
    raise SystemExit(f"bound.py: {kind} is not known: run on {', '.join(CHIPS)}")


def benchmark(model: str, *arguments: str) -> dict[str, Any]:
    """Return the JSON of `hybrid-jax benchmark`.

    The command runs in a process of its own, since a process keeps a chip to its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "numbers.json")
        arguments = (*arguments, f"--json={path}")
        subprocess.run([*command(model), *arguments], check=True)  # noqa: S603
        return json.loads(path.read_text())


def row(counted: dict[str, Any], measured: dict[str, Any]) -> tuple[str, ...]:
    """Return a step's bytes, their least time, the measured time, and the ratio."""
    step = counted["train"]
    least = 1e3 * max(step["seconds_by_memory"], step["seconds_by_arithmetic"])
    taken = measured["train"]["ms_per_step"]
    numbers = f"{step['bytes'] / 1e9:.1f}", f"{least:.1f}", f"{taken:.1f}"
    return *numbers, f"{taken / least:.2f}x"


if __name__ == "__main__":
    main()
