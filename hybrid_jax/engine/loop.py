"""A run under way: steps, lines of metrics, evaluations, checkpoints."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from concurrent.futures import Future

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrid_jax.engine.checkpoint import Checkpoints, is_evaluated
from hybrid_jax.engine.console import Reporter, percent
from hybrid_jax.engine.fault_injection import Diverged
from hybrid_jax.engine.metric_window import Window, Windows
from hybrid_jax.engine.metric_writers import Writers
from hybrid_jax.engine.programs import Evaluator, Trainer
from hybrid_jax.engine.setup import Plan, learning_rate
from hybrid_jax.engine.signals import Interrupted, Interruption, wait
from hybrid_jax.training import metrics
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task

# What a checkpoint says beside the metrics of its evaluation, or instead of them.
SECONDS = "seconds"  # of training and evaluation up to there
SKIPPED = "skipped"  # batches that were left out up to there
UNFINISHED = "unfinished"  # sums of the window of steps that it was saved in


@dataclasses.dataclass
class Course:
    """What a run needs from its first step to its last.

    `begun` is called behind the first step, and promises the evaluator.
    """

    config: ConfigDict
    plan: Plan
    reporter: Reporter
    checkpoints: Checkpoints
    writers: Writers
    task: Task
    trainer: Trainer
    interruption: Interruption
    begun: Callable[[], Future[Evaluator]]
    _evaluator: Future[Evaluator] | None = None

    def run(self, state: TrainState, step: int, saved: dict) -> dict[str, float]:
        """Trains and evaluates to the last step; the metrics of the last evaluation.

        Args:
          state: after `step`.
          step: 0, or a checkpoint's.
          saved: the checkpoint's metrics, or empty.

        Raises:
          Diverged: a loss is not finite.
          Interrupted: by a signal, with all that was trained saved.
        """
        # Told in advance, since computing one later would wait for the device.
        rates = jax.jit(learning_rate(self.config, self.plan))
        self._rates = np.asarray(rates(np.arange(self.plan.total_steps)))
        self._line = ""
        self.trainer.program.wait()
        self.reporter.start(step, self.plan.total_steps)
        self._started = time.perf_counter() - saved.get(SECONDS, 0.0)
        self._windows = Windows(
            *(self.task, self.trainer, state, step, saved.get(UNFINISHED, {})),
            *(self._agreed, self._dispatched, self._trained),
        )
        try:
            with self.interruption.held():
                if self.plan.is_evaluated(step) and not is_evaluated(saved):
                    self._evaluator = self._evaluator or self.begun()
                    tested = self._evaluate()
                while self._windows.step < self.plan.total_steps:
                    self._advance()
                    tested = self._evaluate()
        except Interrupted as interrupted:
            self.interruption.handled = True
            interrupted.saved = self._save_unfinished()
            raise
        return tested

    def _advance(self) -> None:
        """Dispatches the steps up to the next evaluation."""
        windows, every = self._windows, self.config.train.log_every
        evaluation = self.plan.next_evaluation(windows.step)
        windows.start()
        while windows.step < evaluation:
            windows.advance(min((windows.step // every + 1) * every, evaluation))

    def _evaluate(self) -> dict[str, float]:
        """Evaluates and saves the state that the last step dispatched leads to."""
        state, step = self._windows.state, self._windows.step
        with self.interruption.held(False):
            evaluator = self._evaluator.result()
            self.interruption.hosts.meet()
            evaluated = evaluator.start(self.task, state.evaluated)
        self._windows.finish()
        with self.interruption.held(False):
            wait(evaluated)
        tested = metrics.means(*evaluated)
        # The last update may have spoilt weights whose loss was still finite.
        self._check_finite(tested["loss"], step, range(step - 1, step))
        tested[SECONDS] = self._seconds()
        self.writers.metrics("test", step, self.plan.epoch_of(step), tested)
        self._save(tested)
        self._tell(step, f"  test {percent(tested['accuracy'])}")
        return tested

    def _save_unfinished(self) -> int | None:
        """Saves what was trained since the last checkpoint, if anything; its step."""
        windows = self._windows
        self.checkpoints.wait()
        with contextlib.suppress(Diverged):  # then there is nothing to save
            windows.finish()
            unfinished = windows.unfinished()
            self._check_finite(unfinished.get("loss", 0.0), windows.step)
            if windows.step != (self.checkpoints.latest() or 0):
                largest = spread(windows.state.params)
                largest = self.interruption.hosts.largest(largest)
                self._check_finite(largest, windows.step)
                self._save({UNFINISHED: unfinished, SECONDS: self._seconds()})
        self.checkpoints.wait()
        return self.checkpoints.latest()

    def _save(self, about: dict) -> None:
        """Saves the state behind the last step, and what is known about it."""
        if self.trainer.order.skipped:
            about = about | {SKIPPED: self.trainer.order.skipped}
        self.checkpoints.save(self._windows.step, self._windows.state, about)

    def go_back(self, diverged: Diverged) -> tuple[int, dict]:
        """Leaves out what it diverged at; the newest checkpoint's step and metrics.

        Raises:
          Diverged: as given, if there is nothing to leave out.
        """
        step, order = self.checkpoints.latest() or 0, self.trainer.order
        batches = tuple(order.batch(t) for t in diverged.causes if t >= step)
        if not batches:  # the checkpoint itself is to blame
            raise diverged
        order.skipped += batches
        saved = self.checkpoints.metrics(step) if step else {}
        self.writers.rewind(step, is_evaluated(saved))
        self.reporter.say(
            f"{diverged.what}: going back to step {step}, and leaving out batch "
            f"{' and '.join(str(batch + 1) for batch in batches)}"
        )
        return step, saved

    def _seconds(self) -> float:
        return round(time.perf_counter() - self._started, 2)

    def _agreed(self, count: int) -> int:
        notice = self.checkpoints.end_is_announced()
        return self.interruption.agreed(count, notice)

    def _dispatched(self, step: int) -> None:
        self.reporter.step(step)
        self._evaluator = self._evaluator or self.begun()

    def _trained(
        self, window: Window, trained: dict[str, float], seconds: float
    ) -> None:
        """Writes what a window of steps has come to."""
        step, images = window.last, (window.last - window.first) * self.plan.batch_size
        trained["images_per_second"] = images / seconds
        trained["learning_rate"] = float(self._rates[step - 1])
        if not math.isfinite(trained["loss"]):
            bad = window.first_bad()
            # Its own batch, or the one before, whose update spoilt the weights.
            self._check_finite(trained["loss"], bad, range(max(bad - 2, 0), bad))
        self.writers.metrics("train", step, self.plan.epoch_of(step), trained)
        self._line = (
            f"loss {trained['loss']:.3f}  train {percent(trained['accuracy'])}  "
            f"{trained['images_per_second']:,.0f} img/s"
        )
        if step != self.plan.next_evaluation(step - 1):
            self._tell(step)

    def _tell(self, step: int, tested: str = "") -> None:
        """Shows the latest line of training, with what an evaluation adds to it."""
        epoch = f"{self.plan.epoch_of(step):.1f}/{self.plan.epochs}"
        self.reporter.metrics(step, epoch, self._line + tested, bool(tested))

    def _check_finite(self, loss: float, step: int, causes: range = range(0)) -> None:
        """Ends a course that diverged, before its state is saved.

        Args:
          loss: or another number that shows it.
          step: the first with such a loss, counted from 1.
          causes: steps that may be to blame.

        Raises:
          Diverged: it is not finite.
        """
        if not math.isfinite(loss):
            self.checkpoints.wait()
            saved = self.checkpoints.latest() is not None
            raise Diverged(
                *(loss, step, causes),
                "lower config.optim.learning_rate or raise config.optim.warmup_epochs"
                + (", in a new --workdir" if saved else "")
                + ", or have the batch left out: config.train.non_finite=skip",
            )


def going_on(
    course: Course,
    state: TrainState,
    step: int,
    saved: dict,
    initial: Callable[[], TrainState],
    restore: Callable[[int], TrainState],
) -> dict[str, float]:
    """Runs a course, and where it diverges goes back, if the config says so.

    Args:
      course: to be run.
      state, step, saved: as of `Course.run`.
      initial: gives the state at step 0.
      restore: gives a checkpoint's.

    Returns:
      The metrics of the last evaluation.

    Raises:
      Diverged: it is to end then, or went back as often as it may.
    """
    may_skip = course.config.train.non_finite == "skip"
    left = course.config.train.max_skips if may_skip else 0
    while True:
        try:
            return course.run(state, step, saved)
        except Diverged as diverged:
            if not left:
                raise
            left -= 1
            step, saved = course.go_back(diverged)
        state = restore(step) if step else initial()


def spread(params: dict) -> float:
    """The largest absolute parameter of this host; not finite if any of them is not."""
    parts = [
        shard.data
        for x in jax.tree.leaves(params)
        for shard in x.addressable_shards
        if shard.replica_id == 0
    ]
    return float(np.max([0.0, *(np.abs(part).max() for part in jax.device_get(parts))]))
