"""Print the numbers of chips that this machine lacks, as tables on the screen."""

from collections.abc import Iterator, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from hybrid_jax.console import facts_grid

SHOWN_KINDS = 8
MUCH_PADDING = 0.05  # of the bytes that are moved
PROGRAMS = {"train": "Training", "eval": "Evaluation"}


def print_report(console: Console, numbers: dict) -> None:
    """Print all numbers of `measure_target`."""
    height, width = numbers["image_size"]
    say = partial(console.print, markup=False, soft_wrap=True)
    say(
        f"{numbers['model']}, {numbers['parameters']:,} parameters, {height}x{width} "
        f"px, {numbers['dtype']}, {numbers['data']}, {numbers['loader']}; compiled for "
        f"{numbers['devices']} x {numbers['device']}, jax {numbers['jax']}"
    )
    if numbers["batch_size"] < numbers["asked_batch_size"]:
        say(
            f"A step of {numbers['asked_batch_size']} images does not fit. These are "
            f"the numbers of a step of {numbers['batch_size']} images, which fits"
        )
    for name, title in PROGRAMS.items():
        if name in numbers:
            _print_program(console, title, numbers[name])


def _print_program(console: Console, title: str, program: dict) -> None:
    console.print(f"\n{title}, {program['batch_size']:,} images a step")
    console.print(facts_grid(_facts(program)))
    total = program["bytes"] or 1
    console.print(_bytes_table("part", program["parts"], total))
    console.print(_bytes_table("kind", program["kinds"][:SHOWN_KINDS], total))
    if program["collectives"]:
        console.print(_bytes_table("collective", program["collectives"], total))


def _facts(program: dict) -> Iterator[tuple[str, str]]:
    memory = program["memory"]
    share = memory["needed"] / memory["available"]
    fits = "fits" if share <= 1 else "does not fit"
    yield (
        "memory",
        f"{_gb(memory['needed'])} of a chip's {_gb(memory['available'])}, {fits}: "
        f"{_gb(memory['arguments'])} of arguments, {_gb(memory['temporary'])} "
        "temporary",
    )
    yield (
        "largest batch",
        f"about {memory['largest_batch']:,} images, if memory grows in proportion",
    )
    layout, padding = (
        program[name] / (program["bytes"] or 1) for name in ("layout_bytes", "padding")
    )
    yield (
        "moved",
        f"{_gb(program['bytes'])} by {program['kernels']:,} kernels, "
        f"{program['bytes_an_image'] / 1e6:,.0f} MB an image; {100 * layout:.0f} % of "
        "it changes the layout alone"
        + (f", and {100 * padding:.0f} % is padding" if padding else ""),
    )
    if padding > MUCH_PADDING:
        yield (
            "padding",
            "a TPU's tiles are 8 by 128 numbers, channels mostly along the 128 and "
            "images along the 8: take widths and batches that fill them",
        )
    yield (
        "bound",
        f"{program['images_per_second']:,.0f} images/s: memory takes "
        f"{1e3 * program['seconds_by_memory']:.3g} ms a step at least, products "
        f"{1e3 * program['seconds_by_arithmetic']:.3g} ms "
        f"({program['flops'] / 1e12:.3g} TFLOP)",
    )
    yield "compiled", f"in {program['compile_seconds']:,.0f} s"


def _bytes_table(title: str, rows: Sequence[dict], total: int) -> Table:
    table = Table(title)
    for name in ("GB", "share", "kernels"):
        table.add_column(name, justify="right")
    for row in rows:
        share = f"{100 * row['bytes'] / total:.1f} %"
        numbers = f"{row['bytes'] / 1e9:,.2f}", share, f"{row['kernels']:,}"
        table.add_row(row["name"], *numbers)
    return table


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"
