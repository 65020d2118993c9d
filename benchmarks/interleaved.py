"""Contenders that take turns, A B A B, each in a process of its own.

Machines drift, so that times taken one after the other mean little; the ratio of two
medians over the same rounds does. Run by the other files here.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import track
from rich.table import Table

from hybrid_jax.cli.common import MALLOC

# Called once in a contender's process; what it returns is called once a round, and
# returns what was measured.
Contender = Callable[[], Callable[[], float]]


def take_turns(
    contenders: dict[str, Contender], rounds: int, warmups: int = 1
) -> dict[str, list[float]]:
    """What each contender measures in each round, of those that can run here.

    A contender that lacks a package, or a device, raises ImportError and is left out.
    All have the settings of malloc that a run of ours has.
    """
    os.environ |= MALLOC | os.environ
    spawn, pipes = multiprocessing.get_context("spawn"), {}
    for name, make in contenders.items():
        ours, theirs = spawn.Pipe()
        # No daemon, for some start workers of their own.
        spawn.Process(target=_serve, args=(theirs, make)).start()
        theirs.close()
        # One after the other, since some of them compile for a minute.
        if reason := _received(ours, name):
            print(f"left out: {name} ({reason})", flush=True)
        else:
            pipes[name] = ours
    measured = {name: [] for name in pipes}
    for round_ in track(range(rounds + warmups), "measuring", transient=True):
        for name, pipe in pipes.items():
            pipe.send(True)
            value = _received(pipe, name)
            if round_ >= warmups:
                measured[name].append(value)
    for pipe in pipes.values():
        pipe.send(False)
    return measured


def _received(pipe, name: str):
    """What a contender sends; the command ends where it died instead."""
    try:
        return pipe.recv()
    except EOFError:
        raise SystemExit(f"{name} ended early; what it said is above") from None


def _serve(pipe, make: Contender) -> None:
    try:
        measure = make()
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    with contextlib.suppress(EOFError):  # who asked is gone
        while pipe.recv():
            pipe.send(measure())


def headline(what: str) -> str:
    """What is measured, with what, when and on what."""
    import jax

    device = jax.devices()[0]
    cores = f"{os.cpu_count()} CPU cores"
    return (
        f"{what}, jax {jax.__version__}, {time.strftime('%d %B %Y')}, "
        f"{cores if device.platform == 'cpu' else device.device_kind}"
    )


def summarised(
    measured: dict[str, list[float]], peers: Sequence[str], scale: float
) -> Iterator[tuple[str, ...]]:
    """Rows of a table: name, median, range, and ratio to the best of the peers.

    Of what is measured, seconds or bytes, less is better: 1.2x is a median that is the
    1.2th part of the best peer's.
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
    contenders: Callable[[object], dict[str, Contender]],
    cases: dict[str, Sequence],
    peers: Sequence[str],
    unit: tuple[str, float],
) -> None:
    """The command behind a comparison: measures each case, prints a table.

    Args:
      text: the module's, for `--help`.
      what: is measured.
      contenders: of a case.
      cases: by platform, `cpu` or `gpu`; chosen by a part of their names.
      peers: names of those that ratios are to.
      unit: its name, and how many make one second (or byte).
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
        parser.error(f"it compares on {' or '.join(cases)}, and this is {platform}")
    table = Table("", "", unit[0], "range", "ratio", title=headline(what))
    for case in cases[platform]:
        if options.only not in str(case):
            continue
        made = {n: c for n, c in contenders(case).items() if n not in options.without}
        measured = take_turns(made, options.rounds)
        for i, row in enumerate(summarised(measured, peers, unit[1])):
            table.add_row(str(case) if i == 0 else "", *row)
        table.add_section()
    Console(width=110).print(table)
