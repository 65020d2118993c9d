"""Work through the trials of a search, together with other workers."""

import contextlib
import dataclasses
import platform
import threading
import time
import typing
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.sweeps import samplers, table
from hybrid_jax.sweeps.claims import Heartbeats, try_claim
from hybrid_jax.sweeps.runs import COMPLETE, REFUSED, every_few_seconds, free_memory
from hybrid_jax.sweeps.search import TRIALS, Search
from hybrid_jax.sweeps.storage import Store
from hybrid_jax.sweeps.trial import (
    CRASHED,
    PRUNED,
    RESULT,
    Result,
    evaluations_of,
    pruned_result,
    run_trial,
)
from hybrid_jax.sweeps.untried import draw_untried

if typing.TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

POLL_SECONDS = 0.5
MOST_CRASHES = 3  # consecutive crashes of a trial's workers without progress
# Keys of what a trial keeps in the storage, beside its values.
MACHINE, BEAT, STARTS, ENDS = "machine", "beat", "starts", "ends"


@dataclasses.dataclass
class Worker:
    """A process that works on a search.

    Attributes:
      search: the search.
      store: storage of the trials.
      folder: folder of the search.
      trials: number of trials.
      report: called after each evaluation and each trial of this worker, and every few
        seconds.
    """

    search: Search
    store: Store
    folder: Path
    trials: int
    report: Callable[[], None] = lambda: None
    _heartbeats: Heartbeats = dataclasses.field(default_factory=Heartbeats)

    def run(self) -> None:
        """Work until every trial has ended, also those that other workers began.

        Raises:
          UserError: an error that no trial is to blame for, such as missing images.
          Interrupted: a signal arrived; the next worker continues the trial.
        """
        study = self.store.study
        first = next(iter(self.search.parts({}).values()))
        evaluations = evaluations_of(first)  # raises if images are missing
        study.pruner = samplers.PRUNERS[self.search.pruner](evaluations)
        with self.store.errors():
            while self._work_on_one() or self._unfinished():
                pass

    def _work_on_one(self) -> bool:
        """Claim a trial and run it; if there is none, wait and return False."""
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
        """Claim a trial of a dead worker, or a new trial; return None if there is none.

        Args:
          held: stack that holds the claim of the trial's folder.

        Raises:
          UserError: the runs of a dead worker's trial are in another folder.
        """
        from optuna.trial import Trial, TrialState

        study = self.store.study
        known = study.get_trials(deepcopy=False)
        running = [frozen for frozen in known if frozen.state == TrialState.RUNNING]
        kind, seed = self.search.sampler, self.search.config.seed
        for frozen in running:
            if lock := self._take_over(frozen):
                # Its worker may have died before it drew the values.
                study.sampler = samplers.create_sampler(kind, seed, frozen.number)
                trial = Trial(study, frozen._trial_id)
                break
        else:
            # A waiting trial has its values, but its worker died before it began.
            number = sum(frozen.state != TrialState.WAITING for frozen in known)
            if number >= self.trials:
                return None
            if self.search.size and number == len(known):
                study.enqueue_trial(self._next_values(number))
            study.sampler = samplers.create_sampler(kind, seed, number)
            trial = study.ask()
            lock = try_claim(self.trial_folder(trial.number))
        assert lock, "nobody else claims a new trial"
        held.callback(lock.release)
        # Drawn while other workers wait, so that the sampler knows all earlier trials.
        for dimension in self.search.space:
            dimension.suggest(trial)
        # A new count, or other workers would hear the dead one's silence go on.
        trial.set_user_attr(BEAT, f"{uuid.uuid4().hex}-0")
        trial.set_user_attr(MACHINE, machine())
        return trial

    def _next_values(self, number: int) -> dict[str, Any]:
        """Return the values of a new trial of a search of finitely many combinations.

        Args:
          number: of the trial.
        """
        if self.search.sampler == "grid":
            return self.search.grid()[number]
        return draw_untried(self.search, self.store.study)

    def _take_over(self, frozen: "FrozenTrial") -> FileLock | None:
        """Claim a trial that no worker runs; return None if a worker runs it.

        Locks show the workers of this machine. Heartbeats show those of other machines,
        unless locks do, too.

        Raises:
          UserError: the trial's runs are in another folder.
        """
        attributes = frozen.user_attrs
        silent = self._heartbeats.is_silent(frozen.number, attributes.get(BEAT))
        elsewhere = attributes.get(MACHINE, machine()) != machine()
        if elsewhere and not silent and not self.store.has_locks:
            return None
        folder = self.trial_folder(frozen.number)
        if MACHINE in attributes:  # its worker had claimed its folder before
            self.store.check_runs(frozen.number, folder)
        return try_claim(folder)

    def _run(self, trial: "Trial", values: dict[str, Any]) -> None:
        """Run a trial, and store its result."""
        parts = self.search.parts(values)
        folder = self.trial_folder(trial.number)
        starts = [*trial.user_attrs.get(STARTS, []), _progress(folder, parts)]
        if ENDS in trial.user_attrs:  # its worker died just after that decision
            known = trial.storage.get_trial(trial._trial_id).intermediate_values
            result = pruned_result(parts, folder, max(known, default=0))
        elif starts[-MOST_CRASHES - 1 : -1] == [starts[-1]] * MOST_CRASHES:
            what = (
                f"{MOST_CRASHES} workers died at the same step, perhaps out of memory"
            )
            result = Result(CRASHED, [], 0.0, what)
        elif why := self.search.why_refused(values):
            result = Result(REFUSED, [], 0.0, why)
        else:
            trial.set_user_attr(STARTS, starts)
            with self._beating(trial), self._no_crash(trial, starts):
                watch = every_few_seconds(self.report)
                result = run_trial(parts, folder, self._reporter(trial), [watch])
        self._tell(trial, result)

    def _reporter(self, trial: "Trial") -> Callable[[int, float], bool]:
        frozen = self.store.study.get_trials(deepcopy=False)[trial.number]
        known = {*frozen.intermediate_values}

        def report(evaluations: int, worth: float) -> bool:
            if evaluations not in known:  # else reported before the run was resumed
                known.add(evaluations)
                trial.report(worth, evaluations)
                self.report()
            is_hopeless = bool(trial.should_prune())
            if is_hopeless:
                trial.set_user_attr(ENDS, PRUNED)
            return is_hopeless

        return report

    def _tell(self, trial: "Trial", result: Result) -> None:
        from optuna.trial import TrialState

        with self.store.exclusive():
            trial.set_user_attr(RESULT, result._asdict())
            if result.state == PRUNED:
                self.store.study.tell(trial, state=TrialState.PRUNED)
            else:  # a failure counts as the worst, so that the sampler avoids it
                if result.state != COMPLETE:
                    samplers.lower_rungs(trial, result.value)
                self.store.study.tell(trial, result.value)
            table.write(self.folder, table.read_rows(self.store.study), self.search)

    def _unfinished(self) -> int:
        """Return the number of trials that have not ended."""
        trials = self.store.study.get_trials(deepcopy=False)
        ended = sum(trial.state.is_finished() for trial in trials)
        return max(self.trials, len(trials)) - ended

    @contextlib.contextmanager
    def _beating(self, trial: "Trial") -> Iterator[None]:
        """Store heartbeats in a trial while it runs; see `Heartbeats`."""
        ended = threading.Event()
        of_claim = str(trial.user_attrs[BEAT]).partition("-")[0]

        def beat() -> None:
            count = 0
            while not ended.wait(Heartbeats.BEAT_SECONDS):
                count += 1
                now = f"{of_claim}-{count}"
                with contextlib.suppress(Exception):  # the next heartbeat may succeed
                    trial.storage.set_trial_user_attr(trial._trial_id, BEAT, now)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextlib.contextmanager
    def _no_crash(self, trial: "Trial", starts: list[int]) -> Iterator[None]:
        """Do not count a start that ends by an exception, since that is no crash."""
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
    """Return the folder of a trial, given the folder of its search."""
    return folder / TRIALS / f"{number:04}"


def machine() -> str:
    """Return an identifier of this machine: its boot ID, if it has one, and its name.

    Containers of one host share the boot ID, but perhaps not the locks of a folder.
    """
    boot_id = ""
    with contextlib.suppress(OSError):
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot_id}/{platform.node()}"


def _progress(folder: Path, parts: typing.Iterable[str]) -> int:
    """Return the number of steps in the latest checkpoints of a trial's runs."""
    found = (RunFolder(folder / name).checkpoints.glob("*") for name in parts)
    steps = [[int(p.name) for p in paths if p.name.isdigit()] for paths in found]
    return sum(max(each, default=0) for each in steps)
