"""Instructions of a compiled program: their names, kinds and source operations.

jaxlib's objects (`runtime_executable().hlo_modules()`) have an instruction's name and
kind, and not its metadata; reading the protocol buffer that has all of it needs
TensorFlow. So the text is parsed.
"""

import re
from typing import NamedTuple

# The result is a shape, or a tuple in parentheses; the opcode follows.
_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?:\(.*?\)|\S+) (?P<kind>[a-z][\w\-]*)\("
)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
# Modules of a network; after a stage's name comes the number of its block.
_PART = re.compile(r"(stem|stage\d+|head|block\d+|patch_embedding)(?:_block\d+)?$")

OTHER = "other"


class Instruction(NamedTuple):
    """An instruction of a compiled program.

    Attributes:
      kind: opcode, such as `fusion` or `while`.
      op_name: path of the traced operation that it was made from; maybe empty.
    """

    kind: str
    op_name: str

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


def parse_instructions(text: str) -> dict[str, Instruction]:
    """Parse the instructions of a program's text, `compiled.as_text()`, by name.

    A fusion without an `op_name` takes the first one of the computation that it calls.
    """
    instructions: dict[str, Instruction] = {}
    calls: dict[str, str] = {}  # computations by the fusions that call them
    first_op_names: dict[str, str] = {}  # of the computations
    computation = ""
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            op_name, called = _OP_NAME.search(line), _CALLED.search(line)
            if op_name:
                first_op_names.setdefault(computation, op_name[1])
            elif called:
                calls[match["name"]] = called[1]
            path = op_name[1] if op_name else ""
            instructions[match["name"]] = Instruction(match["kind"], path)
        elif match := _COMPUTATION.match(line):
            computation = match["name"]
    for name, computation in calls.items():
        path = first_op_names.get(computation, "")
        instructions[name] = instructions[name]._replace(op_name=path)
    return instructions
