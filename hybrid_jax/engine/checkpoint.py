"""Checkpoints: the newest few and the best, written by orbax while training continues.

A checkpoint is a folder named by its step. It counts once it has its manifest (see
`checkpoint_manifest`). A damaged or incomplete one is skipped, and the one before it is
used.
"""

import contextlib
import itertools
import json
import math
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from hybrid_jax import library_logs
from hybrid_jax.engine import checkpoint_arrays, checkpoint_manifest
from hybrid_jax.engine.json_files import write_whole
from hybrid_jax.errors import UserError, first_line, megabytes
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.paths import mirror, plain, with_user_paths
from hybrid_jax.training.packed_params import pack_like, unpack
from hybrid_jax.training.state import TrainState

BEST_METRIC, TIES = "accuracy", "loss"  # the higher; of equal ones the lower
STATE, METRICS = "state", "metrics"  # folders of a checkpoint
LATER = "evaluation.json"  # metrics of a step that was saved before its evaluation


class CheckpointReader:
    """Read the checkpoints of a run; write nothing.

    Attributes:
      folder: absolute path of the folder of all checkpoints.
      hosts: the processes that share the run.
      notes: a sentence for each checkpoint that is skipped or was repaired.
      steps: the steps of all intact checkpoints, in ascending order.
    """

    def __init__(self, folder: Path, hosts: Hosts | None = None) -> None:
        """Find the intact checkpoints; the leading process looks for all of `hosts`.

        Raises:
          UserError: there are checkpoints and none is intact.
        """
        self.folder, self.hosts = Path(folder).absolute(), hosts or Hosts()
        self._merged: dict[int, Path] = {}  # folders of merged arrays, by step
        self.steps: list[int]
        self.notes: list[str]
        self.steps, self.notes = self.hosts.broadcast(self._scan)

    def _scan(self) -> tuple[list[int], list[str]]:
        """Return the intact steps in ascending order, and the notes."""
        names = (path.name for path in self.folder.glob("*"))
        intact: list[int] = []
        damage: dict[int, str] = {}
        notes: list[str] = []
        steps = sorted(int(name) for name in names if name.isdigit())
        for step in reversed(steps):
            # All files of the newest are read; of others, those that tell the best.
            problem, note = self._repair(step, thorough=not intact)
            notes += [note] if note else []
            if problem:
                damage[step] = problem
            else:
                intact.insert(0, step)
        # A run that was killed during its first save has lost nothing.
        first_save = [*damage.values()] == [checkpoint_manifest.INCOMPLETE]
        if damage and not intact and not first_save:
            each = "; ".join(f"{step}: {problem}" for step, problem in damage.items())
            raise UserError(
                f"no checkpoint of {self.folder} is intact ({each}): restore one, or "
                "give another workdir"
            )
        return intact, notes + [self._skip(*item) for item in damage.items()]

    def _repair(self, step: int, thorough: bool) -> tuple[str, str]:
        """Return what is wrong with a step and what was repaired; both may be empty."""
        problem = checkpoint_manifest.find_damage(self._path(step), thorough)
        if problem or not checkpoint_arrays.is_unmerged(self._path(step) / STATE):
            return problem, ""
        try:
            self._merge(step)
        except Exception as error:  # orbax and tensorstore raise many kinds
            return f"its arrays cannot be merged ({_message(error)})", ""
        return "", f"merged the arrays of checkpoint {self._path(step)}, left in parts"

    def _merge(self, step: int) -> None:
        """Merge the arrays of a step in another folder, which links to its files."""
        self._merged[step] = mirror(self._path(step) / STATE)
        checkpoint_arrays.merge(self._merged[step])

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
        with contextlib.suppress(OSError, ValueError):  # it is evaluated again
            metrics |= json.loads((self._path(step) / LATER).read_text())
        return metrics

    def best(self) -> tuple[int, dict[str, Any]] | None:
        """Return step and metrics of the best checkpoint; None if none was evaluated.

        The best has the highest validation accuracy, and of equal ones the lowest loss.
        """
        return best_checkpoint({step: self.metrics(step) for step in self.steps})

    def find_step(self, checkpoint: str | int, validated: bool = True) -> int:
        """Return the step that a user asks for.

        Args:
          checkpoint: `best`, `last` or a step.
          validated: whether the run has a validation split, so that one is the best.

        Raises:
          UserError: there is no such checkpoint; lists those that there are.
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
        if not str(checkpoint).isdigit() or int(checkpoint) not in self.steps:
            raise UserError(
                f"checkpoint {checkpoint} is not in {self.folder}: give best, last or "
                f"a step ({saved})"
            )
        return int(checkpoint)

    def restore(self, step: int, like: TrainState, devices: Devices) -> TrainState:
        """Return the training state of a step, whatever devices it was saved from.

        Args:
          step: a saved one.
          like: structure and shapes of the state.
          devices: where its arrays are put.

        Raises:
          UserError: the state cannot be read, or differs in shapes or dtypes.
        """
        template = devices.state_shapes(jax.eval_shape(unpack, like))
        state = pack_like(_copy_vectors(self._read(step, template)), like)
        return devices.put(state, devices.state_shapes(like))

    def load_variables(self, step: int) -> dict[str, Any]:
        """Return the variables for evaluating a step: moving averages if it has them.

        Nothing else is read, such as the optimizer's moments.

        Raises:
          UserError: the variables cannot be read.
        """
        averaged = self._read(step, names=("average",))
        if averaged.get("average"):
            return averaged["average"]
        return self._read(step, names=("params", "batch_stats"))

    def load_state(self, step: int) -> dict[str, Any]:
        """Return everything that a step saved, as nested dictionaries of arrays.

        Raises:
          UserError: it cannot be read.
        """
        return self._read(step)

    def _read(self, step: int, template: Any = None, names: Sequence[str] = ()) -> Any:
        folder = self._merged.get(step, self._path(step) / STATE)
        try:
            if names:
                return checkpoint_arrays.read_entries(folder, names)
            return checkpoint_arrays.read(folder, template)
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise UserError(
                f"checkpoint {self._path(step)} cannot be read ({_message(error)}): "
                "give another step"
            ) from None


class CheckpointWriter(CheckpointReader):
    """Read and write the checkpoints of a run.

    As a context manager, it waits at its end until everything is on disk.

    Attributes:
      persistent: whether the checkpoints outlive the process.
    """

    persistent = True

    def __init__(self, folder: Path, keep: int, hosts: Hosts | None = None) -> None:
        """Open a folder, rename its damaged checkpoints, and delete unfinished ones.

        Args:
          folder: of all checkpoints; made if need be.
          keep: number of newest checkpoints that stay, beside the best. From 2, so that
            one is left if the newest is damaged.
          hosts: the processes that share the run.

        Raises:
          UserError: there are checkpoints and none is intact.
        """
        super().__init__(folder, hosts)
        self._best_policy = _KeepBest()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation.AnyPreservationPolicy(
                [preservation.LatestN(keep), self._best_policy]
            ),
            # Without this function, orbax writes no metrics.
            best_fn=lambda metrics: metrics.get(BEST_METRIC, -math.inf),
            cleanup_tmp_directories=True,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(plain(self.folder), options=options)
        self._threads = ThreadPoolExecutor(1, "checkpoint")
        self._unfinished: Future[None] | None = None
        self._polls = itertools.count()
        self._unraisable = library_logs.ClosedLoopFilter()

    def _skip(self, step: int, problem: str) -> str:
        """Rename a damaged step, so that no later run looks at it; return a note."""
        renamed = self.folder / f"damaged-{step}"
        while renamed.exists():
            renamed = renamed.with_name(renamed.name + "-again")
        self._path(step).rename(renamed)
        return f"{super()._skip(step, problem)}; renamed to {renamed.name}"

    def _merge(self, step: int) -> None:
        """Merge the arrays of a step in its own folder."""
        checkpoint_arrays.merge(self._path(step) / STATE)
        checkpoint_manifest.write(self._path(step))

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.wait()
            if kind is None:
                self._unraisable.uninstall()
        except UserError:
            if kind is None:  # otherwise the first error is raised
                raise
        finally:
            with contextlib.suppress(Exception):  # `wait` has raised it
                self._manager.close()
            self._threads.shutdown()

    def save(self, step: int, state: TrainState, metrics: dict[str, Any]) -> None:
        """Begin to write a checkpoint, and return.

        Of a step that was saved before its evaluation, only the metrics are written.
        Packed vectors are unpacked on disk, so that any model's can be read alone.

        Args:
          step: its name.
          state: on the devices.
          metrics: decide which checkpoint is the best; may hold anything fit for JSON.

        Raises:
          UserError: this or the checkpoint before it cannot be written.
        """
        self.wait()
        if step in self.steps:
            if self.hosts.is_main:
                write_whole(self._path(step) / LATER, json.dumps(metrics))
            return
        size = sum(x.nbytes for x in jax.tree.leaves(state))
        if size > self.hosts.broadcast(self._free_bytes):
            raise self._write_error(step, size, "the disk is full")
        best = self.hosts.broadcast(self.best)
        best = best_checkpoint({step: metrics} | (dict([best]) if best else {}))
        self._best_policy.step = best[0] if best else None
        saved = unpack(_copy_vectors(state))
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(saved)),
                metrics=metrics,
            )
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise self._write_error(step, size, _write_message(error)) from None
        count = len(jax.tree.leaves(saved))
        self._unfinished = self._threads.submit(self._finish, step, size, count)

    def preemption_announced(self) -> bool:
        """Return whether the cloud has announced the end of a host, alike on all hosts.

        All hosts must call this equally often, before every dispatch of steps.
        """
        if not self.hosts.is_distributed:
            return False  # jax listens only where it coordinates several processes
        return self._manager.reached_preemption(next(self._polls))

    def _finish(self, step: int, size: int, count: int) -> None:
        """Wait for orbax, check that no array is missing, and write the manifest."""
        try:
            self._manager.wait_until_finished()
            if self.hosts.is_main:
                checkpoint_arrays.check_complete(self._path(step) / STATE, count)
                checkpoint_manifest.write(self._path(step))
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise self._write_error(step, size, _write_message(error)) from None

    def wait(self) -> None:
        """Wait until all checkpoints are on disk.

        Raises:
          UserError: one cannot be written.
        """
        if self._unfinished is None:
            return
        unfinished, self._unfinished = self._unfinished, None
        unfinished.result()
        self.steps = sorted(self._manager.all_steps())

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _write_error(self, step: int, size: int, reason: str) -> UserError:
        latest = self.latest()
        before = "nothing was saved" if latest is None else f"step {latest} is saved"
        return UserError(
            f"checkpoint {self._path(step)} cannot be written ({reason}): it takes "
            f"{megabytes(size)}, and {megabytes(self._free_bytes())} are free; "
            f"{before} before it. Free space or fix what is named, then run the same "
            "command to resume"
        )


class _KeepBest(preservation.PreservationPolicy):
    """Keep the best step; orbax itself would not see metrics of later evaluations.

    Attributes:
      step: the best one, including the step that is being saved.
    """

    step: int | None = None

    def should_preserve(
        self,
        checkpoints: Sequence[preservation.PolicyCheckpointInfo],
        *,
        context: preservation.PreservationContext,
    ) -> list[bool]:
        """Return for each checkpoint whether it stays."""
        return [checkpoint.step == self.step for checkpoint in checkpoints]


def is_evaluated(metrics: dict[str, Any]) -> bool:
    """Return whether a checkpoint was evaluated, not only saved on an interruption."""
    return BEST_METRIC in metrics


def best_checkpoint(
    metrics: dict[int, dict[str, Any]],
) -> tuple[int, dict[str, Any]] | None:
    """Return the best evaluated step and its metrics; the first one of equals.

    Args:
      metrics: of each step; those without an evaluation are left out.
    """
    steps = [step for step in sorted(metrics) if is_evaluated(metrics[step])]
    if not steps:
        return None

    def rank(step: int) -> tuple[float, float]:
        return metrics[step][BEST_METRIC], -metrics[step].get(TIES, math.inf)

    best = max(steps, key=rank)
    return best, metrics[best]


def _write_message(error: Exception) -> str:
    """Return the system's reason for a failed write, out of tensorstore's paragraph."""
    reason = re.search(r": ([^:\[]+) \[os_error_code", str(error))
    return reason[1] if reason else _message(error)


def _message(error: Exception) -> str:
    """Return one line of an error of orbax or tensorstore, in the user's paths."""
    return first_line(Exception(with_user_paths(str(error)) or type(error).__name__))


def _copy_vectors(state: TrainState) -> TrainState:
    """Return the state with its vectors in NumPy, which splits them without a program.

    They are copied, because the next step reuses the memory of the state.
    """
    return jax.tree.map(lambda x: np.array(x) if x.ndim == 1 else x, state)
