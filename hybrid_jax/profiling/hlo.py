"""What a compiled program's instructions are called, and where they come from."""

import re
from typing import NamedTuple

# Of a result, tuples in parentheses; then what is done.
_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?:\(.*?\)|\S+) (?P<kind>[a-z][\w\-]*)\("
)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_ORIGIN = re.compile(r'op_name="(?P<origin>[^"]*)"')
_CALLED = re.compile(r"(?:calls|to_apply)=%?(?P<called>[\w.\-]+)")
# Modules of a network; what follows the name of a stage is the number of its block.
_PART = re.compile(r"(stem|stage\d+|head|block\d+|patch_embedding)(?:_block\d+)?$")

OTHER = "other"


class Instruction(NamedTuple):
    """Attributes:
    kind: what it does, such as `fusion` or `while`.
    origin: the traced operation that it was made from, as a path; maybe empty.
    """

    kind: str
    origin: str

    @property
    def backward(self) -> bool:
        """Whether it belongs to the gradient."""
        return "transpose(jvp" in self.origin

    @property
    def part(self) -> str:
        """Of the network: `stem`, `stage1`, ..., `head`; or `other`."""
        found = (_PART.match(name) for name in self.where.split("/"))
        return next((match[1] for match in found if match), OTHER)

    @property
    def where(self) -> str:
        """Its path within the step, without what jax's transformations add."""
        path = re.split(r"(?:while/)?body/", self.origin, maxsplit=1)[-1]
        # A hand-written gradient repeats the path of what it is the gradient of.
        path = re.split(r"jvp\(\w+\)+/", path)[-1]
        # What is left are modules, their methods as `module.method`, and operations.
        return "/".join(
            name for name in path.split("/") if not re.search(r"[(.]", name)
        )


def instructions(text: str) -> dict[str, Instruction]:
    """All instructions of a program's text, `compiled.as_text()`, by name.

    A fusion that lost its origin takes the first that is found in what it fuses.
    """
    found, borrowed, origins = {}, {}, {}
    computation = ""
    for line in text.splitlines():
        match = _INSTRUCTION.match(line)
        if not match:
            begins = _COMPUTATION.match(line)
            computation = begins["name"] if begins else computation
            continue
        origin = _ORIGIN.search(line)
        if origin:
            origins.setdefault(computation, origin["origin"])
        elif called := _CALLED.search(line):
            borrowed[match["name"]] = called["called"]
        found[match["name"]] = Instruction(
            match["kind"], origin["origin"] if origin else ""
        )
    for name, called in borrowed.items():
        found[name] = found[name]._replace(origin=origins.get(called, ""))
    return found
