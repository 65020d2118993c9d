"""Training from a config to a folder: the file that knows all the others."""

import collections
import dataclasses
import functools
import math
import time

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict
from PIL import Image

from hybrid_jax import data, runtime
from hybrid_jax.config import flatten, validate
from hybrid_jax.data.augment import augment, to_float
from hybrid_jax.data.order import batch_indices
from hybrid_jax.errors import UserError
from hybrid_jax.models.geometry import map_sizes
from hybrid_jax.training import dispatch, metrics, results
from hybrid_jax.training.build import Plan, build_task, initial_state, learning_rate
from hybrid_jax.training.checkpoint import Checkpoints
from hybrid_jax.training.programs import Trainer, compile_both
from hybrid_jax.training.progress import Reporter, percent
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task
from hybrid_jax.training.workdir import Workdir
from hybrid_jax.training.writers import Writers, image_grid

SECONDS_A_DISPATCH = 0.5  # what the host waits for before it moves the bar


def train(config: ConfigDict, workdir: str) -> dict[str, float]:
    """Trains, or continues, the run of a config in a folder.

    Args:
      config: see `hybrid_jax.config`.
      workdir: the run's folder; made if need be, continued if it holds this config's
        run, left alone if anything is wrong with either.

    Returns:
      The metrics of the test split at the last step.

    Raises:
      UserError: something that the user can mend.
    """
    validate(config)
    folder = Workdir(workdir)
    folder.check(config)
    runtime.set_up(config.compilation_cache)
    splits = data.load(config.data.name, config.data.dir)
    plan = Plan(config, len(splits.train))
    task = build_task(config, splits, plan)
    folder.create(config, splits.classes)
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
        shapes = jax.eval_shape(self._initial_state, 0)
        self._describe(shapes)
        trainer, evaluator, seconds = compile_both(
            self.task, shapes, self.splits, self.config
        )
        self.reporter.say(
            f"compiled the steps of training and evaluation in {seconds:.1f} s"
        )
        state, seconds = self._state_at(step, shapes)
        started = time.perf_counter() - seconds
        with Writers(self.folder, step) as writers:
            if step == 0:
                self._show_augmented(writers)
            self.reporter.start(step, self.plan.total_steps)
            while step < self.plan.total_steps:
                evaluation = self.plan.next_evaluation(step)
                state, step, trained = self._advance(trainer, state, step, evaluation)
                writers.metrics("train", step, self.plan.epoch_of(step), trained)
                line = _training_line(trained)
                if step == evaluation:
                    tested = evaluator(state.evaluated)
                    tested["seconds"] = round(time.perf_counter() - started, 2)
                    writers.metrics("test", step, self.plan.epoch_of(step), tested)
                    self.checkpoints.save(step, state, tested)
                    line += f"  test {percent(tested['accuracy'])}"
                self.reporter.metrics(step, self._epoch(step), line, step == evaluation)
            writers.hyperparameters(flatten(self.config), tested)
        self.checkpoints.wait()

    def _state_at(self, step: int, shapes: TrainState) -> tuple[TrainState, float]:
        """The state after a step, and the seconds spent on training up to there."""
        if step == 0:
            return jax.jit(self._initial_state)(self.config.seed), 0.0
        state = self.checkpoints.restore(step, shapes)
        self.reporter.say(f"continuing after step {step} of {self.plan.total_steps}")
        return state, self.checkpoints.metrics(step).get("seconds", 0.0)

    def _advance(
        self, trainer: Trainer, state: TrainState, step: int, evaluation: int
    ) -> tuple[TrainState, int, dict[str, float]]:
        """Trains to the next line of metrics: the state, its step, the mean metrics."""
        first, start = step, time.perf_counter()
        every = self.config.train.log_every
        stop = min((step // every + 1) * every, evaluation)
        pace, sums = Pace(), []
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
        if not math.isfinite(trained["loss"]):
            saved = self.checkpoints.latest()
            raise UserError(
                f"the loss is {trained['loss']} between steps {first} and {step}: "
                "lower config.optim.learning_rate or raise config.optim.warmup_epochs"
                + (f"; step {saved} is saved" if saved else "")
            )
        return state, step, trained

    def _epoch(self, step: int) -> str:
        return f"{self.plan.epoch_of(step):.1f}/{self.plan.epochs}"

    @functools.cached_property
    def schedule(self):
        """The learning rate of a step, counted from 0."""
        return learning_rate(self.config, self.plan)

    def _initial_state(self, seed: int) -> TrainState:
        return initial_state(self.task, self.splits.channels, seed)

    def _describe(self, shapes: TrainState) -> None:
        """Says what is trained on what; the log also lists every parameter."""
        config, model = self.config, self.task.model
        height, width = self.task.image_size
        maps = map_sizes(self.task.image_size, model.strides)
        parameters = sum(x.size for x in jax.tree.leaves(shapes.params))
        device = jax.devices()[0]
        self.reporter.say(
            f"{config.data.name}: {len(self.splits.train):,} images to train on, "
            f"{len(self.splits.test):,} to test on, {len(self.splits.classes)} classes"
        )
        self.reporter.say(
            f"{config.model.name}: {'-'.join(model.stack)}, {parameters:,} parameters, "
            f"{height}x{width} px through maps of "
            + ", ".join(f"{h}x{w}" for h, w in maps)
        )
        self.reporter.say(
            f"{self.plan.total_steps:,} steps of {self.plan.batch_size} images, in "
            f"{model.dtype} on {device.device_kind} ({device.platform})"
        )
        self.reporter.note(
            "parameters\n"
            + parameter_overview.get_parameter_overview(
                shapes.params, include_stats=False
            )
        )

    def _show_augmented(self, writers: Writers) -> None:
        """Draws images of the first batch as augmentation makes them."""
        rows = batch_indices(
            self.config.seed, 0, len(self.splits.train), self.plan.batch_size
        )[:64]
        images = to_float(self.splits.train.images[rows], self.task.image_size)
        targets = jax.nn.one_hot(
            self.splits.train.labels[rows], len(self.splits.classes)
        )
        key = jax.random.key(self.config.seed)
        images, _ = augment(key, images, targets, self.task.augmentation)
        grid = image_grid(np.asarray(images))
        writers.images("train/augmented", grid, 0)
        Image.fromarray(grid.squeeze(-1) if grid.shape[-1] == 1 else grid).save(
            self.folder.augmented
        )


class Pace:
    """How many steps to dispatch at once, so that each call takes about half a second.

    Two calls are in flight at most: the device never waits for the host, and the host
    knows how far the device is.
    """

    def __init__(self):
        self.steps = 1
        self._in_flight = collections.deque()
        self._last = None

    def sent(self, count: int, sums: metrics.Sums) -> None:
        """Takes note of a call, and waits for the one before it."""
        self._in_flight.append((count, sums))
        if len(self._in_flight) < 2:
            return
        count, sums = self._in_flight.popleft()
        jax.block_until_ready(sums)
        now = time.perf_counter()
        if self._last is not None:
            steps = int(SECONDS_A_DISPATCH * count / max(now - self._last, 1e-6))
            self.steps = min(max(steps, 1), dispatch.STEPS)
        self._last = now


def _training_line(trained: dict[str, float]) -> str:
    return (
        f"loss {trained['loss']:.3f}  train {percent(trained['accuracy'])}  "
        f"{trained['images_per_second']:,.0f} img/s"
    )
