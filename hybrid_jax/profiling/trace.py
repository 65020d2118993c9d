"""Where the time of a training step goes: a trace, taken, read and added up."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.profiler import ProfileData, ProfileOptions

from hybrid_jax.errors import UserError
from hybrid_jax.profiling.hlo import OTHER, Instruction, instructions

COSTLIEST = 10
# They last as long as what they call, which is in the trace too.
CONTROL = {"while", "call", "conditional"}
# Rows of a device that have its operations; others repeat them, in groups.
DEVICE_ROWS = ("Stream", "XLA Ops")


class Event(NamedTuple):
    """An operation that ran, in nanoseconds."""

    start: float
    end: float
    name: str


def profile(
    folder: str,
    program: jax.stages.Compiled,
    dispatch: Callable[[int], Any],
    steps: int,
) -> dict:
    """Traces some steps into a folder, and says what they spent their time on.

    Args:
      folder: gets a trace for TensorBoard and one for Perfetto.
      program: that `dispatch` runs.
      dispatch: starts a number of steps, once warm.
      steps: how many.

    Raises:
      UserError: jax recorded none of the program's operations here.
    """
    path = Path(folder).expanduser()
    options = ProfileOptions()
    options.python_tracer_level = 0  # it would slow down what is measured
    with jax.profiler.trace(path, create_perfetto_trace=True, profiler_options=options):
        jax.block_until_ready(dispatch(steps))
    newest = max(path.rglob("*.xplane.pb"), key=lambda file: file.stat().st_mtime)
    known = instructions(program.as_text())
    events = list(operations(ProfileData.from_file(str(newest)), known))
    if not events:
        raise UserError(
            f"--profile={folder}: the trace is written, but this device left none of "
            "the program's operations in it: leave the flag out"
        )
    return {"folder": str(newest.parent), "steps": steps} | added_up(
        events, known, steps
    )


def operations(trace: ProfileData, known: dict[str, Instruction]) -> Iterator[Event]:
    """The operations of a trace: those of the devices, or where it has none the host's.

    Copies and kernels of a device that name no instruction of the program are among
    them, such as those that a GPU replays from a recorded graph.
    """
    planes = list(trace.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    on_devices = list(_events(devices, known, DEVICE_ROWS))
    yield from on_devices or _events(planes, known)


def _events(
    planes: Iterable, known: dict[str, Instruction], rows: tuple[str, ...] = ()
) -> Iterator[Event]:
    """Those of some rows, or of all rows, where only what is known counts."""
    for plane in planes:
        for line in plane.lines:
            if not line.name.startswith(rows or ""):
                continue
            for event in line.events:
                name = event.name
                if rows:  # kernels say which instruction they belong to
                    name = str(dict(event.stats).get("hlo_op", name))
                # A TPU's events are called by the whole line of the program.
                word = name.split(" ", 1)[0].lstrip("%")
                if word in known:
                    name = word
                    if known[name].kind in CONTROL:
                        continue
                elif not rows:
                    continue
                end = event.start_ns + event.duration_ns
                yield Event(event.start_ns, end, name)


def exclusive(events: Iterable[Event]) -> tuple[Counter[str], float]:
    """Nanoseconds by name, and those in which nothing ran.

    Every instant is split evenly among the operations that run then, so that what
    overlaps is counted once and all adds up to the time that passed.
    """
    changes = []
    for event in events:
        changes += [(event.start, 1, event.name), (event.end, -1, event.name)]
    changes.sort()
    # `share` grows with time by what one running operation gets of it.
    times, running, idle, share = Counter(), 0, 0.0, 0.0
    last = changes[0][0] if changes else 0.0
    for now, change, name in changes:
        if running:
            share += (now - last) / running
        else:
            idle += now - last
        # An operation's time is the share at its end less that at its start.
        times[name] -= change * share
        running += change
        last = now
    return times, idle


def added_up(events: list[Event], known: dict[str, Instruction], steps: int) -> dict:
    """The costliest operations, and the time of each part of the network."""
    times, idle = exclusive(events)
    calls = Counter(event.name for event in events)
    total, unknown = sum(times.values()), Instruction("kernel", "")
    parts = defaultdict(lambda: {"forward": 0.0, "backward": 0.0})
    rows = []
    for name, time in times.most_common():
        instruction = known.get(name, unknown)
        direction = "backward" if instruction.backward else "forward"
        ms = time / 1e6 / steps
        parts[instruction.part][direction] += ms
        rows.append(
            {
                "name": name,
                "kind": instruction.kind,
                "ms_per_step": ms,
                "share": time / total,
                "calls_per_step": calls[name] / steps,
                "direction": direction,
                "part": instruction.part,
                "where": instruction.where,
            }
        )
    whole = total / 1e6 / steps
    return {
        "busy_ms_per_step": whole,
        "idle_ms_per_step": idle / 1e6 / steps,
        "operations": rows[:COSTLIEST],
        "parts": [
            {"part": part, **ms, "share": sum(ms.values()) / whole}
            for part, ms in sorted(parts.items(), key=_in_order)
        ],
    }


def _in_order(item: tuple[str, dict]) -> tuple:
    """The parts of a network as images pass them."""
    name = item[0]
    first = ("stem", "patch_embedding")
    last = ("head", OTHER)
    number = int(re.search(r"\d*$", name)[0] or 0)
    return (name not in first, last.index(name) + 1 if name in last else 0, number)
