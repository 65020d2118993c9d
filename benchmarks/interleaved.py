"""Interleaved measurements, A B A B, with each contender in its own process.

Machines drift, so times measured one after the other mean little; the ratio of two
medians over the same rounds is sound. The other files here run it.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from hybrid_jax.cli.common import add_settings

# A function that is called once in a contender's process. It returns a function that is
# called once a round and returns the measurement.
Contender = Callable[[], Callable[[], float]]


class ContenderDied(SystemExit):
    """A contender's process ended early; the error ends the command unless caught."""


def measure_interleaved(
    contenders: Mapping[str, Contender],
    rounds: int,
    warmups: int = 1,
    died: list[str] | None = None,
) -> dict[str, list[float]]:
    """Return the measurements of each contender that can run here, by round.

    A contender that lacks a package or a device raises ImportError and is left out, by
    name. All run with the settings of a training run.

    Args:
      contenders: by name.
      rounds: measurements of each.
      warmups: rounds before those, which do not count.
      died: receives the names of contenders whose processes end early, which are then
        left out; None ends the command at the first.

    Raises:
      ContenderDied: see `died`.
    """
    os.environ |= add_settings(os.environ)
    spawn, pipes = multiprocessing.get_context("spawn"), {}
    for name, make in contenders.items():
        ours, theirs = spawn.Pipe()
        # No daemon, since some contenders start workers.
        spawn.Process(target=_serve, args=(theirs, make)).start()
        theirs.close()
        # One after the other, since some contenders compile for a minute.
        with _leaving_out(name, pipes, died):
            if reason := _receive(ours, name):
                print(f"left out: {name} ({reason})", flush=True)
            else:
                pipes[name] = ours
    measured: dict[str, list[float]] = {name: [] for name in pipes}
    for round_ in track(range(rounds + warmups), "measuring", transient=True):
        for name, pipe in [*pipes.items()]:
            with _leaving_out(name, pipes, died):
                pipe.send(True)
                value = _receive(pipe, name)
                if round_ >= warmups:
                    measured[name].append(value)
    for pipe in pipes.values():
        pipe.send(False)
    return {name: measured[name] for name in pipes}


@contextlib.contextmanager
def _leaving_out(
    name: str, pipes: dict[str, Connection], died: list[str] | None
) -> Iterator[None]:
    """Continue without a contender that dies, if there is a list for its name."""
    try:
        yield
    except ContenderDied as error:
        if died is None:
            raise
        died.append(name)
        pipes.pop(name, None)
        print(f"left out: {error}", flush=True)


def _receive(pipe: Connection, name: str) -> Any:
    """Return what a contender sends.

    Raises:
      ContenderDied: its process has ended.
    """
    try:
        return pipe.recv()
    except EOFError:
        raise ContenderDied(f"{name} ended early; what it said is above") from None


def _serve(pipe: Connection, make: Contender) -> None:
    try:
        measure = make()
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    with contextlib.suppress(EOFError):  # the parent process is gone
        while pipe.recv():
            pipe.send(measure())


def table_title(what: str) -> str:
    """Return a title with the measured quantity, versions, date and device."""
    import jax

    device = jax.devices()[0]
    cores = f"{os.cpu_count()} CPU cores"
    return (
        f"{what}, jax {jax.__version__}, {time.strftime('%d %B %Y')}, "
        f"{cores if device.platform == 'cpu' else device.device_kind}"
    )


def summary_rows(
    measured: dict[str, list[float]], peers: Sequence[str], scale: float
) -> Iterator[tuple[str, ...]]:
    """Yield rows of a table: name, median, range, and ratio to the best of the peers.

    Less is better, in seconds or bytes: 1.2x means 1.2 times as fast, or as small, as
    the best peer.
    """
    middle = {name: statistics.median(values) for name, values in measured.items()}
    best = min((middle[name] for name in peers if name in middle), default=None)
    for name, values in measured.items():
        low, mid, high = (scale * v for v in (min(values), middle[name], max(values)))
        ratio = f"{best / middle[name]:.2f}x" if best else ""
        yield name, f"{mid:,.1f}", f"{low:,.1f} to {high:,.1f}", ratio


def compare(
    text: str,
    what: str,
    contenders: Callable[[Any], Mapping[str, Contender]],
    cases: Mapping[str, Sequence],
    peers: Sequence[str],
    unit: tuple[str, float],
) -> None:
    """Run the command of a comparison: measure each case and print a table.

    Args:
      text: docstring of the module, for `--help`.
      what: name of the measured quantity.
      contenders: returns the contenders of a case.
      cases: by platform, `cpu` or `gpu`; `--only` chooses by a part of their names.
      peers: names of the contenders that ratios are relative to.
      unit: name of the unit, and how many make one second (or byte).
    """
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--without", default=[], nargs="*", help="contenders")
    options = parser.parse_args()
    import jax

    platform = jax.default_backend()
    if platform not in cases:
        parser.error(f"this runs on {' or '.join(cases)}, but jax uses {platform}")
    died: list[str] = []
    table = Table("", "", unit[0], "range", "ratio", title=table_title(what))
    for case in cases[platform]:
        if options.only not in str(case):
            continue
        made = {n: c for n, c in contenders(case).items() if n not in options.without}
        measured = measure_interleaved(made, options.rounds, died=died)
        for i, row in enumerate(summary_rows(measured, peers, unit[1])):
            table.add_row(str(case) if i == 0 else "", *row)
        table.add_section()
    Console(width=110).print(table)
    if died:
        raise SystemExit(f"ended early: {', '.join(dict.fromkeys(died))}")
