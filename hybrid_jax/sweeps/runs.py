"""Run one config in one folder to its end, once, and say how it ended."""

import functools
import gc
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from hybrid_jax import data
from hybrid_jax.config import stored
from hybrid_jax.config.resolve import resolve
from hybrid_jax.config.schema import Config, DataConfig
from hybrid_jax.engine.experiment import Experiment, set_up_process
from hybrid_jax.engine.fault_injection import Diverged
from hybrid_jax.engine.fit import fit
from hybrid_jax.engine.json_files import read_json, write_json
from hybrid_jax.engine.recorder import Callback
from hybrid_jax.engine.run_folder import RunFolder
from hybrid_jax.errors import (
    ConfigMismatch,
    OutOfMemory,
    UserError,
    report_out_of_memory,
)
from hybrid_jax.sweeps.claims import claim

COMPLETE = "complete"
DIVERGED = "diverged"
REFUSED = "refused"  # its fields do not go together, or do not suit the data
# Ends that are the config's fault, so that running it again would change nothing.
FAILURES: dict[type[UserError], str] = {
    Diverged: DIVERGED,
    OutOfMemory: "out of memory",
}
FAILURE = "failure.json"  # in the folder of a run that failed


class InUse(UserError):
    """Another worker works in a run's folder at this moment."""


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
      state: `complete`, `diverged`, `out of memory` or `refused`.
      validation: metrics of the chosen weights; None without such a split.
      test: their metrics on the test split; None where it was not evaluated.
      checkpoint: the step of the chosen weights.
      step: the last one; of a run that diverged, the first with such a loss.
      seconds: of training and evaluation.
      error: why it failed; empty if it did not.
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
        """Return whether the run came to its end."""
        return self.state == COMPLETE


def run_config(
    config: Config, workdir: str | os.PathLike, callbacks: Sequence[Callback] = ()
) -> Outcome:
    """Train a config in its folder, or resume it there, or read how it has ended.

    Nothing is printed; the folder's `log.txt` has it. Runs of one process that follow
    each other share their images, and their programs where shapes and the schedule are
    equal.

    Args:
      config: of the run; `data.test` says whether it is tested at the end.
      workdir: its folder; made if need be.
      callbacks: as of `engine.fit.fit`.

    Returns:
      The outcome, also of a config that fails whenever it is run.

    Raises:
      InUse: another worker runs it at this moment.
      ConfigMismatch: the folder holds a run of another config.
      UserError: anything else that is wrong, such as images that are not there.
      Interrupted: by a signal; what was trained is saved.
    """
    folder = RunFolder(workdir)
    with claim(folder.path) as is_mine:
        if not is_mine:
            raise InUse(f"--workdir={folder.path} is in use by another worker")
        config, started = set_up_process(config), time.perf_counter()
        known = read_outcome(folder.path)
        if known:
            _check_config(folder, config)
            return known
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
    """Read how the run of a folder has ended; None if it has not."""
    folder = RunFolder(workdir)
    failure = folder.path / FAILURE
    if failure.exists():
        found = read_json(failure)
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


def _run(config: Config, folder: RunFolder, callbacks: Sequence[Callback]) -> Outcome:
    """Train a run that has not ended."""
    try:
        config = resolve(config)
    except UserError as error:
        return _write_failure(folder, config, Outcome(REFUSED, error=str(error)))
    splits = load_splits(config.data)  # images that are not there are nobody's outcome
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
    """Load a data set; one that is asked for again at once is not decoded again."""
    return data.load(config)


def free_memory() -> None:
    """Free what runs have left behind, but for the programs that were used last.

    States lie in cycles, and jax keeps all that it has ever traced.
    """
    gc.collect()
    jax.clear_caches()


def _write_failure(folder: RunFolder, config: Config, outcome: Outcome) -> Outcome:
    about = outcome._asdict() | {"config": stored.nested(config)}
    write_json(folder.path / FAILURE, about)
    return outcome


def _check_config(folder: RunFolder, config: Config) -> None:
    """Refuse the outcome of another config.

    Raises:
      ConfigMismatch: names the fields that differ.
    """
    failure = folder.path / FAILURE
    if failure.exists():
        theirs = stored.read(read_json(failure)["config"], stored.SCHEMA)
    else:
        theirs = folder.read_config()
    if differing := stored.differences(theirs, config):
        raise ConfigMismatch(
            f"--workdir={folder.path} holds a run of another config: "
            f"{'; '.join(differing)}",
            "Give another workdir, or that config",
            epochs_differ=False,
        )
