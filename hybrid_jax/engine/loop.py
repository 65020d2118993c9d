"""Run the training loop: steps, metrics, evaluations, checkpoints, the final test."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np

from hybrid_jax import data
from hybrid_jax.checkpoints.reader import best_checkpoint, is_evaluated
from hybrid_jax.config.suggestions import warmup_field
from hybrid_jax.console import Reporter, percent
from hybrid_jax.engine.metric_window import Window, Windows
from hybrid_jax.engine.recorder import Recorder
from hybrid_jax.parallel.signals import Interrupted, Interruption, wait_until_ready
from hybrid_jax.programs.experiment import Experiment
from hybrid_jax.programs.fault_injection import Diverged
from hybrid_jax.programs.programs import Evaluator, Trainer
from hybrid_jax.runs.storage import CheckpointStore
from hybrid_jax.training import metrics
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task

# What a checkpoint stores besides the metrics of its evaluation, or instead of them.
SECONDS = "seconds"  # of training and evaluation up to the checkpoint
SINCE_BEST = "since_best"  # evaluations without a new best, up to the checkpoint
SKIPPED = "skipped"  # batches that were left out up to the checkpoint
UNFINISHED = "unfinished"  # sums of the unfinished window of steps


@dataclasses.dataclass
class Loop:
    """The training loop of a run, from its first step to its final test.

    Attributes:
      experiment: config, splits and schedule.
      task: the constants of the steps, mean and deviation included.
      trainer: dispatches steps.
      after_first_step: called after the first step; returns a future of the evaluator,
        which is None if there is nothing to evaluate.
      initial_state: returns the state at step 0.
      restore: returns the state of a checkpoint.
      chosen: variables that the run chose in the end; empty before, or if they are only
        in a checkpoint.
    """

    experiment: Experiment
    task: Task
    trainer: Trainer
    console: Reporter
    checkpoints: CheckpointStore
    recorder: Recorder
    interruption: Interruption
    after_first_step: Callable[[], Future[Evaluator | None]]
    initial_state: Callable[[], TrainState]
    restore: Callable[[int], TrainState]
    chosen: dict = dataclasses.field(default_factory=dict)
    _evaluator: Future[Evaluator | None] | None = None

    def __post_init__(self) -> None:
        self.config, self.plan = self.experiment.config, self.experiment.plan
        self._validation = self.experiment.splits.validation
        self._best: tuple[int, dict] | None = None
        self._since_best = 0

    def run(self, state: TrainState, step: int, saved: dict) -> dict:
        """Train to the end; after a divergence, go back if the config says so.

        Args:
          state: the state after `step`.
          step: 0, or a checkpoint's step.
          saved: the checkpoint's metrics, or empty.

        Returns:
          The results: see `_test`.

        Raises:
          Diverged: a loss is not finite, and the run may not go back, or not any more.
          Interrupted: a signal came; the state is saved if checkpoints are persistent.
        """
        may_skip = self.config.train.non_finite == "skip"
        left = self.config.train.max_skips if may_skip else 0
        while True:
            try:
                return self._run(state, step, saved)
            except Diverged as diverged:
                if not left:
                    raise
                left -= 1
                step, saved = self._go_back(diverged)
            state = self.restore(step) if step else self.initial_state()

    def _run(self, state: TrainState, step: int, saved: dict) -> dict:
        self._line, self._best = "", self.checkpoints.best()
        self._since_best = saved.get(SINCE_BEST, 0)
        with self.console.busy("compiling"):
            self.trainer.program.wait()
        self.console.start(step, self.plan.total_steps)
        self._started = time.perf_counter() - saved.get(SECONDS, 0.0)
        self._windows = Windows(
            task=self.task,
            trainer=self.trainer,
            state=state,
            step=step,
            earlier=saved.get(UNFINISHED, {}),
            agreed=self._agreed,
            dispatched=self._dispatched,
            read=self._trained,
        )
        try:
            with self.interruption.deferred():
                due = self._validation is not None and self.plan.is_evaluated(step)
                if due and not is_evaluated(saved):
                    self._evaluate_and_save()
                while (
                    self._windows.step < self.plan.total_steps
                    and not self._should_stop()
                ):
                    self._train_to_evaluation()
                    self._evaluate_and_save()
                return self._test()
        except Interrupted as interrupted:
            self.interruption.handled = True
            if self.checkpoints.persistent:
                interrupted.saved = self._save_unfinished()
            raise

    def _should_stop(self) -> bool:
        """Return whether the run ends before its last step, on all hosts alike."""
        return self.interruption.hosts.broadcast(
            lambda: self.recorder.stops or self._is_out_of_patience()
        )

    def _is_out_of_patience(self) -> bool:
        return 0 < self.config.train.patience <= self._since_best

    def _train_to_evaluation(self) -> None:
        """Dispatch the steps up to the next evaluation."""
        windows, every = self._windows, self.config.train.log_every
        evaluation = self.plan.next_evaluation(windows.step)
        windows.start()
        while windows.step < evaluation:
            windows.advance(min((windows.step // every + 1) * every, evaluation))

    def _evaluate_and_save(self) -> None:
        """Evaluate and save the state after the last step that was dispatched."""
        step, about, said = self._windows.step, {}, ""
        if self._validation is None:
            self._windows.finish()
            self._check_weights(range(step - 1, step))
        else:
            about = self._evaluate(self._windows.state.evaluated, self._validation)
            # The last update may have spoiled weights whose loss was still finite.
            self._check_finite(about["loss"], step, range(step - 1, step))
            before = dict([self._best or (step, {})])
            self._best = best = best_checkpoint(before | {step: about})
            self._since_best = 0 if best and best[0] == step else self._since_best + 1
            said = f"  validation {percent(about['accuracy'])}"
        about[SECONDS] = self._seconds()
        if said:
            self.recorder.record("validation", step, self.plan.epoch_of(step), about)
        self._save(about)
        self._report(step, said, own_line=True)

    def _evaluate(self, variables: dict, split: data.Split) -> dict[str, Any]:
        """Return the metrics of a split; read the training metrics while it runs."""
        with self.interruption.deferred(False):
            self._evaluator = self._evaluator or self.after_first_step()
            evaluator = self._evaluator.result()
            assert evaluator is not None, "there is a split to evaluate"
            self.interruption.hosts.barrier()
            evaluated = evaluator.start(self.task, variables, split)
        self._windows.finish()
        with self.interruption.deferred(False):
            wait_until_ready(evaluated)
        return metrics.means(*evaluated)

    def _test(self) -> dict:
        """Evaluate the chosen weights on the test split, once.

        Returns:
          A dict: `step`, the last one; `seconds` of the run; `weights`, `last` or
          `best`; `checkpoint`, the step of these weights; `validation`, their metrics
          if they were evaluated; `test`, their metrics if there is a test split.
        """
        self._windows.finish()
        if self._evaluator:  # pictures, too, are written before the writer is closed
            with self.interruption.deferred(False):
                self._evaluator.result()
        self.checkpoints.wait()
        last, state = self._windows.step, self._windows.state
        weights, chosen, about = self.interruption.hosts.broadcast(self._choose_weights)
        results = {"step": last, "weights": weights, "checkpoint": chosen}
        if is_evaluated(about):
            results["validation"] = evaluation_metrics(about)
        test = self.experiment.splits.test
        if test is not None and chosen != last:
            state = self.restore(chosen)
        if test is not None or chosen == last:
            self.chosen = state.evaluated
        if test is not None:
            tested = self._evaluate(self.chosen, test)
            self._check_finite(tested["loss"], chosen)  # finite weights may overflow
            tested.pop("temperature")  # which validation alone may choose
            epoch = self.plan.epoch_of(chosen)
            self.recorder.record("test", chosen, epoch, tested, weights=weights)
            results["test"] = tested
        return results | {SECONDS: self._seconds()}

    def _choose_weights(self) -> tuple[str, int, dict]:
        """Choose the weights to test; return their kind, step and metrics."""
        weights, step = "last", self._windows.step
        if self._validation is None:
            return weights, step, {}
        best = self.checkpoints.best()
        if self.config.train.checkpoint == "best" and best:
            weights, step = "best", best[0]
        return weights, step, self.checkpoints.metrics(step)

    def _save_unfinished(self) -> int | None:
        """Save what was trained since the last checkpoint; return its step."""
        windows = self._windows
        self.checkpoints.wait()
        with contextlib.suppress(Diverged):  # then there is nothing to save
            windows.finish()
            unfinished = windows.unfinished()
            self._check_finite(unfinished.get("loss", 0.0), windows.step)
            if windows.step != (self.checkpoints.latest() or 0):
                self._check_weights(range(0))
                self._save({UNFINISHED: unfinished, SECONDS: self._seconds()})
        self.checkpoints.wait()
        return self.checkpoints.latest()

    def _check_weights(self, causes: range) -> None:
        """Raise `Diverged` if a weight is not finite; see `_check_finite`."""
        largest = self.interruption.hosts.max(
            largest_parameter(self._windows.state.params)
        )
        self._check_finite(largest, self._windows.step, causes)

    def _save(self, about: dict) -> None:
        """Save the state after the last step, with its metrics and what led to it."""
        about = about | {SINCE_BEST: self._since_best}
        if self.trainer.order.skipped:
            about = about | {SKIPPED: self.trainer.order.skipped}
        self.checkpoints.save(self._windows.step, self._windows.state, about)

    def _go_back(self, diverged: Diverged) -> tuple[int, dict]:
        """Leave bad batches out; return the newest checkpoint's step and metrics.

        Raises:
          Diverged: the given error, if there is nothing to leave out.
        """
        self.checkpoints.wait()
        self.interruption.hosts.barrier()  # host 0 alone writes the manifests
        step, order = self.checkpoints.latest() or 0, self.trainer.order
        batches = tuple(order.batch(t) for t in diverged.causes if t >= step)
        if not batches:  # the checkpoint itself is to blame
            raise diverged
        order.skipped += batches
        saved = self.checkpoints.metrics(step) if step else {}
        self.recorder.writer.rewind(step, is_evaluated(saved))
        self.console.notice(
            f"{diverged.what}: going back to step {step}, and leaving out batch "
            f"{' and '.join(str(batch + 1) for batch in batches)}"
        )
        return step, saved

    def _seconds(self) -> float:
        return round(time.perf_counter() - self._started, 2)

    def _agreed(self, count: int) -> int:
        notice = self.checkpoints.preemption_announced()
        return self.interruption.agree_on_steps(count, notice)

    def _dispatched(self, step: int) -> None:
        self.console.step(step)
        self._evaluator = self._evaluator or self.after_first_step()

    def _trained(
        self, window: Window, trained: dict[str, float], seconds: float
    ) -> None:
        """Record the metrics of a window of steps."""
        step, images = window.last, (window.last - window.first) * self.plan.batch_size
        trained["images_per_second"] = images / seconds
        trained["learning_rate"] = float(self.task.rates.learning_rate[step - 1])
        if not math.isfinite(trained["loss"]):
            bad = window.first_bad()
            # Its own batch is bad, or the one before, whose update spoiled the weights.
            self._check_finite(trained["loss"], bad, range(max(bad - 2, 0), bad))
        self.recorder.record("train", step, self.plan.epoch_of(step), trained)
        self._line = (
            f"loss {trained['loss']:.3f}  train {percent(trained['accuracy'])}  "
            f"{trained['images_per_second']:,.0f} img/s"
        )
        if step != self.plan.next_evaluation(step - 1):
            self._report(step)

    def _report(self, step: int, evaluated: str = "", own_line: bool = False) -> None:
        """Show the latest training metrics, followed by those of an evaluation."""
        epochs = round(self.plan.epochs, 1) or self.plan.epochs
        epoch = f"{self.plan.epoch_of(step):.1f}/{epochs:g}"
        self.console.metrics(step, epoch, self._line + evaluated, own_line)

    def _check_finite(self, loss: float, step: int, causes: range = range(0)) -> None:
        """End a run that diverged, before its state is saved.

        Args:
          loss: a loss, or another number that is not finite after a divergence.
          step: the first step with such a loss, counted from 1.
          causes: steps, counted from 0, that may be to blame.

        Raises:
          Diverged: the loss is not finite.
        """
        if not math.isfinite(loss):
            self.checkpoints.wait()
            saved = self.checkpoints.latest() is not None
            raise Diverged(
                loss,
                step,
                causes,
                f"lower config.optim.learning_rate or raise {warmup_field(self.config)}"
                + (", in a new --workdir" if saved else "")
                + ", or skip the batch by config.train.non_finite=skip",
            )


def evaluation_metrics(saved: dict) -> dict[str, metrics.Number]:
    """Return the metrics of an evaluation among what was saved with a checkpoint."""
    names = metrics.names(training=False)
    return {name: saved[name] for name in names if name in saved}


def largest_parameter(params: dict) -> float:
    """Return this host's largest absolute parameter; not finite if any is not."""
    parts = [
        shard.data
        for x in jax.tree.leaves(params)
        for shard in x.addressable_shards
        if shard.replica_id == 0
    ]
    return float(np.max([0.0, *(np.abs(part).max() for part in jax.device_get(parts))]))
