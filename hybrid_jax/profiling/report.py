"""Print the numbers of a measurement as tables on the screen."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hybrid_jax.console import facts_grid


def print_report(console: Console, numbers: dict) -> None:
    """Print all numbers of `measure_experiment`."""
    height, width = numbers["image_size"]
    batch, parts = numbers["batch_size"], numbers["micro_batches"]
    at_a_time = f", {batch // parts} at a time" if parts > 1 else ""
    console.print(
        f"{numbers['model']}, {numbers['parameters']:,} parameters, {height}x{width} "
        f"px in batches of {batch}{at_a_time}, {numbers['dtype']}\n"
        f"{numbers['data']}, {numbers['loader']}; {numbers['device']} "
        f"({numbers['platform']}), jax {numbers['jax']}",
        markup=False,
        soft_wrap=True,
    )
    rates = _table("", "images/s", "ms/step", "range", "calls", "steps/call")
    for name in ("train", "eval"):
        if name not in numbers:  # without a validation and a test split
            continue
        rate = numbers[name]
        low, high = rate["ms_per_step_range"]
        rates.add_row(
            name,
            f"{rate['images_per_second']:,.1f}",
            f"{rate['ms_per_step']:,.2f}",
            f"{low:,.2f} to {high:,.2f}",
            str(rate["calls"]),
            str(rate["steps_per_call"]),
        )
    console.print(rates)
    console.print(facts_grid(_facts(numbers)))
    if "profile" in numbers:
        _print_profile(console, numbers["profile"])


def _facts(numbers: dict) -> Iterator[tuple[str, str]]:
    flops, memory = numbers["flops"], numbers["memory"]
    yield (
        "FLOP/s",
        f"{flops['per_second'] / 1e12:,.3f} T in training, "
        f"{flops['per_step'] / 1e9:,.3f} G a step",
    )
    yield (
        "MFU",
        f"{100 * flops['mfu']:.1f} % of {flops['peak_per_second'] / 1e12:,.2f} T "
        f"({flops['peak_source']})",
    )
    yield "memory", f"{_mb(memory['peak_bytes'])} at most, of the {memory['of']}"
    if planned := memory["planned_bytes"]:
        yield (
            "planned",
            f"{_mb(planned['temporary'])} temporary, {_mb(planned['arguments'])} of "
            "arguments",
        )
    seconds = numbers["start_up_seconds"]
    read = "read from the cache" if seconds["from_cache"] else "compiled"
    yield (
        "start",
        f"{seconds['ready']:.1f} s to the first step's end: traced in "
        f"{seconds['traced']:.1f} s, {read} in {seconds['compiled']:.1f} s, first step "
        f"{seconds['first_step']:.2f} s",
    )


def _print_profile(console: Console, profile: dict) -> None:
    parts = _table("part", "forward ms", "backward ms", "share")
    for row in profile["parts"]:
        times = f"{row['forward']:,.3f}", f"{row['backward']:,.3f}"
        parts.add_row(row["part"], *times, f"{100 * row['share']:.1f} %")
    console.print(parts)
    operations = _table("operation", "ms/step", "share", "calls/step")
    operations.add_column("where", overflow="fold")
    for row in profile["operations"]:
        operations.add_row(
            Text(row["name"], overflow="fold"),
            f"{row['ms_per_step']:,.3f}",
            f"{100 * row['share']:.1f} %",
            f"{row['calls_per_step']:g}",
            Text(row["where"] + " (backward)" * (row["direction"] == "backward")),
        )
    console.print(operations)
    console.print(
        f"busy {profile['busy_ms_per_step']:,.2f} ms a step, idle "
        f"{profile['idle_ms_per_step']:,.2f} ms; trace of {profile['steps']} steps in "
        f"{profile['folder']}",
        markup=False,
        soft_wrap=True,
    )


def _table(first: str, *others: str) -> Table:
    """Return a table with names to the left and numbers to the right."""
    table = Table(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
