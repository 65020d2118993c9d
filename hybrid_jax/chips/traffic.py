"""Count the kernels of a compiled program, and the bytes that they move.

A kernel is an instruction that runs by itself: it reads its operands from memory and
writes its results there, each once. So the sum over all kernels, divided by the
bandwidth, is the least time that the program can take, except for data that a GPU's
cache holds from one kernel to the next. If a kernel only slices an operand or looks
rows up in it, only the part that is read counts. On TPUs, arrays are padded to tiles,
and XLA puts some arrays into memory on the chip, which does not count.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hybrid_jax.profiling.hlo import Instruction, Program

_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,<=]*)\](?:\{([^}]*)\})?")
BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}

# Instructions that move no bytes, or whose start has moved them.
FREE = {
    "parameter",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "constant",
    "iota",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "domain",
}
UPDATE = "dynamic-update-slice"
SLICES = {"slice", "dynamic-slice", "gather", UPDATE}
CALLS = {"call", "async-start", "conditional", "while"}
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
# Kinds of kernels by a part of the name of what a library or a compiler runs.
KINDS = {"cublas": "product", "conv": "convolution", "triton": "kernel of ours"}
LAYOUT = {"copy", "transpose", "reshape", "convert"}  # moves that compute nothing


class Kernel(NamedTuple):
    """A kernel, and the bytes that it moves.

    Attributes:
      instruction: the instruction that it runs.
      bytes: bytes that one run reads and writes.
      numbers: bytes without padding.
      runs: how often it runs in a step.
    """

    instruction: Instruction
    bytes: int
    numbers: int
    runs: int

    @property
    def total(self) -> int:
        """Bytes of all runs."""
        return self.bytes * self.runs

    @property
    def kind(self) -> str:
        """Kind of kernel, such as `fusion` or `product`."""
        instruction = self.instruction
        name = instruction.kind.removesuffix("-start")
        if name in COLLECTIVES:
            return name
        target = instruction.target
        for word, kind in KINDS.items():
            if word in target:
                return kind
        return target or {"dot": "product"}.get(name, name)

    @property
    def is_layout(self) -> bool:
        """Whether it only moves numbers or changes their type."""
        name = self.instruction.kind.removesuffix("-start")
        return name in LAYOUT or self.instruction.name.startswith(
            ("copy", "transpose", "bitcast_concatenate")
        )


def count_kernels(program: Program) -> list[Kernel]:
    """List the kernels of a program, in order.

    The steps of a run are a loop that runs as often as its caller says. One step of the
    loop is counted. What runs once for all steps, beside the loop, is left out.
    """
    entry = program.computations[program.entry]
    steps = [each for each in entry if each.kind == "while" and each.trips is None]
    if len(steps) == 1:
        entry = program.computations[steps[0].called[0]]
    return [*_kernels(program, entry, 1)]


def array_bytes(shape: str, padded: bool = True) -> int:
    """Return the bytes that arrays take in main memory.

    An array in another memory, such as a TPU's memory on the chip, counts as 0 bytes.

    Args:
      shape: shape and layout of an array, or of a tuple, in a program's text.
      padded: whether to count the padding to tiles.
    """
    return sum(_bytes_of(match, padded) for match in _ARRAY.finditer(shape))


def _bytes_of(array: re.Match, padded: bool) -> int:
    kind, dims, layout = array[1], array[2], array[3] or ""
    if re.search(r"S\([1-9]", layout):
        return 0
    sides = [int(re.sub(r"\D", "", side)) for side in dims.split(",") if side]
    order, _, tiling = layout.partition(":")
    tile = re.match(r"T\(([\d,]+)\)", tiling)
    if tile and padded:
        minor_first = [int(axis) for axis in order.split(",") if axis]
        lengths = [int(n) for n in tile[1].split(",")]
        for axis, length in zip(minor_first, reversed(lengths), strict=False):
            sides[axis] = -(-sides[axis] // length) * length
    bits = BITS.get(kind) or int((re.findall(r"\d+", kind) or ["0"])[0])
    return math.prod(sides) * bits // 8


def _kernels(
    program: Program, instructions: Sequence[Instruction], runs: int
) -> Iterator[Kernel]:
    results = {each.name: each.result for each in instructions}
    for each in map(_without_scratch(instructions), instructions):
        if each.kind in FREE or each.kind.endswith("-done"):
            continue
        if each.kind in CALLS:
            trips = runs * (each.trips or 1)
            called = [program.computations[n] for n in each.called]
            inside = [[*_kernels(program, body, trips)] for body in called]
            # Of several branches, only the one that moves most bytes counts.
            yield from max(inside, key=lambda ks: sum(k.total for k in ks), default=[])
        else:
            moved, numbers = (
                _moved(program, each, results, padded) for padded in (True, False)
            )
            yield Kernel(each, moved, numbers, runs)


def _without_scratch(
    instructions: Sequence[Instruction],
) -> Callable[[Instruction], Instruction]:
    """Return a function that removes the unused results of a library's call."""
    taken = {(each.operands[0], each.element) for each in instructions if each.operands}

    def leave_out(call: Instruction) -> Instruction:
        if call.kind != "custom-call" or not call.result.startswith("("):
            return call
        arrays = [match[0] for match in _ARRAY.finditer(call.result)]
        kept = [a for i, a in enumerate(arrays) if (call.name, i) in taken]
        return call._replace(result=f"({', '.join(kept)})")

    return leave_out


def _moved(
    program: Program, instruction: Instruction, results: dict[str, str], padded: bool
) -> int:
    """Return the bytes that an instruction reads and writes."""
    if instruction.kind.endswith("-start"):  # its result names its operand too
        return array_bytes(instruction.result, padded)
    inside = _body(program, instruction, results)
    names = {each.name: each for each in inside}
    root = next(each for each in inside if each.is_root)
    roots = [names[n] for n in root.operands] if root.kind == "tuple" else [root]
    read = sum(_read(inside, each, padded) for each in inside if _is_parameter(each))
    return read + sum(_written(names, each, padded) for each in roots)


def _body(
    program: Program, instruction: Instruction, results: dict[str, str]
) -> list[Instruction]:
    """Return what a kernel computes from its parameters."""
    if instruction.kind == "fusion":
        return program.computations[instruction.called[0]]
    parameters = [
        Instruction("parameter", "", name, results.get(name, ""))
        for name in dict.fromkeys(instruction.operands)
    ]
    return [*parameters, instruction._replace(is_root=True)]


def _is_parameter(instruction: Instruction) -> bool:
    return instruction.kind == "parameter"


def _read(inside: Sequence[Instruction], parameter: Instruction, padded: bool) -> int:
    """Return the bytes of a parameter that are read; if it is sliced, of the slices."""
    whole = array_bytes(parameter.result, padded)
    users = [each for each in inside if parameter.name in each.operands]
    if not all(
        each.kind in SLICES and each.operands[0] == parameter.name for each in users
    ):
        return whole
    slices = (0 if e.kind == UPDATE else array_bytes(e.result, padded) for e in users)
    return min(whole, sum(slices))


def _written(names: dict[str, Instruction], root: Instruction, padded: bool) -> int:
    """Return the bytes that are written; for an update in place, of the update."""
    if root.kind == UPDATE and root.operands[1] in names:
        return array_bytes(names[root.operands[1]].result, padded)
    return 0 if _is_parameter(root) else array_bytes(root.result, padded)
