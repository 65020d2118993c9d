"""Measure what each model of a study costs, in a process of its own.

A process that trains several models knows only the peak memory of all of them, and
several workers slow each other down. So `hybrid-jax benchmark` measures each model
alone, before any model is trained.
"""

import json
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.errors import UserError
from hybrid_jax.json_files import check_entries, read_json, write_json
from hybrid_jax.paths import replacing
from hybrid_jax.sweeps.claims import waiting_lock
from hybrid_jax.sweeps.workers import run_workers

# In the folder of a model: the JSON of `hybrid-jax benchmark`, or an `ERROR` in its
# place, and the `CONFIG` that was measured.
FILE = "cost.json"
LOCK, ERROR, CONFIG = ".costs.lock", "error", "config"
# Fields without an effect on costs; all others, but for `local` ones, are compared.
OTHERS = {"seed", "data.split_seed", "train.log_every", "train.keep", "train.report"}
SECONDS = 3.0  # of training, without compilation
DEVICE, PLAN = "the device's peak", "what XLA plans a training step with"


class Cost(NamedTuple):
    """The cost of a model.

    Attributes:
      parameters: number of parameters.
      macs: multiply-accumulates of one image; None if they are not known.
      step_seconds: median time of a training step; None if it was not measured.
      memory: largest number of bytes in use; None if it was not measured.
      memory_of: source of `memory`: `DEVICE`, or `PLAN` on a CPU, which has no count.
      conditions: batch, type and device that the time of a step depends on.
    """

    parameters: int
    macs: int | None = None
    step_seconds: float | None = None
    memory: int | None = None
    memory_of: str = ""
    conditions: str = ""


class Measure(NamedTuple):
    """A measure of the cost of a model.

    Attributes:
      name: name in sentences.
      head: head of a column on the screen.
      unit: unit of the number.
      scale: value of one unit in the units of `Cost`.
      get: returns the number of a `Cost`, in the units of `Cost`.
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
        """Return the number of a cost in `unit`; None if it is not known."""
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
    """Measure each model that is not measured yet with its config, one after another.

    Meanwhile, other workers of the folder wait. A model that cannot be measured, as one
    that is too large, is not tried again until its config changes or its file is
    deleted. One whose measurement was killed is tried again by the next command.

    Args:
      configs: configs by model.
      folder: folder of the study.
      words: returns the flags with which `hybrid-jax benchmark` measures a config.
      say: called with a line about each model.

    Raises:
      Interrupted: a signal arrived; finished measurements are kept.
    """
    with waiting_lock(folder, LOCK):
        for model, config in configs.items():
            path, settings = folder / model / FILE, _settings(config)
            # Older files do not say what was measured.
            if path.exists() and read_json(path).get(CONFIG, settings) == settings:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with replacing(path) as scratch:
                    benchmark(words(config), scratch)
                    write_json(scratch, read_json(scratch) | {CONFIG: settings})
            except UserError as error:
                if error.code == UserError.code:
                    write_json(path, {ERROR: str(error), CONFIG: settings})
                    say(f"{model} is not measured: {error}; delete {path} to try again")
                else:  # a signal, or an error of this program: no fault of the config
                    say(f"{model} is not measured: {error}")
                continue
            say(f"{model}: {in_words(read_cost(path))}")


def _settings(config: Config) -> dict[str, Any]:
    """Return the fields that a cost depends on, as a file has them."""
    flat = config.flat()
    kept = {n: flat[n] for n in flat if not FIELDS[n].local and n not in OTHERS}
    return typing.cast(dict, json.loads(json.dumps(kept)))


def benchmark(flags: list[str], path: Path) -> None:
    """Run `hybrid-jax benchmark` in a process of its own, and write its JSON.

    Raises:
      UserError: it could not measure; it has printed the reason on standard error.
    """
    flags = [*flags, f"--seconds={SECONDS}", f"--json={path}"]
    run_workers(1, ["benchmark", *flags])


def read(models: Collection[str], folder: Path) -> dict[str, Cost]:
    """Read the costs of the models that were measured, by model."""
    paths = {model: folder / model / FILE for model in models}
    return {
        model: read_cost(path)
        for model, path in paths.items()
        if path.exists() and ERROR not in read_json(path)
    }


def read_cost(path: Path) -> Cost:
    """Read the JSON of `hybrid-jax benchmark` as a cost.

    Raises:
      UserError: the file is damaged.
    """
    found = read_json(path)
    check_entries(path, found, {"memory": dict, "train": dict})
    memory: dict[str, Any] = found["memory"]
    check_entries(path, found, {"parameters": int, "macs": (int, float)})
    sizes = {"planned_bytes": (dict, type(None)), "peak_bytes": (int, type(None))}
    check_entries(path, memory, sizes)
    check_entries(path, found["train"], {"ms_per_step": (int, float)})
    planned, size, owner = memory["planned_bytes"], memory["peak_bytes"], DEVICE
    if memory["of"] == "process" and planned:
        # Most memory of a process belongs to Python and the compiler.
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
    """Format a cost as `parameters 0.30 millions, MACs 6.67 ...`."""
    known = [(m, value) for m in MEASURES if (value := m.of(cost)) is not None]
    return ", ".join(f"{m.name} {few_digits(value)} {m.unit}" for m, value in known)


def few_digits(number: float | None) -> str:
    """Format a number with about three digits; `-` if it is not known."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def about(costs: Mapping[str, Cost]) -> list[str]:
    """Return a line that says how steps and memory were measured."""
    conditions = [*dict.fromkeys(cost.conditions for cost in costs.values())]
    owners = [*dict.fromkeys(cost.memory_of for cost in costs.values())]
    if not costs:
        return []
    line = (
        f"A training step has {'; or '.join(conditions)}, and memory is "
        f"{'; or '.join(owners)}"
    )
    if len(conditions) + len(owners) > 2:
        line += ": these cannot be compared"
    return [line]
