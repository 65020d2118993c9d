"""Parse the text of a compiled program: its computations and their instructions.

The text is parsed, because jaxlib's objects (`runtime_executable().hlo_modules()`) have
an instruction's name and kind, but not its metadata, and reading the protocol buffer
that has all of it needs TensorFlow.
"""

import re
from typing import NamedTuple

# The result is a shape, or a tuple of them in parentheses; opcode and operands follow.
_INSTRUCTION = re.compile(
    r"^\s*(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = "
    r"(?P<result>\((?:[^()]|\([^()]*\))*\)|\S+) (?P<kind>[a-z][\w\-]*)\("
)
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(
    r"(?:calls|to_apply|body|branch_computations|called_computations)="
    r"(?:\{([^}]*)\}|%?([\w.\-]+))"
)
_TRIPS = re.compile(r'known_trip_count"?:\{"?n"?:"?(\d+)')
_NAME = re.compile(r"%?([A-Za-z_][\w.\-]*)")
# Modules of a network; after a stage's name comes the number of its block.
_PART = re.compile(r"(stem|stage\d+|head|block\d+|patch_embedding)(?:_block\d+)?$")

OTHER = "other"


class Instruction(NamedTuple):
    """An instruction of a compiled program.

    Attributes:
      kind: opcode, such as `fusion` or `while`.
      op_name: path of the traced operation that it was made from; may be empty.
      name: name of the instruction.
      result: its shape and layout, or those of a tuple, as text.
      operands: names of the instructions that it reads, in order.
      called: names of the computations that it calls.
      trips: how often a loop runs; None where that is not known.
      target: function that a custom call calls; empty for all else.
      is_root: whether its result is the result of its computation.
      element: index of the element of a tuple that it takes; None for all else.
    """

    kind: str
    op_name: str
    name: str = ""
    result: str = ""
    operands: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    trips: int | None = None
    target: str = ""
    is_root: bool = False
    element: int | None = None

    @property
    def direction(self) -> str:
        """`backward` if it belongs to the gradient, else `forward`."""
        return "backward" if "transpose(jvp" in self.op_name else "forward"

    @property
    def part(self) -> str:
        """Part of the network: `stem`, `stage1`, ..., `head`; or `other`."""
        matches = (_PART.match(name) for name in self.module_path.split("/"))
        return next((match[1] for match in matches if match), OTHER)

    @property
    def module_path(self) -> str:
        """Path of modules and operation, without what jax's transformations add."""
        path = re.split(r"(?:while/)?body/", self.op_name, maxsplit=1)[-1]
        # A hand-written gradient repeats the path of its forward operation.
        path = re.split(r"jvp\(\w+\)+/", path)[-1]
        # What is left are modules, their methods as `module.method`, and operations.
        return "/".join(
            name for name in path.split("/") if not re.search(r"[(.]", name)
        )


class Program(NamedTuple):
    """A compiled program.

    Attributes:
      computations: instructions of each computation by its name, in order.
      entry: name of the computation that runs first.
    """

    computations: dict[str, list[Instruction]]
    entry: str


def parse_program(text: str) -> Program:
    """Parse a program's text, `compiled.as_text()`.

    A fusion without an `op_name` takes the one of the result that it computes.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", []
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            current.append(_read_instruction(match, line))
        elif match := _COMPUTATION.match(line):
            current = computations.setdefault(match["name"], [])
            entry = match["name"] if match["entry"] else entry
    for instructions in computations.values():
        instructions[:] = [_named(each, computations) for each in instructions]
    return Program(computations, entry)


def parse_instructions(text: str) -> dict[str, Instruction]:
    """Parse the instructions of all computations of a program's text, by name."""
    computations = parse_program(text).computations.values()
    return {each.name: each for computation in computations for each in computation}


def _read_instruction(match: re.Match, line: str) -> Instruction:
    arguments, attributes = _split_at_parenthesis(line[match.end() :])
    op_name, trips = _OP_NAME.search(attributes), _TRIPS.search(attributes)
    target = re.search(r'custom_call_target="([^"]*)"', attributes)
    element = re.search(r"\bindex=(\d+)", attributes)
    called = [several or one for several, one in _CALLED.findall(attributes)]
    return Instruction(
        kind=match["kind"],
        op_name=op_name[1] if op_name else "",
        name=match["name"],
        result=match["result"],
        operands=_names(arguments) if match["kind"] != "constant" else (),
        called=tuple(name for names in called for name in _NAME.findall(names)),
        trips=int(trips[1]) if trips else None,
        target=target[1] if target else "",
        is_root=bool(match["root"]),
        element=int(element[1]) if element else None,
    )


def _split_at_parenthesis(text: str) -> tuple[str, str]:
    """Split text after an opening parenthesis at the closing one that matches."""
    depth = 1
    for match in re.finditer(r"[()]", text):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return text[: match.start()], text[match.end() :]
    return text, ""


def _names(arguments: str) -> tuple[str, ...]:
    """Return the names of operands, which may have their shapes before them."""
    plain = re.sub(r"\{[^{}]*\}|\[[^\]]*\]|/\*.*?\*/", "", arguments)
    words = (part.split() for part in plain.split(","))
    return tuple(word[-1].lstrip("%") for word in words if word)


def _named(
    instruction: Instruction, computations: dict[str, list[Instruction]]
) -> Instruction:
    if instruction.op_name or not instruction.called:
        return instruction
    inside = computations.get(instruction.called[0], [])
    last_first = sorted(inside, key=lambda each: each.is_root, reverse=True)
    return instruction._replace(
        op_name=next((each.op_name for each in last_first if each.op_name), "")
    )
