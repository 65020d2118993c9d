"""Find and read the checkpoints of a run, in orbax's files.

A checkpoint is a folder named by its step. It is complete once it has its manifest (see
`manifest`). A damaged or incomplete checkpoint is skipped, and the one before it is
used.
"""

import contextlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hybrid_jax.checkpoints import arrays, manifest
from hybrid_jax.errors import UserError, first_line
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.paths import mirror_by_links, with_user_paths
from hybrid_jax.training.packed_params import pack_like, unpack
from hybrid_jax.training.state import TrainState

BEST_METRIC, TIES = "accuracy", "loss"  # highest is best; then lowest, among equals
STATE, METRICS = "state", "metrics"  # folders of a checkpoint
LATER = "evaluation.json"  # metrics of a step that was saved before its evaluation


# The step of some weights, or the steps whose weights are averaged.
Steps = int | tuple[int, ...]


class CheckpointReader:
    """A reader of the checkpoints of a run, which writes nothing.

    Attributes:
      folder: absolute path of the folder of all checkpoints.
      hosts: the processes that share the run.
      notes: a sentence for each checkpoint that is skipped or was repaired.
      steps: the steps of all intact checkpoints, in ascending order.
    """

    def __init__(self, folder: Path, hosts: Hosts | None = None) -> None:
        """Find the intact checkpoints; the main process does so for all `hosts`.

        Raises:
          UserError: there are checkpoints, but none is intact.
        """
        self.folder, self.hosts = Path(folder).absolute(), hosts or Hosts()
        self._merged: dict[int, Path] = {}  # folders of merged arrays, by step
        self._checked: set[int] = set()  # steps whose files were all read
        self._manifests: dict[int, str] = {}  # checksums of manifests, by step
        self.steps: list[int]
        self.notes: list[str]
        self._damage: dict[int, str]  # what is wrong with each step that is not intact
        self.steps, self.notes, damage = self.hosts.broadcast(self._scan)
        self._damage = dict(damage)

    def _scan(self) -> tuple[list[int], list[str], list[tuple[int, str]]]:
        """Return the intact steps in ascending order, the notes, and the damage."""
        names = (path.name for path in self.folder.glob("*"))
        intact: list[int] = []
        damage: dict[int, str] = {}
        notes: list[str] = []
        steps = sorted(int(name) for name in names if name.isdigit())
        for step in reversed(steps):
            # Of older checkpoints, only small files are read, such as the metrics.
            problem, note = self._repair(step, thorough=not intact)
            notes += [note] if note else []
            if problem:
                damage[step] = problem
            else:
                intact.insert(0, step)
        # A run that was killed during its first save has lost nothing.
        first_save = [*damage.values()] == [manifest.INCOMPLETE]
        if damage and not intact and not first_save:
            each = "; ".join(f"{step}: {problem}" for step, problem in damage.items())
            raise UserError(
                f"no checkpoint of {self.folder} is intact ({each}): restore one, or "
                "give another workdir"
            )
        notes += [self._skip(*item) for item in damage.items()]
        return intact, notes, [*damage.items()]

    def _repair(self, step: int, thorough: bool) -> tuple[str, str]:
        """Return what is wrong with a step and what was repaired; both may be empty."""
        problem = manifest.find_damage(self._path(step), thorough)
        if problem:
            return problem, ""
        if thorough:
            self._checked.add(step)
        self._manifests[step] = manifest.checksum(self._path(step))
        if not arrays.is_unmerged(self._path(step) / STATE):
            return "", ""
        try:
            self._merge(step)
        except Exception as error:  # orbax and tensorstore raise many kinds
            return f"its arrays cannot be merged ({error_message(error)})", ""
        return "", f"merged the arrays of checkpoint {self._path(step)}, left in parts"

    def _merge(self, step: int) -> None:
        """Merge the arrays of a step in another folder, which links to its files."""
        self._merged[step] = mirror_by_links(self._path(step) / STATE)
        arrays.merge(self._merged[step])

    def _skip(self, step: int, problem: str) -> str:
        """Return a note about a step that is not used."""
        return f"skipping checkpoint {self._path(step)}: {problem}"

    def _path(self, step: int) -> Path:
        return self.folder / str(step)

    def latest(self) -> int | None:
        """Return the newest step, or None."""
        return self.steps[-1] if self.steps else None

    def metrics(self, step: int) -> dict[str, Any]:
        """Return the metrics of a step, and what else was saved beside its state."""
        metrics = json.loads((self._path(step) / METRICS / METRICS).read_text())
        with contextlib.suppress(OSError, ValueError):  # the step is evaluated again
            metrics |= json.loads((self._path(step) / LATER).read_text())
        return metrics

    def best(self) -> tuple[int, dict[str, Any]] | None:
        """Return step and metrics of the best checkpoint; None if none was evaluated.

        The best has the highest validation accuracy, and of equal ones the lowest loss.
        """
        return best_checkpoint({step: self.metrics(step) for step in self.steps})

    def find_steps(self, checkpoint: str | int, validated: bool = True) -> Steps:
        """Return the step that a user asks for, or the steps to average.

        Args:
          checkpoint: `best`, `last`, a step, several of these with commas, or `all`.
          validated: whether the run has a validation split, which decides the best.

        Raises:
          UserError: there is no such checkpoint; the message lists the saved steps.
        """
        if checkpoint == "all":
            steps = self.steps or [self.find_step("last")]
        else:
            names = str(checkpoint).split(",")
            steps = sorted({self.find_step(name.strip(), validated) for name in names})
        return steps[0] if len(steps) == 1 else tuple(steps)

    def find_step(self, checkpoint: str, validated: bool = True) -> int:
        """Return the step of one checkpoint: `best`, `last` or a step.

        Raises:
          UserError: there is no such checkpoint; the message lists the saved steps.
        """
        if not self.steps:
            raise UserError(f"{self.folder} holds no checkpoint: train the run first")
        if checkpoint == "last":
            return self.steps[-1]
        saved = f"saved: {', '.join(map(str, self.steps))}"
        if checkpoint == "best":
            if validated and (best := self.best()):
                return best[0]
            raise UserError(
                f"no checkpoint of {self.folder} was evaluated on a validation split, "
                f"so none is best: give last or a step ({saved})"
            )
        if checkpoint == "all":
            raise UserError("checkpoint all takes every checkpoint: give it alone")
        step = int(checkpoint) if checkpoint.isdecimal() else -1
        if problem := self._damage.get(step):
            raise UserError(
                f"checkpoint {self._path(step)} is damaged ({problem}): restore it, or "
                f"give another ({saved})"
            )
        if step not in self.steps:
            raise UserError(
                f"checkpoint {checkpoint} is not in {self.folder}: give best, last, a "
                f"step, or all ({saved})"
            )
        return step

    def restore(self, step: int, like: TrainState, devices: Devices) -> TrainState:
        """Return the training state of a step, whatever devices it was saved from.

        Args:
          step: a saved step.
          like: structure and shapes of the state.
          devices: devices that the arrays are put on.

        Raises:
          UserError: the state cannot be read, or has other shapes or dtypes.
        """
        template = devices.state_shapes(jax.eval_shape(unpack, like))
        state = pack_like(copy_vectors(self._read(step, template)), like)
        return devices.put(state, devices.state_shapes(like))

    def load_variables(self, steps: Steps) -> dict[str, Any]:
        """Return the variables to evaluate: those of a step, or a mean over steps.

        Nothing else is read, such as the optimizer's moments. Batch statistics are
        averaged like parameters, as in timm's `avg_checkpoints.py`.

        Raises:
          UserError: the variables cannot be read.
        """
        if isinstance(steps, int):
            return self._load_variables(steps)
        return mean_of(self._load_variables(step) for step in steps)

    def _load_variables(self, step: int) -> dict[str, Any]:
        """Return the variables of a step: its moving averages, if it has any."""
        averaged = self._read(step, names=("average",))
        if averaged.get("average"):
            return averaged["average"]
        return self._read(step, names=("params", "batch_stats"))

    def load_state(self, step: int) -> dict[str, Any]:
        """Return everything that a step saved, as nested dictionaries of arrays.

        Raises:
          UserError: the state cannot be read.
        """
        return self._read(step)

    def _read(self, step: int, template: Any = None, names: Sequence[str] = ()) -> Any:
        """Read a step, after all of its files have been compared with its manifest."""
        if step in self._manifests:
            manifest.check_same(self._path(step), self._manifests[step])
        if step not in self._checked:
            if problem := manifest.find_damage(self._path(step)):
                raise self._unreadable(step, problem)
            self._checked.add(step)
        folder = self._merged.get(step, self._path(step) / STATE)
        try:
            if names:
                return arrays.read_entries(folder, names)
            return arrays.read(folder, template)
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise self._unreadable(step, error_message(error)) from None

    def _unreadable(self, step: int, problem: str) -> UserError:
        return UserError(
            f"checkpoint {self._path(step)} cannot be read ({problem}): restore it, or "
            "use another one"
        )


def is_evaluated(metrics: dict[str, Any]) -> bool:
    """Return whether a checkpoint was evaluated, not only saved on an interruption."""
    return BEST_METRIC in metrics


def best_checkpoint(
    metrics: dict[int, dict[str, Any]],
) -> tuple[int, dict[str, Any]] | None:
    """Return the best evaluated step and its metrics; None if there is none.

    Of equally good steps, the first is the best.

    Args:
      metrics: metrics of each step; steps that were not evaluated are left out.
    """
    steps = [step for step in sorted(metrics) if is_evaluated(metrics[step])]
    if not steps:
        return None

    def rank(step: int) -> tuple[float, float]:
        return metrics[step][BEST_METRIC], -metrics[step].get(TIES, math.inf)

    best = max(steps, key=rank)
    return best, metrics[best]


def mean_of(trees: Iterable[Any]) -> Any:
    """Return the mean of trees of arrays, summed one by one in float64."""
    total: Any = None
    count = 0
    for tree in trees:
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), tree)
        total = wide if total is None else jax.tree.map(np.add, total, wide)
        like, count = tree, count + 1
    return jax.tree.map(lambda sum, x: (sum / count).astype(x.dtype), total, like)


def steps_in_words(steps: Steps) -> str:
    """Return `step 1,200`, or `the mean of steps 800 and 1,200`."""
    if isinstance(steps, int):
        return f"step {steps:,}"
    *others, last = [f"{step:,}" for step in steps]
    return f"the mean of steps {', '.join(others)} and {last}"


def error_message(error: Exception) -> str:
    """Return the first line of an orbax or tensorstore error, with the user's paths."""
    return first_line(Exception(with_user_paths(str(error)) or type(error).__name__))


def copy_vectors(state: TrainState) -> TrainState:
    """Return the state with its vectors copied into NumPy arrays.

    NumPy splits packed vectors without compiling a program. They are copied because the
    next step reuses the memory of the state.
    """
    return jax.tree.map(lambda x: np.array(x) if x.ndim == 1 else x, state)
