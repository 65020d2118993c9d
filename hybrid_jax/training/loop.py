"""Training from a config to a folder: the file that knows all the others."""

import dataclasses
import functools
import math
import time

import numpy as np
from ml_collections import ConfigDict

from hybrid_jax import data, runtime
from hybrid_jax.config import flatten, validate
from hybrid_jax.data.png import encode_png
from hybrid_jax.errors import UserError
from hybrid_jax.training import describe, metrics, results
from hybrid_jax.training.build import (
    Plan,
    build_task,
    check_frozen,
    initial_shapes,
    learning_rate,
    model_spec,
    settled,
)
from hybrid_jax.training.checkpoint import Checkpoints
from hybrid_jax.training.programs import Programs, Trainer, compile_programs
from hybrid_jax.training.progress import Reporter, percent
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task
from hybrid_jax.training.weights import fit_weights, merged, read, shapes_of
from hybrid_jax.training.workdir import Workdir
from hybrid_jax.training.writers import Writers


def train(config: ConfigDict, workdir: str) -> dict[str, float]:
    """Trains, or continues, the run of a config in a folder.

    Args:
      config: see `hybrid_jax.fields`.
      workdir: the run's folder; made if need be, continued if it holds this config's
        run, left alone if anything is wrong with either.

    Returns:
      The metrics of the test split at the last step.

    Raises:
      UserError: something that the user can mend.
    """
    validate(config)
    runtime.set_up(config.compilation_cache)
    config = settled(config)
    folder = Workdir(workdir)
    folder.check(config)
    splits = data.load(**config.data)
    folder.check_data(splits.summary)
    plan = Plan(config, len(splits.train))
    task = build_task(config, splits, plan)
    spec = model_spec(config, task.model, splits.channels)
    folder.create(config, spec, splits.summary)
    with (
        Reporter(folder) as reporter,
        Checkpoints(folder.checkpoints, config.train.keep) as checkpoints,
    ):
        run = Run(config, folder, splits, plan, task, reporter, checkpoints)
        step = checkpoints.latest() or 0
        if step < plan.total_steps:
            run.fit(step)
        else:
            reporter.say(f"{folder.path} is complete: nothing left to train")
        return results.report(reporter, checkpoints, config, folder)


@dataclasses.dataclass
class Run:
    """A run under way: what `fit` and its parts need at hand."""

    config: ConfigDict
    folder: Workdir
    splits: data.Splits
    plan: Plan
    task: Task
    reporter: Reporter
    checkpoints: Checkpoints

    def fit(self, step: int) -> None:
        """Trains from a step, 0 or a checkpoint's, to the last."""
        shapes = initial_shapes(self.task, self.splits.channels)
        check_frozen(self.config.freeze, shapes.params)
        # Read before anything is written, should it turn out to be damaged.
        state, seconds = self._restored(step, shapes) if step else (None, 0.0)
        arrays = {} if step else self._taken_over(shapes)
        describe.announce(
            self.reporter, self.config, self.splits, self.plan, self.task, shapes
        )
        programs = compile_programs(
            self.task, shapes, self.splits, self.config, fresh=step == 0
        )
        self.reporter.say(f"compiled in {programs.seconds:.1f} s")
        with Writers(self.folder, step) as writers:
            if step == 0:
                state = programs.initialise(np.int32(self.config.seed))
                if arrays:
                    state = state.starting_from(merged(state.variables, arrays))
                self._draw_augmented(writers)
            self.reporter.start(step, self.plan.total_steps)
            tested = self._run_to_end(programs, writers, state, step, seconds)
            writers.hyperparameters(flatten(self.config), tested)
        self.checkpoints.wait()

    def _run_to_end(
        self,
        programs: Programs,
        writers: Writers,
        state: TrainState,
        step: int,
        seconds: float,
    ) -> dict[str, float]:
        """Trains and evaluates from a step on; the metrics of the last evaluation."""
        started = time.perf_counter() - seconds
        while step < self.plan.total_steps:
            evaluation = self.plan.next_evaluation(step)
            state, step, trained = self._advance(
                programs.trainer, state, step, evaluation
            )
            writers.metrics("train", step, self.plan.epoch_of(step), trained)
            line = _training_line(trained)
            if step == evaluation:
                tested = programs.evaluator(state.evaluated)
                # The last update may have spoilt weights whose loss was still finite.
                self._check_finite(tested["loss"], step)
                tested["seconds"] = round(time.perf_counter() - started, 2)
                writers.metrics("test", step, self.plan.epoch_of(step), tested)
                self.checkpoints.save(step, state, tested)
                line += f"  test {percent(tested['accuracy'])}"
            self.reporter.metrics(step, self._epoch(step), line, step == evaluation)
        return tested

    def _draw_augmented(self, writers: Writers) -> None:
        grid = describe.augmented_images(self.splits, self.task, self.config)
        writers.images("train/augmented", grid, 0)
        self.folder.augmented.write_bytes(encode_png(grid))

    def _taken_over(self, shapes: TrainState) -> dict[str, np.ndarray]:
        """The weights to start from, by path; none if the config names no file."""
        if not self.config.init_from:
            return {}
        weights = read(self.config.init_from)
        fitted = fit_weights(self.task.model, weights, shapes_of(shapes.variables))
        self.reporter.say(
            f"starting from {weights.path}" + "".join(f"; {n}" for n in fitted.notes)
        )
        return fitted.arrays

    def _restored(self, step: int, shapes: TrainState) -> tuple[TrainState, float]:
        """The state after a step, and the seconds spent on training up to there."""
        state = self.checkpoints.restore(step, shapes)
        self.reporter.say(f"continuing after step {step} of {self.plan.total_steps}")
        return state, self.checkpoints.metrics(step).get("seconds", 0.0)

    def _advance(
        self, trainer: Trainer, state: TrainState, step: int, evaluation: int
    ) -> tuple[TrainState, int, dict[str, float]]:
        """Trains to the next line of metrics: the state, its step, the mean metrics."""
        first, start, pace = step, time.perf_counter(), trainer.pace
        every = self.config.train.log_every
        stop = min((step // every + 1) * every, evaluation)
        sums = []
        pace.restart()
        while step < stop:
            count = min(pace.steps, stop - step)
            state, new = trainer(state, step, count)
            sums.append(new)
            step += count
            pace.sent(count, new)
            self.reporter.step(step)
        trained = metrics.means(*sums)
        seconds = time.perf_counter() - start
        trained["images_per_second"] = (step - first) * self.plan.batch_size / seconds
        trained["learning_rate"] = float(self.schedule(step - 1))
        self._check_finite(trained["loss"], step)
        return state, step, trained

    def _check_finite(self, loss: float, step: int) -> None:
        """Stops a run that diverged, before its state is saved."""
        if not math.isfinite(loss):
            saved = self.checkpoints.latest() is not None
            raise UserError(
                f"the loss is {loss} at step {step}: lower config.optim.learning_rate "
                "or raise config.optim.warmup_epochs"
                + (", in a new --workdir" if saved else "")
            )

    def _epoch(self, step: int) -> str:
        return f"{self.plan.epoch_of(step):.1f}/{self.plan.epochs}"

    @functools.cached_property
    def schedule(self):
        """The learning rate of a step, counted from 0."""
        return learning_rate(self.config, self.plan)


def _training_line(trained: dict[str, float]) -> str:
    return (
        f"loss {trained['loss']:.3f}  train {percent(trained['accuracy'])}  "
        f"{trained['images_per_second']:,.0f} img/s"
    )
