"""A run under way: steps, lines of metrics, evaluations, checkpoints."""

import dataclasses
import math
import time
from collections.abc import Callable
from concurrent.futures import Future

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrid_jax.errors import UserError
from hybrid_jax.training import metrics
from hybrid_jax.training.build import Plan, learning_rate
from hybrid_jax.training.checkpoint import Checkpoints
from hybrid_jax.training.programs import Evaluator, Trainer
from hybrid_jax.training.progress import Reporter, percent
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task
from hybrid_jax.training.windows import Window, Windows
from hybrid_jax.training.writers import Writers


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
    begun: Callable[[], Future[Evaluator]]

    def run(self, state: TrainState, step: int, seconds: float) -> dict[str, float]:
        """Trains and evaluates to the last step; the metrics of the last evaluation.

        Args:
          state: after `step`.
          step: 0, or a checkpoint's.
          seconds: spent on training up to there.
        """
        # Told in advance, since computing one later would wait for the device.
        rates = jax.jit(learning_rate(self.config, self.plan))
        self._rates = np.asarray(rates(np.arange(self.plan.total_steps)))
        self._evaluator: Future[Evaluator] | None = None
        self.trainer.program.wait()
        self.reporter.start(step, self.plan.total_steps)
        started = time.perf_counter() - seconds
        windows = Windows(self.task, self.trainer, self._dispatched, self._trained)
        while step < self.plan.total_steps:
            state, step = self._advance(windows, state, step)
            evaluator = self._evaluator.result()
            evaluated = evaluator.start(self.task, state.evaluated)
            windows.finish()
            tested = metrics.means(*evaluated)
            # The last update may have spoilt weights whose loss was still finite.
            self._check_finite(tested["loss"], step)
            tested["seconds"] = round(time.perf_counter() - started, 2)
            self.writers.metrics("test", step, self.plan.epoch_of(step), tested)
            self.checkpoints.save(step, state, tested)
            self._tell(step, f"  test {percent(tested['accuracy'])}")
        return tested

    def _advance(
        self, windows: Windows, state: TrainState, step: int
    ) -> tuple[TrainState, int]:
        """Dispatches the steps up to the next evaluation: the state and its step."""
        evaluation, every = self.plan.next_evaluation(step), self.config.train.log_every
        windows.start()
        while step < evaluation:
            stop = min((step // every + 1) * every, evaluation)
            state = windows.advance(state, step, stop)
            step = stop
        return state, step

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
        self._check_finite(trained["loss"], step)
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

    def _check_finite(self, loss: float, step: int) -> None:
        """Stops a run that diverged, before its state is saved."""
        if not math.isfinite(loss):
            saved = self.checkpoints.latest() is not None
            raise UserError(
                f"the loss is {loss} at step {step}: lower config.optim.learning_rate "
                "or raise config.optim.warmup_epochs"
                + (", in a new --workdir" if saved else "")
            )
