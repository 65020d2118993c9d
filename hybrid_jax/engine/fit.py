"""Train a classifier from a config and splits, with or without a folder."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrid_jax import data, runtime
from hybrid_jax.checkpoints.reader import is_evaluated
from hybrid_jax.checkpoints.writer import CheckpointWriter
from hybrid_jax.config.data_fields import IN_MEMORY, OF_FOLDERS
from hybrid_jax.config.files import load_config
from hybrid_jax.config.resolve import resolve
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.console import Reporter
from hybrid_jax.data.image_io import encode_png
from hybrid_jax.data.sources.class_folders import check_outside
from hybrid_jax.engine import startup_report
from hybrid_jax.engine.in_memory import InMemoryCheckpoints, InMemoryStorage
from hybrid_jax.engine.loop import SKIPPED, Loop
from hybrid_jax.engine.metric_writers import MemoryWriter, Writers
from hybrid_jax.engine.recorder import Callback, Recorder
from hybrid_jax.errors import UserError, megabytes
from hybrid_jax.json_files import write_whole
from hybrid_jax.parallel.distributed import Hosts, this_process
from hybrid_jax.parallel.signals import Interruption
from hybrid_jax.programs.checks import check_crop
from hybrid_jax.programs.compile import compiler_threads
from hybrid_jax.programs.experiment import (
    Experiment,
    set_up_process,
    shared_settings,
    with_statistics,
)
from hybrid_jax.programs.memory_fit import fit_trainer
from hybrid_jax.programs.programs import Evaluator, Trainer
from hybrid_jax.runs import results, seen_images, validation_scores
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.lost_images import refuse_in_memory
from hybrid_jax.runs.run import Run
from hybrid_jax.runs.storage import CheckpointStore, MetricWriter, RunStorage
from hybrid_jax.runs.weights import read_weights
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.state import TrainState
from hybrid_jax.weights.files import fit_weights, merge_arrays, shapes_of


def fit(
    config: ConfigDict | Config | str | os.PathLike,
    splits: Mapping[str, Any] | None = None,
    workdir: str | os.PathLike | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    hosts: Hosts | None = None,
    verbose: bool = True,
) -> Run:
    """Train a classifier, or resume a run.

        config = hybrid_jax.default_config()
        run = hybrid_jax.fit(config, {"train": (images, labels)})

    Args:
      config: config of the experiment, or its file, such as `configs/digits.py`.
      splits: `train`, and maybe `validation` and `test`, each `(images, labels)` or
        `(images, labels, groups)`: images uint8 `[N, h, w, C]` or `[N, h, w]`, labels
        of any type `[N]`. None loads what `config.data` names. Without `validation`,
        `config.data.validation` says what part of `train` is held out for it.
      workdir: the run's folder, created if it is missing. A run of this config is
        resumed, and a run of another one is left unchanged. None keeps everything in
        memory.
      callbacks: functions that are called with each row of metrics, a dict with
        `split`, `step`, `epoch` and the metrics. One that returns True ends the run
        after the row's evaluation. Only the main process calls them.
      hosts: the processes that share the run; by default those of `jax.distributed`.
      verbose: whether to show progress, or only to warn of what is left out or skipped.

    Returns:
      The run, with the weights that were tested.

    Raises:
      UserError: config, splits or workdir cannot be used, or training diverged; the
        message says what to change.
      Interrupted: SIGTERM, SIGINT or SIGHUP; with a workdir, the state is saved.
    """
    started, hosts = time.perf_counter(), hosts or this_process()
    folder = _create_storage(workdir, hosts)
    resolved = set_up_process(folder.own_dtype(_resolve(config, splits)), hosts)
    with hosts.fail_together(), Interruption(hosts) as interruption, folder:
        resolved, notes = _resume_config(resolved, folder, hosts)
        resolved, loaded = _load_splits(resolved, splits, folder, hosts)
        experiment = _create_experiment(resolved, loaded, folder, hosts)
        with (
            _create_reporter(folder, hosts, verbose) as console,
            _open_checkpoints(folder, resolved.train.keep, hosts) as checkpoints,
            hosts.fail_together(),  # here too, since closing what is above may wait
        ):
            for note in (*notes, *checkpoints.notes):
                console.notice(note)
            return Training(
                config=resolved,
                experiment=experiment,
                folder=folder,
                console=console,
                checkpoints=checkpoints,
                interruption=interruption,
                started=started,
            ).run(callbacks)


def _create_storage(workdir: str | os.PathLike | None, hosts: Hosts) -> RunStorage:
    """Return where the run is kept.

    Raises:
      UserError: several processes share the run, but no folder was given.
    """
    if workdir is not None:
        return RunFolder(workdir, hosts)
    if hosts.is_distributed:
        raise UserError("several processes need a workdir: give a folder they share")
    return InMemoryStorage()


def _create_reporter(folder: RunStorage, hosts: Hosts, verbose: bool) -> Reporter:
    """Return what shows progress, which only the main process does."""
    if not hosts.is_main:
        return Reporter(quiet=True)
    return Reporter(folder.log, quiet=not verbose, warns=not verbose)


def _resolve(config: ConfigDict | Config | str | os.PathLike, splits: Any) -> Config:
    """Return the resolved config; given arrays become its data set."""
    if isinstance(config, (str, os.PathLike)):
        config = load_config(os.fspath(config), {})
    # A `Config` was resolved before, be it by the run that continues here.
    resolved = resolve(config, is_stored=isinstance(config, Config))
    if splits is not None and not isinstance(splits, data.Splits):
        left_out = {name: FIELDS[name].default for name in OF_FOLDERS}
        resolved = resolved.replace({"data.name": IN_MEMORY} | left_out)
    return resolved


def _resume_config(
    config: Config, folder: RunStorage, hosts: Hosts
) -> tuple[Config, list[str]]:
    """Return the config with which the run continues, and notes.

    Raises:
      UserError: the folder holds a run of another config, or hosts differ in theirs.
    """
    config, notes = folder.resume(config)
    hosts.check_equal("setting", partial(shared_settings, config))
    if folder.path:
        check_outside("--workdir", folder.path, config.data)
    return config, notes


def _load_splits(
    config: Config, splits: Any, folder: RunStorage, hosts: Hosts
) -> tuple[Config, data.Splits]:
    """Return the config and the splits, which the main process prepares for all.

    Raises:
      UserError: the data set cannot be loaded, or is not that of the folder's run.
    """
    with hosts.main_process_first():
        if splits is None:
            refuse_in_memory(
                config.data.name, "resume with hybrid_jax.fit(config, splits, workdir)"
            )
            config, splits = folder.load_splits(config)
        else:
            splits = data.from_arrays(splits, config.data)
    kind = "resident" if splits.train.resident else "stream"
    hosts.check_equal(
        "data set", lambda: splits.identity | {"config.data.loader": kind}
    )
    folder.check_data(splits)
    return config, splits


def _create_experiment(
    config: Config, splits: data.Splits, folder: RunStorage, hosts: Hosts
) -> Experiment:
    """Create the experiment; a resumed run keeps its number of micro-batches."""
    experiment, count = Experiment(config, splits, hosts), 0
    if hosts.broadcast(folder.has_checkpoints):
        count = folder.read_micro_batches()
    else:
        height, width = splits.train.shape[1:3]
        check_crop(config.augment, (height, width))
    experiment = experiment.with_micro_batches(count) if count else experiment
    experiment.check()
    folder.create(config, experiment.spec, count)
    return experiment


def _open_checkpoints(folder: RunStorage, keep: int, hosts: Hosts) -> CheckpointStore:
    if isinstance(folder, RunFolder):
        return CheckpointWriter(folder.checkpoints, keep, hosts)
    return InMemoryCheckpoints()


@dataclasses.dataclass
class Training:
    """A run that is being trained, and what its parts share.

    Attributes:
      config: the resolved config, as the folder stores it.
      experiment: experiment of that config, with as many micro-batches as fit.
      started: start time, on the clock of `time.perf_counter`.
    """

    config: Config
    experiment: Experiment
    folder: RunStorage
    console: Reporter
    checkpoints: CheckpointStore
    interruption: Interruption
    started: float
    _chosen: dict = dataclasses.field(default_factory=dict)
    _judging: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    _keeper: seen_images.Keeper | None = None

    def run(self, callbacks: Sequence[Callback]) -> Run:
        """Train to the end, unless the run is complete, and print the results."""
        hosts, step = self.experiment.hosts, self.checkpoints.latest() or 0
        found = self.folder.read_results()
        if found and found["step"] == step:
            is_new = False
            self.console.say(f"{self.folder.path} is complete: nothing left to train")
            startup_report.tell_notes(self.console, self.experiment.splits)
            history = self.folder.read_history()
        else:
            is_new = True
            try:
                found, history = self._train(step, callbacks)
                self.folder.write_results(found)
            except BaseException:
                if self._keeper:
                    self._keeper.cancel()
                raise
            if self._keeper:
                with self.console.busy(f"reading the images for {seen_images.FILE}"):
                    error = self._keeper.finish()
                if error:
                    self.console.notice(f"No digests of the images are kept: {error}")
            peak, owner = runtime.peak_memory(jax.local_devices()[0])
            self.folder.write_environment(f"{megabytes(peak)} of the {owner}")
        results.report(self.console, found, self.experiment, self.folder.path)
        with hosts.main_process_first():  # which may still have results to write
            run = Run.from_experiment(
                self.experiment, self.folder, self._variables, found, history
            )
        if not hosts.is_distributed:
            for note in validation_scores.keep(run, anew=is_new):
                self.console.notice(note)
        run.notes += self.console.notices
        return run

    def _train(self, step: int, callbacks: Sequence[Callback]) -> tuple[dict, list]:
        """Train from step 0 or a checkpoint's; return the results and all metrics."""
        experiment = self.experiment
        # Read first: a damaged checkpoint must end the run before it writes anything.
        state, saved = self._resume(step) if step else (None, {})
        pretrained = {} if step else self._read_pretrained()
        startup_report.report_startup(self.console, experiment)
        initial_state = partial(self._initial_state, pretrained)
        begin: Callable[[], TrainState] = initial_state
        with compiler_threads() as threads:
            trainer = experiment.trainer(threads)
            if step == 0:
                # Compiled and run while the training step compiles, which takes longer.
                experiment.initialize.compile(threads)
                if not experiment.hosts.is_distributed:  # hosts keep to one order
                    begin = threads.submit(initial_state).result
            self.folder.write_data(experiment.splits)
            self.folder.write_environment()
            statistics = self.folder.statistics(experiment.splits)
            with self._open_writer(step, saved) as writer:
                state = state or begin()
                trainer = self._fit_into_memory(trainer, threads, resumed=step > 0)
                trainer.order.skipped = tuple(saved.get(SKIPPED, ()))
                lead = experiment.hosts.is_main
                loop = Loop(
                    experiment=self.experiment,
                    task=with_statistics(self.experiment.task, statistics),
                    trainer=trainer,
                    console=self.console,
                    checkpoints=self.checkpoints,
                    recorder=Recorder(writer, callbacks if lead else ()),
                    interruption=self.interruption,
                    after_first_step=partial(
                        self._after_first_step, threads, trainer, writer
                    ),
                    initial_state=initial_state,
                    restore=self._restore,
                )
                found = loop.run(state, step, saved)
                self._chosen = {} if experiment.hosts.is_distributed else loop.chosen
                tested = found.get("test") or found.get("validation") or {}
                writer.hyperparameters(self.config.flat(), tested)
        self.checkpoints.wait()
        if isinstance(writer, MemoryWriter):
            return found, writer.rows
        return found, self.folder.read_history()

    def _variables(self, step: int) -> dict:
        """Return the weights that the run chose, from memory or from a checkpoint."""
        chosen, self._chosen = self._chosen, {}
        if chosen:
            return jax.device_put(unpack(jax.device_get(chosen)))
        return self.checkpoints.load_variables(step)

    def _fit_into_memory(
        self, trainer: Trainer, threads: Executor, resumed: bool
    ) -> Trainer:
        """Return the trainer, or one with smaller micro-batches if those are needed."""
        experiment, trainer = fit_trainer(
            self.experiment, trainer, threads, resumed, self.console.say
        )
        if experiment is not self.experiment:
            self.experiment, count = experiment, experiment.config.optim.accumulate
            self.folder.create(self.config, experiment.spec, count)
        return trainer

    def _initial_state(self, pretrained: dict[str, np.ndarray]) -> TrainState:
        """Return the state at step 0, with pretrained weights if there are any."""
        experiment = self.experiment
        state = experiment.initialize(np.int32(experiment.config.seed))
        if not pretrained:
            return state
        variables = merge_arrays(unpack(state.variables), pretrained)
        return experiment.devices.put(state.starting_from(variables), experiment.shapes)

    def _restore(self, step: int) -> TrainState:
        """Return the state of a checkpoint."""
        experiment = self.experiment
        return self.checkpoints.restore(step, experiment.shapes, experiment.devices)

    def _resume(self, step: int) -> tuple[TrainState, dict]:
        """Return the state after a step, and what was saved with it."""
        state, total = self._restore(step), self.experiment.plan.total_steps
        self.console.say(f"Resuming after step {step} of {total}")
        return state, self.checkpoints.metrics(step)

    def _open_writer(self, step: int, saved: dict) -> MetricWriter:
        if isinstance(self.folder, RunFolder) and self.experiment.hosts.is_main:
            return Writers(self.folder, step, is_evaluated(saved))
        return MemoryWriter()

    def _after_first_step(
        self, threads: Executor, trainer: Trainer, writer: MetricWriter
    ) -> Future[Evaluator | None]:
        """Print how long the first step took; then create what it did not need."""
        seconds = time.perf_counter() - self.started
        self.console.say(startup_report.startup_times(trainer, seconds))
        folder, splits = self.folder, self.experiment.splits
        is_main = self.experiment.hosts.is_main
        if isinstance(folder, RunFolder) and is_main and not folder.digests.exists():
            known = self._judging, self.config.init_from
            self._keeper = seen_images.Keeper(folder.path, splits, *known)

        def make() -> Evaluator | None:
            evaluator = self.experiment.evaluator(threads)
            if not (isinstance(folder, RunFolder) and is_main):
                return evaluator
            if not folder.augmented.exists():
                grid = startup_report.augmented_images(self.experiment)
                writer.images("train/augmented", grid, 0)
                write_whole(folder.augmented, encode_png(grid))
            return evaluator

        return threads.submit(make)

    def _read_pretrained(self) -> dict[str, np.ndarray]:
        """Return the weights to start from, by path; none if the config names none."""
        config, splits = self.experiment.config, self.experiment.splits
        if not config.init_from:
            return {}
        weights = read_weights(config.init_from, config.init_checkpoint)
        if self.experiment.hosts.is_main:
            with self.console.busy("looking for images that were trained on before"):
                self._judging = seen_images.judging_digests(splits, config.init_from)
            for note in seen_images.notes_on_start(self._judging, config.init_from):
                self.console.notice(note)
        variables = jax.eval_shape(unpack, self.experiment.shapes.variables)
        fitted = fit_weights(
            self.experiment.model, weights, shapes_of(variables), splits.classes
        )
        report = self.console.notice if fitted.notes else self.console.say
        report("; ".join([f"Starting from {weights.path}", *fitted.notes]))
        return fitted.arrays
