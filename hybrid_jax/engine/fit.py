"""Training from a config to a folder: the file that knows all the others."""

import dataclasses
import time
from concurrent.futures import Executor, Future
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrid_jax import data, runtime
from hybrid_jax.config import flatten, validate
from hybrid_jax.data.outputs import check_outside
from hybrid_jax.data.png import encode_png
from hybrid_jax.engine import announce, memory_fit, results
from hybrid_jax.engine.checkpoint import Checkpoints, is_evaluated
from hybrid_jax.engine.compile import compiler
from hybrid_jax.engine.console import Reporter
from hybrid_jax.engine.loop import SKIPPED, Course, going_on
from hybrid_jax.engine.metric_writers import Silence, Writers
from hybrid_jax.engine.programs import Evaluator, Trainer, initialiser, step_compiler
from hybrid_jax.engine.run_folder import Workdir
from hybrid_jax.engine.setup import (
    Plan,
    build_task,
    check_frozen,
    create_run_devices,
    model_spec,
    settled,
    with_statistics,
)
from hybrid_jax.engine.signals import Interruption
from hybrid_jax.fields import LOCAL
from hybrid_jax.parallel.hosts import Hosts
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.training.bundles import unbundled
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task
from hybrid_jax.training.weights import fit_weights, merged, read, shapes_of


def train(
    config: ConfigDict, workdir: str, hosts: Hosts | None = None
) -> dict[str, float]:
    """Trains, or continues, the run of a config in a folder.

    Args:
      config: see `hybrid_jax.fields`.
      workdir: the run's folder; made if need be, continued if it holds this config's
        run, left alone if anything is wrong with either.
      hosts: of `parallel.hosts.join`, where several share the run, and its folder.

    Returns:
      The metrics of the test split at the last step.

    Raises:
      UserError: something that the user can mend.
      Interrupted: SIGTERM or SIGINT; what was trained is saved.
    """
    started, hosts = time.perf_counter(), hosts or Hosts()
    validate(config)
    # On CPUs, processes that read programs which one of them compiled wait for ever.
    cached = not hosts.many or jax.default_backend() != "cpu"
    runtime.set_up(config.compilation_cache and cached)
    config = settled(config)
    with (
        hosts.together(),
        Interruption(hosts) as interruption,
        Workdir(workdir, hosts) as folder,
    ):
        begun = hosts.told(folder.has_checkpoints)
        config = memory_fit.adopted(config, folder) if begun else config
        hosts.agree("setting", partial(setting, config))
        folder.check(config)
        if config.data.name == "folder":
            check_outside("--workdir", folder.path, config.data.path)
        splits = _loaded(config, folder, hosts)
        devices = create_run_devices(config, hosts)
        plan = Plan(config, len(splits.train))
        task = build_task(config, splits, plan)
        if config.train.micro_batch == memory_fit.AUTO and not begun:
            config = _fitted(config, devices, task, splits, hosts)
            task = build_task(config, splits, plan)
        folder.create(config, model_spec(config, task.model, splits.channels))
        with (
            Reporter(folder, quiet=not hosts.lead) as reporter,
            Checkpoints(folder.checkpoints, config.train.keep, hosts) as checkpoints,
            hosts.together(),  # here too, since closing what is above may wait
        ):
            for note in checkpoints.notes:
                reporter.say(note)
            step = checkpoints.latest() or 0
            if step < plan.total_steps or not is_evaluated(checkpoints.metrics(step)):
                work = (config, folder, devices, splits, plan, task)
                run = Run(*work, reporter, checkpoints, interruption, started)
                run.fit(step)
            else:
                reporter.say(f"{folder.path} is complete: nothing left to train")
            with hosts.leader_first():  # which may still have metrics to write
                return results.report(reporter, checkpoints, config, folder)


def _loaded(config: ConfigDict, folder: Workdir, hosts: Hosts) -> data.Splits:
    """The data set, prepared by one host for all, and the same as ever."""
    with hosts.leader_first():
        splits = data.load(**config.data)
    kind = "resident" if splits.train.resident else "stream"
    hosts.agree("data set", lambda: splits.identity | {"config.data.loader": kind})
    folder.check_data(splits)
    return splits


def _fitted(
    config: ConfigDict, devices: Devices, task: Task, splits: data.Splits, hosts: Hosts
) -> ConfigDict:
    """The config with as few micro-batches as memory allows."""
    reporter = Reporter(quiet=not hosts.lead)
    reporter.say("compiling, to see how many images at a time fit into memory")
    shapes = initialiser(devices, task, splits.channels).shapes
    compile_step = step_compiler(devices, task, shapes, splits.train, config)
    pieces = memory_fit.pieces_that_fit(config, compile_step, devices)
    pieces = int(hosts.largest(pieces))
    reporter.say(f"{config.train.batch_size // pieces} images at a time fit")
    return memory_fit.accumulating(config, pieces)


def setting(config: ConfigDict) -> dict:
    """What the hosts of a run must have in common, but for their data."""
    shared = {k: v for k, v in flatten(config).items() if k not in LOCAL}
    return {f"config.{name}": value for name, value in shared.items()} | {
        "jax": jax.__version__,
        "hybrid_jax": runtime.source_version(),
        "number of devices": jax.local_device_count(),
    }


@dataclasses.dataclass
class Run:
    """A run under way: what `fit` and its parts need at hand."""

    config: ConfigDict
    folder: Workdir
    devices: Devices
    splits: data.Splits
    plan: Plan
    task: Task
    reporter: Reporter
    checkpoints: Checkpoints
    interruption: Interruption
    started: float  # on the clock of `time.perf_counter`

    def fit(self, step: int) -> None:
        """Trains from a step, 0 or a checkpoint's, to the last."""
        initialise = initialiser(self.devices, self.task, self.splits.channels)
        shapes = initialise.shapes
        check_frozen(self.config.freeze, shapes.params)
        # Read before anything is written, should it turn out to be damaged.
        state, saved = self._restored(step, shapes) if step else (None, {})
        arrays = {} if step else self._taken_over(shapes)
        announce.announce(
            *(self.reporter, self.config, self.devices, self.splits),
            *(self.plan, self.task, shapes),
        )
        with compiler() as threads:
            if step == 0:
                initialise.compile(threads)
            trainer = Trainer(
                *(threads, self.devices, self.task, shapes),
                *(self.splits.train, self.config),
            )
            self.folder.describe_data(self.splits)
            task = with_statistics(self.task, self.folder.statistics(self.splits))
            trainer.order.skipped = tuple(saved.get(SKIPPED, ()))

            def initial() -> TrainState:
                state = initialise(np.int32(self.config.seed))
                if not arrays:
                    return state
                variables = merged(unbundled(state.variables), arrays)
                return self.devices.put(state.starting_from(variables), shapes)

            state = state if step else initial()
            with self._writers(step, saved) as writers:
                begun = partial(self._begun, threads, trainer, shapes, writers)
                course = Course(
                    *(self.config, self.plan, self.reporter, self.checkpoints),
                    *(writers, task, trainer, self.interruption, begun),
                )
                restore = partial(
                    self.checkpoints.restore, like=shapes, devices=self.devices
                )
                memory_fit.check(
                    *(self.config, trainer.program.wait()),
                    step_compiler(
                        *(self.devices, self.task, shapes),
                        *(self.splits.train, self.config),
                    ),
                    *(self.devices, self.reporter.say),
                )
                tested = going_on(course, state, step, saved, initial, restore)
                writers.hyperparameters(flatten(self.config), tested)
        self.checkpoints.wait()

    def _writers(self, step: int, saved: dict) -> Writers | Silence:
        if self.interruption.hosts.lead:
            return Writers(self.folder, step, is_evaluated(saved))
        return Silence()

    def _begun(
        self, threads: Executor, trainer: Trainer, shapes: TrainState, writers: Writers
    ) -> Future[Evaluator]:
        """Says how long the first step took to come; makes what it did not wait for."""
        seconds = time.perf_counter() - self.started
        self.reporter.say(announce.readiness(trainer, seconds))

        def make() -> Evaluator:
            variables, split = shapes.evaluated, self.splits.test
            evaluator = Evaluator(
                threads, self.devices, self.task, variables, split, self.config
            )
            lead = self.interruption.hosts.lead
            if lead and not self.folder.augmented.exists():
                self._draw_augmented(writers)
            return evaluator

        return threads.submit(make)

    def _draw_augmented(self, writers: Writers) -> None:
        grid = announce.augmented_images(self.splits, self.task, self.config)
        writers.images("train/augmented", grid, 0)
        self.folder.augmented.write_bytes(encode_png(grid))

    def _taken_over(self, shapes: TrainState) -> dict[str, np.ndarray]:
        """The weights to start from, by path; none if the config names no file."""
        if not self.config.init_from:
            return {}
        weights = read(self.config.init_from)
        variables = jax.eval_shape(unbundled, shapes.variables)
        fitted = fit_weights(
            self.task.model, weights, shapes_of(variables), self.splits.classes
        )
        self.reporter.say(
            f"starting from {weights.path}" + "".join(f"; {n}" for n in fitted.notes)
        )
        return fitted.arrays

    def _restored(self, step: int, shapes: TrainState) -> tuple[TrainState, dict]:
        """The state after a step, and what was saved with it."""
        state = self.checkpoints.restore(step, shapes, self.devices)
        self.reporter.say(f"continuing after step {step} of {self.plan.total_steps}")
        return state, self.checkpoints.metrics(step)
