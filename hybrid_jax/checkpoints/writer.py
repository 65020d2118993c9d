"""Write checkpoints with orbax during training; keep the newest few and the best."""

import contextlib
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation
from rich import filesize

from hybrid_jax import library_logs
from hybrid_jax.checkpoints import arrays, manifest
from hybrid_jax.checkpoints.reader import (
    BEST_METRIC,
    LATER,
    STATE,
    CheckpointReader,
    best_checkpoint,
    copy_vectors,
    error_message,
)
from hybrid_jax.errors import UserError
from hybrid_jax.json_files import write_whole
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.paths import library_path
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.state import TrainState


class CheckpointWriter(CheckpointReader):
    """A reader and writer of the checkpoints of a run.

    As a context manager, it waits at the end of the block until everything is on disk.

    Attributes:
      persistent: whether the checkpoints outlive the process.
    """

    persistent = True

    def __init__(self, folder: Path, keep: int, hosts: Hosts | None = None) -> None:
        """Open a folder, rename its damaged checkpoints, and delete unfinished ones.

        Args:
          folder: folder of all checkpoints, created if it is missing.
          keep: number of newest checkpoints to keep, besides the best; at least 2, so
            that one is left if the newest is damaged.
          hosts: the processes that share the run.

        Raises:
          UserError: there are checkpoints, but none is intact.
        """
        super().__init__(folder, hosts)
        self._best_policy = _KeepBest()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation.AnyPreservationPolicy(
                [preservation.LatestN(keep), self._best_policy]
            ),
            # Without this function, orbax writes no metrics.
            best_fn=lambda metrics: metrics.get(BEST_METRIC, -math.inf),
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._delete_unfinished()
        self._manager = ocp.CheckpointManager(
            library_path(self.folder), options=options
        )
        self._threads = ThreadPoolExecutor(1, "checkpoint")
        self._unfinished: Future[None] | None = None
        self._polls = itertools.count()
        self._closed_loops = library_logs.ignore_closed_event_loop()

    def _delete_unfinished(self) -> None:
        """Delete what killed runs were writing.

        orbax does so in a thread, which fails with a traceback in a run that ends at
        once.
        """
        if self.hosts.is_main:
            for path in self.folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
                shutil.rmtree(path, ignore_errors=True)

    def _skip(self, step: int, problem: str) -> str:
        """Rename a damaged step, so that no later run looks at it; return a note."""
        renamed = self.folder / f"damaged-{step}"
        while renamed.exists():
            renamed = renamed.with_name(renamed.name + "-again")
        self._path(step).rename(renamed)
        return f"{super()._skip(step, problem)}; renamed to {renamed.name}"

    def _merge(self, step: int) -> None:
        """Merge the arrays of a step in its own folder."""
        arrays.merge(self._path(step) / STATE)
        self._write_manifest(step)

    def _write_manifest(self, step: int) -> None:
        manifest.write(self._path(step))
        self._manifests[step] = manifest.checksum(self._path(step))

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.wait()
            if kind is None:
                self._closed_loops.remove()
        except UserError:
            if kind is None:  # otherwise the first error is raised
                raise
        finally:
            with contextlib.suppress(Exception):  # `wait` has raised it
                self._manager.close()
            self._threads.shutdown()

    def save(self, step: int, state: TrainState, metrics: dict[str, Any]) -> None:
        """Begin to write a checkpoint, and return at once.

        If the step was saved before its evaluation, only the metrics are written. On
        disk, packed vectors are unpacked, so that each variable can be read alone.

        Args:
          step: name of the checkpoint.
          state: training state on the devices.
          metrics: metrics that decide which checkpoint is the best, and anything else
            fit for JSON.

        Raises:
          UserError: this checkpoint or the one before it cannot be written.
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
        saved = unpack(copy_vectors(state))
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
        """Return whether the cloud has announced the end of a host.

        All hosts get the same answer. They must call this equally often, before every
        dispatch of steps.
        """
        if not self.hosts.is_distributed:
            return False  # jax listens only if it coordinates several processes
        return self._manager.reached_preemption(next(self._polls))

    def _finish(self, step: int, size: int, count: int) -> None:
        """Wait for orbax, check that no array is missing, and write the manifest."""
        try:
            self._manager.wait_until_finished()
            if self.hosts.is_main:
                arrays.check_complete(self._path(step) / STATE, count)
                self._write_manifest(step)
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise self._write_error(step, size, _write_message(error)) from None

    def wait(self) -> None:
        """Wait until all checkpoints are on disk.

        Raises:
          UserError: a checkpoint cannot be written.
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
        takes, free = filesize.decimal(size), filesize.decimal(self._free_bytes())
        return UserError(
            f"checkpoint {self._path(step)} cannot be written ({reason}): it takes "
            f"{takes}, and {free} are free; "
            f"{before} before it. Free space or fix the named cause, then run the same "
            "command to resume"
        )


class _KeepBest(preservation.PreservationPolicy):
    """A policy that keeps the best step; orbax itself sees no later evaluations.

    Attributes:
      step: the best step, among all saved steps and the one that is being saved.
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


def _write_message(error: Exception) -> str:
    """Return the system's reason for a failed write from tensorstore's long message."""
    code = re.search(r"\[os_error_code='(\d+)'\]", str(error))
    return os.strerror(int(code[1])) if code else error_message(error)
