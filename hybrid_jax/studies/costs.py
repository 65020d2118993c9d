"""What each model of a study costs: counted, and measured in a process of its own.

A process that trains one model after another knows the peak of its memory over all of
them, and several workers slow each other down. So each model is measured by itself
before any is trained, by what `hybrid-jax benchmark` does.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.config.schema import Config
from hybrid_jax.engine.json_files import read_json, write_json
from hybrid_jax.errors import UserError
from hybrid_jax.sweeps.claims import waiting_lock
from hybrid_jax.sweeps.workers import run_workers

FILE = "cost.json"  # in the folder of a model: what `hybrid-jax benchmark` has found
LOCK, ERROR = ".costs.lock", "error"
SECONDS = 3.0  # of training, once it is compiled
DEVICE, PLAN = "the device's peak", "what XLA plans a training step with"


class Cost(NamedTuple):
    """What a model costs.

    Attributes:
      parameters: how many.
      macs: multiply-accumulates of one image; None if they are not known.
      step_seconds: median time of a training step; None if it was not measured.
      memory: bytes in use at most; None if it was not measured.
      memory_of: `DEVICE`; where that does not count its bytes, as a CPU, `PLAN`.
      conditions: what a step's time depends on.
    """

    parameters: int
    macs: int | None = None
    step_seconds: float | None = None
    memory: int | None = None
    memory_of: str = ""
    conditions: str = ""


class Measure(NamedTuple):
    """A number that tells models apart by what they cost.

    Attributes:
      name: in sentences.
      head: over a column of a table on the screen.
      unit: of the number.
      scale: so many of what a `Cost` has make one unit.
      get: takes it from a cost.
    """

    name: str
    head: str
    unit: str
    scale: float
    get: Callable[[Cost], float | None]

    @property
    def title(self) -> str:
        """Return name and unit."""
        return f"{self.name} ({self.unit})"

    def of(self, cost: Cost) -> float | None:
        """Return the number in its unit; None if it is not known."""
        found = self.get(cost)
        return None if found is None else found / self.scale


PARAMETERS = Measure(
    "parameters", "params", "millions", 1e6, lambda cost: cost.parameters
)
MACS = Measure("MACs", "MACs", "millions an image", 1e6, lambda cost: cost.macs)
STEP = Measure("training step", "ms", "ms", 1e-3, lambda cost: cost.step_seconds)
MEMORY = Measure("memory", "MB", "MB", 1e6, lambda cost: cost.memory)
MEASURES = (PARAMETERS, MACS, STEP, MEMORY)


def measure(
    configs: Mapping[str, Config],
    folder: Path,
    words: Callable[[Config], list[str]],
    say: Callable[[str], None],
) -> None:
    """Measure each model that is not measured yet, one at a time.

    Other workers of the folder wait meanwhile. A model that cannot be measured, as one
    that is too large, is not tried again until its file is deleted.

    Args:
      configs: by model.
      folder: of the study.
      words: returns the flags that make `hybrid-jax benchmark` measure a config.
      say: is told what was found of each.

    Raises:
      Interrupted: by a signal; what was measured is kept.
    """
    with waiting_lock(folder, LOCK):
        for model, config in configs.items():
            path = folder / model / FILE
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_name(f".{FILE}")
            try:
                benchmark(words(config), scratch)
            except UserError as error:
                write_json(path, {ERROR: str(error)})
                say(f"{model} is not measured: {error}; delete {path} to try again")
                continue
            scratch.replace(path)
            say(f"{model}: {in_words(read_cost(path))}")


def benchmark(flags: list[str], path: Path) -> None:
    """Write what `hybrid-jax benchmark` finds in a process of its own.

    Raises:
      UserError: it could not measure, which it has said on standard error.
    """
    flags = [*flags, f"--seconds={SECONDS}", f"--json={path}"]
    run_workers(1, ["benchmark", *flags])


def read(models: Collection[str], folder: Path) -> dict[str, Cost]:
    """Read the costs of models that were measured."""
    paths = {model: folder / model / FILE for model in models}
    return {
        model: read_cost(path)
        for model, path in paths.items()
        if path.exists() and ERROR not in read_json(path)
    }


def read_cost(path: Path) -> Cost:
    """Read what `hybrid-jax benchmark` has found.

    Raises:
      UserError: the file is damaged.
    """
    found = read_json(path)
    memory: dict[str, Any] = found["memory"]
    planned, size, owner = memory["planned_bytes"], memory["peak_bytes"], DEVICE
    if memory["of"] == "process" and planned:
        # Most of a process is Python and the compiler.
        size, owner = sum(planned.values()), PLAN
    return Cost(
        found["parameters"],
        found["macs"],
        found["train"]["ms_per_step"] / 1e3,
        size,
        owner,
        f"{found['batch_size']} images in {found['dtype']} on {found['devices']} x "
        f"{found['device']}",
    )


def in_words(cost: Cost) -> str:
    """Return a cost such as `parameters 0.30 millions, MACs 6.67 ...`."""
    known = [(m, value) for m in MEASURES if (value := m.of(cost)) is not None]
    return ", ".join(f"{m.name} {few_digits(value)} {m.unit}" for m, value in known)


def few_digits(number: float | None) -> str:
    """Return a number in about three digits; `-` if it is not known."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def about(costs: Mapping[str, Cost]) -> list[str]:
    """Say of what steps and memory were measured."""
    conditions = [*dict.fromkeys(cost.conditions for cost in costs.values())]
    owners = [*dict.fromkeys(cost.memory_of for cost in costs.values())]
    if not costs:
        return []
    line = (
        f"A training step has {'; or '.join(conditions)}, and memory is "
        f"{'; or '.join(owners)}"
    )
    if len(conditions) + len(owners) > 2:
        line += ": these do not compare"
    return [line]
