"""Checkpoints: the newest few and the best, written while training goes on (orbax).

A step counts once it has its manifest (`checkpoint_manifest`). One that is damaged or
incomplete is set aside, under a name that says so, and the one before it is used.
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

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keeping

from hybrid_jax import library_logs
from hybrid_jax.engine import checkpoint_arrays, checkpoint_manifest
from hybrid_jax.engine.json_files import write_whole
from hybrid_jax.errors import UserError, first_line, megabytes
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.paths import mirror, plain, with_user_paths
from hybrid_jax.training.packed_params import pack_like, unpack
from hybrid_jax.training.state import TrainState

BEST_METRIC, TIES = "accuracy", "loss"  # the higher, and of equal ones the lower
STATE, METRICS = "state", "metrics"  # folders of a step
LATER = "evaluation.json"  # metrics of one that was saved before it was evaluated


class Saved:
    """The checkpoints of a run, to be read.

    Attributes:
      folder: theirs.
      notes: in words, which are passed over or were mended, and why.
    """

    def __init__(self, folder: Path, hosts: Hosts | None = None):
        """Looks for the newest one that is whole, in the leading process of `hosts`.

        Raises:
          UserError: there are some, and none is.
        """
        self.folder, self.hosts = Path(folder).absolute(), hosts or Hosts()
        self._merged: dict[int, Path] = {}  # elsewhere, by step
        self._steps, self.notes = self.hosts.broadcast(self._look)

    def _look(self) -> tuple[list[int], list[str]]:
        """The steps that are whole, in order, and notes about the others."""
        names = (path.name for path in self.folder.glob("*"))
        steps = sorted(int(name) for name in names if name.isdigit())
        whole: list[int] = []
        flaws, notes = {}, []
        for step in reversed(steps):
            # The newest is read to the end; of others, what decides which is best.
            flaw, note = self._mended(step, thorough=not whole)
            notes += [note] if note else []
            if flaw:
                flaws[step] = flaw
            else:
                whole.insert(0, step)
        # A run that was killed as it saved for the first time has lost nothing.
        if not whole and [*flaws.values()] not in (
            [],
            [checkpoint_manifest.INCOMPLETE],
        ):
            each = "; ".join(f"{step}: {flaw}" for step, flaw in flaws.items())
            raise UserError(
                f"no checkpoint of {self.folder} is whole ({each}): restore one, or "
                "give another workdir"
            )
        notes += [self._passed_over(*damaged) for damaged in flaws.items()]
        return whole, notes

    def _mended(self, step: int, thorough: bool) -> tuple[str, str]:
        """What is wrong with a step, if anything, and what was mended, if anything."""
        flaw = checkpoint_manifest.flaw(self._at(step), thorough)
        if flaw or not checkpoint_arrays.is_apart(self._at(step) / STATE):
            return flaw, ""
        try:
            self._merge(step)
        except Exception as error:  # as in `_read`
            return f"its arrays cannot be merged ({_said(error)})", ""
        return "", f"merged the arrays of checkpoint {self._at(step)}, left in parts"

    def _merge(self, step: int) -> None:
        """Merges the arrays of a step without writing to its folder."""
        self._merged[step] = mirror(self._at(step) / STATE)
        checkpoint_arrays.merge(self._merged[step])

    def _passed_over(self, step: int, flaw: str) -> str:
        """What is said of a step that is not used."""
        return f"checkpoint {self._at(step)} is passed over: {flaw}"

    def _at(self, step: int) -> Path:
        return self.folder / str(step)

    @property
    def steps(self) -> list[int]:
        """All steps that are whole, in order."""
        return self._steps

    def latest(self) -> int | None:
        """The newest step, or None."""
        return self._steps[-1] if self._steps else None

    def metrics(self, step: int) -> dict:
        """What was saved with a step, and of it."""
        metrics = json.loads((self._at(step) / METRICS / METRICS).read_text())
        with contextlib.suppress(OSError, ValueError):  # else it is evaluated again
            metrics |= json.loads((self._at(step) / LATER).read_text())
        return metrics

    def best(self) -> tuple[int, dict] | None:
        """The step of the best validation accuracy among those kept, and its metrics.

        Of equal ones it is that of the lower loss; None if none was evaluated.
        """
        return best_of({step: self.metrics(step) for step in self._steps})

    def choose(self, checkpoint: str | int, validated: bool = True) -> int:
        """The step that `best`, `last` or a number names.

        Args:
          checkpoint: what is asked for.
          validated: whether the run has a validation split, so that there is a best.

        Raises:
          UserError: there is no such checkpoint; lists those that there are.
        """
        if not self._steps:
            raise UserError(f"{self.folder} holds no checkpoint: train first")
        if checkpoint == "last":
            return self._steps[-1]
        there = f"there are {', '.join(map(str, self._steps))}"
        if checkpoint == "best":
            if validated and (found := self.best()):
                return found[0]
            raise UserError(
                f"no checkpoint of {self.folder} was evaluated on a validation split, "
                f"so none is best: take last, or a step ({there})"
            )
        if not str(checkpoint).isdigit() or int(checkpoint) not in self._steps:
            raise UserError(
                f"checkpoint {checkpoint} is not in {self.folder}: take best, last, or "
                f"a step ({there})"
            )
        return int(checkpoint)

    def restore(self, step: int, like: TrainState, devices: Devices) -> TrainState:
        """The state of a step, whatever devices it was saved from.

        Args:
          step: one that is saved.
          like: a state's structure and shapes.
          devices: to lie on.

        Raises:
          UserError: it cannot be read, or is of other shapes or dtypes.
        """
        template = devices.state_shapes(jax.eval_shape(unpack, like))
        state = pack_like(_fetched(self._read(step, template)), like)
        return devices.put(state, devices.state_shapes(like))

    def evaluated(self, step: int) -> dict:
        """The variables that a step is evaluated with, whatever network they are of.

        Nothing else of the step is read, such as the optimizer's moments.

        Raises:
          UserError: they cannot be read.
        """
        averaged = self._read(step, names=("average",))
        if averaged.get("average"):
            return averaged["average"]
        return self._read(step, names=("params", "batch_stats"))

    def state(self, step: int) -> dict:
        """All that is saved of a state, as nested dictionaries of arrays of this host.

        Raises:
          UserError: as `restore`.
        """
        return self._read(step)

    def _read(self, step: int, template=None, names: Sequence[str] = ()):
        folder = self._merged.get(step, self._at(step) / STATE)
        try:
            if names:
                return checkpoint_arrays.read_parts(folder, names)
            return checkpoint_arrays.read(folder, template)
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise UserError(
                f"checkpoint {self._at(step)} cannot be read ({_said(error)})"
            ) from None


class Checkpoints(Saved):
    """Checkpoints that are read and written; as a context it waits for writing.

    Attributes:
      lasting: whether they outlive the process.
    """

    lasting = True

    def __init__(self, folder: Path, keep: int, hosts: Hosts | None = None):
        """`keep` newest ones stay, and the best.

        Two at least, so that there is one before a damaged one.
        """
        super().__init__(folder, hosts)
        self._kept = _Best()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keeping.AnyPreservationPolicy(
                [keeping.LatestN(keep), self._kept]
            ),
            best_fn=lambda metrics: metrics.get(BEST_METRIC, -math.inf),
            cleanup_tmp_directories=True,
        )  # without `best_fn` orbax writes no metrics
        self.folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(plain(self.folder), options=options)
        self._threads = ThreadPoolExecutor(1, "checkpoint")
        self._sealing: Future | None = None
        self._asked = itertools.count()
        self._unraisable = library_logs.ClosedLoopFilter()

    def _passed_over(self, step: int, flaw: str) -> str:
        """Gives a step another name, so that it is looked at no more."""
        aside = self.folder / f"damaged-{step}"
        while aside.exists():
            aside = aside.with_name(aside.name + "-again")
        self._at(step).rename(aside)
        return f"{super()._passed_over(step, flaw)}. It is called {aside.name} now"

    def _merge(self, step: int) -> None:
        """Merges the arrays of a step where they are."""
        checkpoint_arrays.merge(self._at(step) / STATE)
        checkpoint_manifest.seal(self._at(step))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self.wait()
            if kind is None:
                self._unraisable.uninstall()
        except UserError:
            if kind is None:  # else another error is on its way
                raise
        finally:
            with contextlib.suppress(Exception):  # it tells what `wait` has told
                self._manager.close()
            self._threads.shutdown()

    def save(self, step: int, state: TrainState, metrics: dict) -> None:
        """Starts writing a step and returns; `metrics` decide which is best.

        Of a step that was saved before its evaluation, only metrics are written.
        On disk no vectors are packed, so that any network's can be read without it.

        Raises:
          UserError: the step before it could not be written.
        """
        self.wait()
        if step in self._steps:
            if self.hosts.is_main:
                write_whole(self._at(step) / LATER, json.dumps(metrics))
            return
        self._saving, self._bytes = step, _bytes(state)
        if self._bytes > self.hosts.broadcast(self._free):
            raise self._unwritten("the disk is full")
        best = self.hosts.broadcast(self.best)
        best = best_of({step: metrics} | (dict([best]) if best else {}))
        self._kept.step = best and best[0]
        saved = unpack(_fetched(state))
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(saved)),
                metrics=metrics,
            )
        except Exception as error:  # as in `_read`
            raise self._unwritten(_reason(error)) from None
        arrays = len(jax.tree.leaves(saved))
        self._sealing = self._threads.submit(self._seal, step, arrays)

    def end_is_announced(self) -> bool:
        """Whether a cloud has said that it will end one of the hosts, to all at once.

        To be asked as often on each of them, before every dispatch.
        """
        if not self.hosts.is_distributed:
            return False  # jax listens where it coordinates several processes
        return self._manager.reached_preemption(next(self._asked))

    def _seal(self, step: int, arrays: int) -> None:
        """Waits for a step to be written; it counts if it could be read back."""
        self._manager.wait_until_finished()
        if self.hosts.is_main:
            checkpoint_arrays.check(self._at(step) / STATE, arrays)
            checkpoint_manifest.seal(self._at(step))

    def wait(self) -> None:
        """Returns when everything saved so far is on disk.

        Raises:
          UserError: it could not be written.
        """
        if self._sealing is None:
            return
        sealing, self._sealing = self._sealing, None
        try:
            sealing.result()
        except Exception as error:
            raise self._unwritten(_reason(error)) from None
        self._steps = sorted(self._manager.all_steps())

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _unwritten(self, reason: str) -> UserError:
        kept = self.latest()
        before = "nothing was saved before" if kept is None else f"step {kept} is whole"
        return UserError(
            f"checkpoint {self._at(self._saving)} cannot be written ({reason}): it "
            f"takes {megabytes(self._bytes)}, and {megabytes(self._free())} are free "
            f"there; {before}. Make room, or mend what is named, and run the same "
            "command to resume"
        )


class _Best(keeping.PreservationPolicy):
    """Keeps the best step, which orbax would look for among metrics of its own alone.

    Attributes:
      step: the best one, that which is being saved included.
    """

    step: int | None = None

    def should_preserve(
        self,
        checkpoints: Sequence[keeping.PolicyCheckpointInfo],
        *,
        context: keeping.PreservationContext,
    ) -> list[bool]:
        """Whether each of some checkpoints is to stay."""
        return [checkpoint.step == self.step for checkpoint in checkpoints]


def _reason(error: Exception) -> str:
    """Why something was not written, out of tensorstore's paragraph."""
    named = re.search(r": ([^:\[]+) \[os_error_code", str(error))
    return named[1] if named else _said(error)


def _said(error: Exception) -> str:
    """What orbax or tensorstore say, of the user's own folder."""
    return first_line(Exception(with_user_paths(str(error)) or type(error).__name__))


def _fetched(state: TrainState) -> TrainState:
    """The state with its vectors in NumPy, which needs no program to cut or join them.

    They are copied, since the next step takes the state's own memory.
    """
    return jax.tree.map(lambda x: np.array(x) if x.ndim == 1 else x, state)


def _bytes(state: TrainState) -> int:
    return sum(x.nbytes for x in jax.tree.leaves(state))


def is_evaluated(metrics: dict) -> bool:
    """Whether a checkpoint was saved behind an evaluation, not for an interruption."""
    return BEST_METRIC in metrics


def best_of(saved: dict[int, dict]) -> tuple[int, dict] | None:
    """The best evaluated step, by the metrics of each; the first of equal ones."""
    saved = {step: saved[step] for step in saved if is_evaluated(saved[step])}
    if not saved:
        return None

    def rank(step: int) -> tuple[float, float]:
        metrics = saved[step]
        return metrics[BEST_METRIC], -metrics.get(TIES, math.inf)

    step = max(sorted(saved), key=rank)
    return step, saved[step]
