"""Profile training steps: record a trace, read it, add up its operations.

`jax.profiler.ProfileData` reads the trace. xprof's tables of operations stay empty on a
CPU, and clu's profiler only starts and stops a trace.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from jax.profiler import ProfileData, ProfileOptions

from hybrid_jax.errors import UserError
from hybrid_jax.paths import expand_user
from hybrid_jax.profiling.hlo import OTHER, Instruction, parse_instructions

SHOWN_OPERATIONS = 10
# Their events span those of the operations that they call, which the trace has too.
CONTROL_FLOW = {"while", "call", "conditional"}
# Lines of a device with its operations; other lines repeat them in groups.
DEVICE_LINES = ("Stream", "XLA Ops")
# Order of the parts of the network; stages and blocks are between, by their numbers.
PART_ORDER = {"stem": -1.0, "patch_embedding": -1.0, "head": 1e6, OTHER: 2e6}


class Event(NamedTuple):
    """An operation that ran; times in nanoseconds."""

    start: float
    end: float
    name: str


def profile_steps(
    folder: str,
    program: jax.stages.Compiled,
    dispatch: Callable[[int], Any],
    steps: int,
) -> dict:
    """Record a trace of training steps, and return what they spent their time on.

    Args:
      folder: gets a trace for TensorBoard and one for Perfetto.
      program: the program that `dispatch` runs.
      dispatch: starts a number of steps; it has run before.
      steps: number of steps to record.

    Returns:
      The folder of the trace, the number of steps, and the entries of `summarize`.

    Raises:
      UserError: jax recorded none of the program's operations on this device.
    """
    path = expand_user(folder)
    options = ProfileOptions()
    options.python_tracer_level = 0  # it would slow down what is measured
    with jax.profiler.trace(path, create_perfetto_trace=True, profiler_options=options):
        jax.block_until_ready(dispatch(steps))
    newest = max(path.rglob("*.xplane.pb"), key=lambda file: file.stat().st_mtime)
    instructions = parse_instructions(program.as_text() or "")
    events = read_events(ProfileData.from_file(str(newest)), instructions)
    if not events:
        raise UserError(
            f"--profile={folder}: the trace is written, but this device recorded none "
            "of the program's operations: leave the flag out"
        )
    summary = summarize(events, instructions, steps)
    return {"folder": str(newest.parent), "steps": steps} | summary


def read_events(trace: ProfileData, known: dict[str, Instruction]) -> list[Event]:
    """Return the operations of the devices, or of the host if no device has any.

    They include copies and kernels of a device that name no instruction of the program,
    such as kernels that a GPU replays from a recorded graph.

    Args:
      trace: what `jax.profiler` recorded.
      known: instructions of the program by name.
    """
    on_devices: list[Event] = []
    on_host: list[Event] = []
    lines = [(plane.name, line) for plane in trace.planes for line in plane.lines]
    for plane, line in lines:
        device = plane.startswith("/device:") and line.name.startswith(DEVICE_LINES)
        for event in line.events:
            # A GPU's kernel has its instruction in its statistics; a TPU's event is
            # called by the instruction's whole line of the program.
            stats = dict(event.stats) if device else {}
            full_name = str(stats.get("hlo_op", event.name))
            name = full_name.split(" ", 1)[0].lstrip("%")
            if name in known and known[name].kind in CONTROL_FLOW:
                continue
            end = event.start_ns + event.duration_ns
            if device:
                name = name if name in known else full_name
                on_devices.append(Event(event.start_ns, end, name))
            elif name in known:
                on_host.append(Event(event.start_ns, end, name))
    return on_devices or on_host


def exclusive_times(events: Iterable[Event]) -> tuple[dict[str, float], float]:
    """Return nanoseconds by name, and the nanoseconds in which nothing ran.

    Every instant is split evenly among the operations that run then. So overlaps count
    once, and all times add up to the time that passed.
    """
    changes = []
    for event in events:
        changes += [(event.start, 1, event.name), (event.end, -1, event.name)]
    changes.sort()
    # `share` adds up the time that each running operation gets. The time of an
    # operation is the share at its end minus the share at its start.
    times: defaultdict[str, float] = defaultdict(float)
    running, idle, share = 0, 0.0, 0.0
    last = changes[0][0] if changes else 0.0
    for now, change, name in changes:
        if running:
            share += (now - last) / running
        else:
            idle += now - last
        times[name] -= change * share
        running += change
        last = now
    return times, idle


def summarize(
    events: list[Event], instructions: dict[str, Instruction], steps: int
) -> dict:
    """Return the times of the costliest operations and of each part of the network.

    Args:
      events: operations that ran.
      instructions: instructions of the program by name.
      steps: number of steps that the events are of.
    """
    times, idle = exclusive_times(events)
    calls = Counter(event.name for event in events)
    total = sum(times.values())
    parts: dict[str, dict[str, float]] = {}
    rows = []
    for name, time in sorted(times.items(), key=lambda item: -item[1]):
        instruction = instructions.get(name, Instruction("kernel", ""))
        ms = time / 1e6 / steps
        part = parts.setdefault(instruction.part, {"forward": 0.0, "backward": 0.0})
        part[instruction.direction] += ms
        rows.append(
            {
                "name": name,
                "kind": instruction.kind,
                "ms_per_step": ms,
                "share": time / total,
                "calls_per_step": calls[name] / steps,
                "direction": instruction.direction,
                "part": instruction.part,
                "where": instruction.module_path,
            }
        )
    busy = total / 1e6 / steps
    return {
        "busy_ms_per_step": busy,
        "idle_ms_per_step": idle / 1e6 / steps,
        "operations": rows[:SHOWN_OPERATIONS],
        "parts": [
            {"part": name, **parts[name], "share": sum(parts[name].values()) / busy}
            for name in sorted(parts, key=_part_order)
        ],
    }


def _part_order(part: str) -> float:
    return PART_ORDER.get(part) or int(re.sub(r"\D", "", part))
