"""Run one config in one folder to its end, and report the outcome."""

import functools
import gc
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from hybrid_jax import data
from hybrid_jax.config import stored
from hybrid_jax.config.resolve import resolve
from hybrid_jax.config.schema import FIELDS, Config, DataConfig
from hybrid_jax.data.memory_budget import device_memory
from hybrid_jax.engine.fit import fit
from hybrid_jax.engine.recorder import Callback
from hybrid_jax.errors import (
    ConfigMismatch,
    OutOfMemory,
    UserError,
    report_out_of_memory,
)
from hybrid_jax.json_files import check_entries, read_json, write_json
from hybrid_jax.programs.experiment import Experiment, set_up_process
from hybrid_jax.programs.fault_injection import Diverged
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runtime import release_unused_memory
from hybrid_jax.sweeps.claims import claim

COMPLETE = "complete"
DIVERGED = "diverged"
OUT_OF_MEMORY = "out of memory"
REFUSED = "refused"  # its fields do not go together, or do not suit the data
# Failures that are due to the config, so that another run would fail too.
FAILURES: dict[type[UserError], str] = {
    Diverged: DIVERGED,
    OutOfMemory: OUT_OF_MEMORY,
}
FAILURE = "failure.json"  # in the folder of a run that failed
OF_FAILURE: dict[str, type | tuple[type, ...]] = {  # types of its entries
    "state": str,
    "step": int,
    "seconds": (int, float),
    "error": str,
    "config": dict,
}
WATCH_SECONDS = 5.0
MEMORY = "device memory"  # there: that of the device on which it failed, in bytes
TRY_AGAIN = "delete it to try the run again"


class InUse(UserError):
    """Another worker is working in the folder of a run."""


class Outcome(NamedTuple):
    """The end of a run.

    Attributes:
      state: `complete`, `diverged`, `out of memory` or `refused`.
      validation: validation metrics of the chosen weights; None without such a split.
      test: test metrics of the chosen weights; None if they were not tested.
      checkpoint: step of the chosen weights.
      step: last step; for a run that diverged, the first step with a loss that is not
        finite.
      seconds: time of training and evaluation.
      error: reason of a failure; empty if there is none.
    """

    state: str
    validation: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    checkpoint: int = 0
    step: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def is_complete(self) -> bool:
        """Return whether the run was trained to its end."""
        return self.state == COMPLETE


def run_config(
    config: Config, workdir: str | os.PathLike, callbacks: Sequence[Callback] = ()
) -> Outcome:
    """Train or resume a config in its folder; if the run has ended, read its outcome.

    Nothing is printed; the log is in the folder's `log.txt`. Consecutive runs of one
    process share their images, and their compiled programs if shapes and schedule are
    equal.

    Args:
      config: config of the run; `data.test` says whether it is tested at the end.
      workdir: folder of the run; created if it does not exist.
      callbacks: see `engine.fit.fit`.

    Returns:
      The outcome, also that of a config which fails whenever it is run.

    Raises:
      InUse: another worker is running the config in this folder.
      ConfigMismatch: the folder holds a run of another config.
      UserError: something else is wrong, such as missing images.
      Interrupted: a signal arrived; the trained steps are saved.
    """
    folder = RunFolder(workdir)
    with claim(folder.path) as is_mine:
        if not is_mine:
            raise InUse(f"--workdir={folder.path} is in use by another worker")
        started = time.perf_counter()
        config = set_up_process(folder.own_dtype(config))
        known = read_outcome(folder.path)
        if known:
            _check_config(folder, config)
            if not _is_tried_anew(folder, known, config):
                return known
            (folder.path / FAILURE).unlink()
        try:
            return _run(config, folder, callbacks)
        except tuple(FAILURES) as error:
            outcome = Outcome(
                FAILURES[type(error)],
                step=getattr(error, "step", 0),
                seconds=round(time.perf_counter() - started, 2),
                error=str(error),
            )
            return _write_failure(folder, config, outcome)


def read_outcome(workdir: str | os.PathLike) -> Outcome | None:
    """Read the outcome of the run in a folder; None if it has not ended."""
    folder = RunFolder(workdir)
    failure = folder.path / FAILURE
    if failure.exists():
        found = read_json(failure, TRY_AGAIN)
        check_entries(failure, found, OF_FAILURE, TRY_AGAIN)
        return Outcome(**{name: found[name] for name in Outcome._fields})
    results = folder.read_results()
    if results is None:
        return None
    return Outcome(
        COMPLETE,
        validation=results.get("validation"),
        test=results.get("test"),
        checkpoint=results["checkpoint"],
        step=results["step"],
        seconds=results["seconds"],
    )


def share_done(config: Config, workdir: str | os.PathLike) -> float:
    """Return the trained share of a run, from 0 to 1; 0 if it has not begun."""
    row = next(reversed(RunFolder(workdir).read_history()), None)
    if row is None:
        return 0.0
    steps, train = row["step"], config.train
    return min(steps / train.steps if train.steps else row["epoch"] / train.epochs, 1.0)


def every_few_seconds(watch: Callable[[], None]) -> Callback:
    """Return a callback of runs that calls a function, which may read many files."""
    looked = time.monotonic()

    def look(row: dict) -> None:
        nonlocal looked
        if time.monotonic() - looked > WATCH_SECONDS:
            watch()
            looked = time.monotonic()

    return look


def _run(config: Config, folder: RunFolder, callbacks: Sequence[Callback]) -> Outcome:
    """Train or resume a run that has not ended, and return its outcome."""
    try:
        config = resolve(config)
    except UserError as error:
        return _write_failure(folder, config, Outcome(REFUSED, error=str(error)))
    splits = load_splits(config.data)  # missing images raise: no fault of the config
    try:
        Experiment(config, splits).check()
    except UserError as error:
        return _write_failure(folder, config, Outcome(REFUSED, error=str(error)))
    with report_out_of_memory():
        fit(config, splits, folder.path, callbacks=callbacks, verbose=False)
    outcome = read_outcome(folder.path)
    assert outcome, "a run that has ended has results"
    return outcome


@functools.lru_cache(maxsize=1)
def load_splits(config: DataConfig) -> data.Splits:
    """Load a data set, and keep the latest, so that the next run need not decode it."""
    return data.load(config)


def free_memory() -> None:
    """Free the memory of ended runs, except the programs that were used last.

    Training states are in reference cycles, and jax keeps everything that it traced.
    """
    gc.collect()
    jax.clear_caches()
    release_unused_memory()


def _write_failure(folder: RunFolder, config: Config, outcome: Outcome) -> Outcome:
    about = {"config": stored.nested(config), MEMORY: device_memory()}
    write_json(folder.path / FAILURE, outcome._asdict() | about)
    return outcome


def _is_tried_anew(folder: RunFolder, known: Outcome, config: Config) -> bool:
    """Return whether a run that failed may succeed now.

    Messages about memory and divergence name fields that a run may change. Another
    device may have more memory. A refusal may be due to the devices of the machine that
    refused, and is quick to check again.
    """
    if known.state == REFUSED:
        return True
    if known.state not in FAILURES.values():
        return False
    failure = folder.path / FAILURE
    memory = read_json(failure).get(MEMORY)
    if known.state == OUT_OF_MEMORY and memory != device_memory():
        return True
    theirs, ours = _config_of(failure).flat(), config.flat()
    return any(theirs[n] != ours[n] for n in FIELDS if not FIELDS[n].local)


def _config_of(failure: Path) -> Config:
    theirs = read_json(failure, TRY_AGAIN)["config"]
    return stored.read(theirs, stored.SCHEMA, failure.parent)


def _check_config(folder: RunFolder, config: Config) -> None:
    """Refuse the outcome of another config.

    Raises:
      ConfigMismatch: names the fields that differ.
    """
    failure = folder.path / FAILURE
    theirs = _config_of(failure) if failure.exists() else folder.read_config()
    if differing := stored.differences(theirs, config):
        raise ConfigMismatch(folder.path, differing)
