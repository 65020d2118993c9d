"""Work through the trials of a search, beside other workers."""

import contextlib
import dataclasses
import platform
import threading
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from hybrid_jax.engine.run_folder import RunFolder
from hybrid_jax.sweeps import samplers, table
from hybrid_jax.sweeps.claims import Heartbeats, try_claim
from hybrid_jax.sweeps.runs import free_memory
from hybrid_jax.sweeps.search import TRIALS, Search
from hybrid_jax.sweeps.storage import Store, storage_errors
from hybrid_jax.sweeps.trial import (
    CRASHED,
    PRUNED,
    RESULT,
    Result,
    evaluations_of,
    run_trial,
)

if typing.TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

POLL_SECONDS = 0.5
MOST_CRASHES = 3  # of a trial's workers, one after another, without progress
# What a trial keeps in the storage, beside its values.
MACHINE, BEAT, STARTS, ENDS = "machine", "beat", "starts", "ends"


@dataclasses.dataclass
class Worker:
    """One process that works on a search.

    Attributes:
      search: whose trials these are.
      store: where they are kept.
      folder: of the search.
      trials: how many there are to be.
      report: is called behind each evaluation and each trial of this worker.
    """

    search: Search
    store: Store
    folder: Path
    trials: int
    report: Callable[[], None] = lambda: None
    _heartbeats: Heartbeats = dataclasses.field(default_factory=Heartbeats)

    def run(self) -> None:
        """Work until every trial has ended, also those that others began.

        Raises:
          UserError: what no trial is to blame for, such as missing images.
          Interrupted: by a signal; the trial is continued by whoever comes next.
        """
        study = self.store.study
        first = next(iter(self.search.parts({}).values()))
        evaluations = evaluations_of(first)  # and the images are there
        study.pruner = samplers.PRUNERS[self.search.pruner](evaluations)
        with storage_errors():
            while self._work_on_one() or self._unfinished():
                pass

    def _work_on_one(self) -> bool:
        """Claim a trial and run it; return False, a little later, if there is none."""
        with contextlib.ExitStack() as held:
            with self.store.exclusive():
                trial = self._claim(held)
            if trial is None:
                time.sleep(POLL_SECONDS)
                return False
            values = {d.name: d.suggest(trial) for d in self.search.space}
            self._run(trial, values)
        free_memory()
        self.report()
        return True

    def _claim(self, held: contextlib.ExitStack) -> "Trial | None":
        """Return a trial whose worker is dead, or a new one; None if there is none.

        Args:
          held: keeps the claim of the trial's folder.
        """
        from optuna.trial import Trial, TrialState

        study = self.store.study
        known = study.get_trials(deepcopy=False)
        running = [frozen for frozen in known if frozen.state == TrialState.RUNNING]
        for frozen in running:
            if lock := self._take_over(frozen):
                trial = Trial(study, frozen._trial_id)
                break
        else:
            # One that waits was given its values, and its worker died before it began.
            number = sum(frozen.state != TrialState.WAITING for frozen in known)
            if number >= self.trials:
                return None
            if self.search.sampler == "grid" and number == len(known):
                study.enqueue_trial(self.search.grid()[number])
            seed = self.search.config.seed
            study.sampler = samplers.create_sampler(self.search.sampler, seed, number)
            trial = study.ask()
            lock = try_claim(self.trial_folder(trial.number))
        assert lock, "nobody else claims a new trial"
        held.callback(lock.release)
        # Here, where no one else draws, so that each trial knows of all before it.
        for dimension in self.search.space:
            dimension.suggest(trial)
        trial.set_user_attr(MACHINE, machine())
        return trial

    def _take_over(self, frozen: "FrozenTrial") -> FileLock | None:
        """Claim a trial that nobody works on; return None if somebody does.

        Locks tell of the processes of this machine, heartbeats of all others.
        """
        attributes = frozen.user_attrs
        silent = self._heartbeats.is_silent(frozen.number, attributes.get(BEAT))
        elsewhere = attributes.get(MACHINE, machine()) != machine()
        if elsewhere and not silent:
            return None
        return try_claim(self.trial_folder(frozen.number))

    def _run(self, trial: "Trial", values: dict[str, Any]) -> None:
        """Run a trial, and tell the storage what it came to."""
        parts = self.search.parts(values)
        folder = self.trial_folder(trial.number)
        starts = [*trial.user_attrs.get(STARTS, []), _progress(folder, parts)]
        if ENDS in trial.user_attrs:  # its worker died just behind that decision
            result = Result(**trial.user_attrs[ENDS])
        elif starts[-MOST_CRASHES - 1 : -1] == [starts[-1]] * MOST_CRASHES:
            what = f"{MOST_CRASHES} workers died at one step, as out of memory"
            result = Result(CRASHED, [], 0.0, what)
        else:
            trial.set_user_attr(STARTS, starts)
            with self._beating(trial), self._no_crash(trial, starts):
                result = run_trial(parts, folder, self._reporter(trial))
        self._tell(trial, result)

    def _reporter(self, trial: "Trial") -> Callable[[int, float], bool]:
        frozen = self.store.study.get_trials(deepcopy=False)[trial.number]
        known = {*frozen.intermediate_values}

        def report(evaluations: int, worth: float) -> bool:
            if evaluations not in known:  # of a run that goes on
                known.add(evaluations)
                trial.report(worth, evaluations)
                self.report()
            is_hopeless = bool(trial.should_prune())
            if is_hopeless:
                trial.set_user_attr(ENDS, Result(PRUNED, [], 0.0)._asdict())
            return is_hopeless

        return report

    def _tell(self, trial: "Trial", result: Result) -> None:
        from optuna.trial import TrialState

        with self.store.exclusive():
            trial.set_user_attr(RESULT, result._asdict())
            if result.state == PRUNED:
                self.store.study.tell(trial, state=TrialState.PRUNED)
            else:  # a failed one too, at its worst, so that the sampler avoids it
                self.store.study.tell(trial, result.value)
            table.write(self.folder, table.read_rows(self.store.study), self.search)

    def _unfinished(self) -> int:
        """Return how many trials have not ended."""
        trials = self.store.study.get_trials(deepcopy=False)
        ended = sum(trial.state.is_finished() for trial in trials)
        return max(self.trials, len(trials)) - ended

    @contextlib.contextmanager
    def _beating(self, trial: "Trial") -> Iterator[None]:
        """Count up in a trial while it runs; see `Heartbeats`."""
        ended = threading.Event()

        def beat() -> None:
            count = 0
            while not ended.wait(Heartbeats.BEAT_SECONDS):
                count += 1
                with contextlib.suppress(Exception):  # the next one may succeed
                    trial.storage.set_trial_user_attr(trial._trial_id, BEAT, count)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextlib.contextmanager
    def _no_crash(self, trial: "Trial", starts: list[int]) -> Iterator[None]:
        """Take a start back where its end is none of a crash, such as by a signal."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):
                trial.set_user_attr(STARTS, starts[:-1])
            raise

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return trial_folder(self.folder, number)


def trial_folder(folder: Path, number: int) -> Path:
    """Return the folder of a trial of the search in a folder."""
    return folder / TRIALS / f"{number:04}"


def machine() -> str:
    """Return what tells machines apart whose locks do not reach each other."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return platform.node()


def _progress(folder: Path, parts: typing.Iterable[str]) -> int:
    """Return the steps that a trial has saved."""
    found = (RunFolder(folder / name).checkpoints.glob("*") for name in parts)
    steps = [[int(p.name) for p in paths if p.name.isdigit()] for paths in found]
    return sum(max(each, default=0) for each in steps)
