"""Training from a config to a `Run`: with a folder or without, on any splits."""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrid_jax import data
from hybrid_jax.config.files import load_config
from hybrid_jax.config.resolve import resolve
from hybrid_jax.config.schema import Config
from hybrid_jax.data.output_folder import check_outside
from hybrid_jax.data.png import encode_png
from hybrid_jax.engine import memory_fit, results, startup_report
from hybrid_jax.engine.checkpoint import is_evaluated
from hybrid_jax.engine.checkpoint_writer import CheckpointWriter
from hybrid_jax.engine.compile import compiler_threads
from hybrid_jax.engine.console import Reporter
from hybrid_jax.engine.experiment import (
    Experiment,
    set_up_process,
    setting,
    with_statistics,
)
from hybrid_jax.engine.in_memory import InMemoryCheckpoints, InMemoryStorage
from hybrid_jax.engine.loop import SKIPPED, Loop
from hybrid_jax.engine.metric_writers import MemoryWriter, Writers
from hybrid_jax.engine.programs import Evaluator, Trainer
from hybrid_jax.engine.recorder import Callback, Recorder
from hybrid_jax.engine.run import IN_MEMORY, Run, refuse_in_memory
from hybrid_jax.engine.run_folder import RunFolder
from hybrid_jax.engine.signals import Interruption
from hybrid_jax.engine.storage import CheckpointStore, MetricWriter, RunStorage
from hybrid_jax.errors import UserError
from hybrid_jax.parallel.distributed import Hosts, this_process
from hybrid_jax.training.packed_params import unbundled
from hybrid_jax.training.state import TrainState
from hybrid_jax.weights.files import fit_weights, merged, read, shapes_of


def fit(
    config: ConfigDict | Config | str | os.PathLike,
    splits: Mapping[str, Any] | None = None,
    workdir: str | os.PathLike | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    hosts: Hosts | None = None,
    verbose: bool = True,
) -> Run:
    """Trains a classifier, or continues a run.

        config = hybrid_jax.default_config()
        run = hybrid_jax.fit(config, {"train": (images, labels)})

    Args:
      config: of the experiment, or its file, such as `configs/digits.py`.
      splits: `train`, and maybe `validation` and `test`, each `(images, labels)` or
        `(images, labels, groups)`: images uint8 `[N, h, w, C]` or `[N, h, w]`, labels
        of any kind `[N]`. None loads what `config.data` names. Without `validation`,
        `config.data.validation` takes its part of `train`.
      workdir: the run's folder; made if need be, continued if it holds this config's
        run, left alone if anything is wrong with either. None keeps all in memory.
      callbacks: functions that are told each row of metrics, a dict with `split`,
        `step`, `epoch` and the metrics. One that returns True ends the run after the
        row's evaluation. Of several processes, the first one's are called.
      hosts: the processes that share the run; by default those of `jax.distributed`.
      verbose: whether progress is shown.

    Returns:
      The run, whose weights are those that were tested.

    Raises:
      UserError: something that the user can mend.
      Interrupted: SIGTERM or SIGINT; what was trained is saved, if there is a folder.
    """
    started, hosts = time.perf_counter(), hosts or this_process()
    if workdir is None and hosts.many:
        raise UserError("several processes need a workdir: give a folder they share")
    asked = set_up_process(_resolved(config, splits), hosts)
    folder: RunStorage = (
        InMemoryStorage() if workdir is None else RunFolder(workdir, hosts)
    )
    with hosts.together(), Interruption(hosts) as interruption, folder:
        asked, notes = folder.resume(asked)
        hosts.agree("setting", partial(setting, asked))
        if folder.path and asked.data.name == "folder":
            check_outside("--workdir", folder.path, asked.data.path)
        asked, splits = _loaded(asked, splits, folder, hosts)
        experiment = _created(asked, splits, folder, hosts)
        with (
            Reporter(folder.log, quiet=not (hosts.lead and verbose)) as console,
            _open_checkpoints(folder, asked, hosts) as checkpoints,
            hosts.together(),  # here too, since closing what is above may wait
        ):
            for note in (*notes, *checkpoints.notes):
                console.say(note)
            training = Training(
                asked, experiment, folder, console, checkpoints, interruption, started
            )
            return training.run(callbacks)


def _created(
    config: Config, splits: data.Splits, folder: RunStorage, hosts: Hosts
) -> Experiment:
    """The experiment, in micro-batches where its run has begun with these."""
    experiment = Experiment(config, splits, hosts)
    pieces = folder.read_pieces() if hosts.told(folder.has_checkpoints) else 0
    experiment = experiment.accumulating(pieces) if pieces else experiment
    experiment.check()
    folder.create(config, experiment.spec, pieces)
    return experiment


def _resolved(config: ConfigDict | Config | str | os.PathLike, splits: Any) -> Config:
    """Return the config, which says where its splits come from."""
    if isinstance(config, (str, os.PathLike)):
        config = load_config(os.fspath(config), {})
    resolved = resolve(config)
    if splits is not None and not isinstance(splits, data.Splits):
        resolved = resolved.replace({"data.name": IN_MEMORY})
    return resolved


def _loaded(
    config: Config, splits: Any, folder: RunStorage, hosts: Hosts
) -> tuple[Config, data.Splits]:
    """The splits, prepared by one host for all, and the same as ever; their config."""
    options = config.data
    with hosts.leader_first():
        if splits is None:
            refuse_in_memory(
                config, "go on with hybrid_jax.fit(config, splits, workdir)"
            )
            config, splits = folder.load_splits(config)
        else:
            splits = data.from_arrays(splits, options)
    kind = "resident" if splits.train.resident else "stream"
    hosts.agree("data set", lambda: splits.identity | {"config.data.loader": kind})
    folder.check_data(splits)
    return config, splits


def _open_checkpoints(
    folder: RunStorage, config: Config, hosts: Hosts
) -> CheckpointStore:
    if isinstance(folder, RunFolder):
        return CheckpointWriter(folder.checkpoints, config.train.keep, hosts)
    return InMemoryCheckpoints()


@dataclasses.dataclass
class Training:
    """A run under way: what its parts need at hand.

    Attributes:
      asked: the config as asked for, which the folder keeps.
      experiment: the same, with as many micro-batches as fit.
      started: on the clock of `time.perf_counter`.
    """

    asked: Config
    experiment: Experiment
    folder: RunStorage
    console: Reporter
    checkpoints: CheckpointStore
    interruption: Interruption
    started: float

    def run(self, callbacks: Sequence[Callback]) -> Run:
        """Trains to the end, unless that is done; prints the results."""
        hosts, step = self.experiment.hosts, self.checkpoints.latest() or 0
        found = self.folder.read_results()
        if found and found["step"] == step:
            self.console.say(f"{self.folder.path} is complete: nothing left to train")
            history = self.folder.read_history()
        else:
            found, history = self._fit(step, callbacks)
            self.folder.write_results(found)
        results.report(self.console, found, self.experiment, self.folder.path)
        with hosts.leader_first():  # which may still have results to write
            return Run.of(
                self.experiment, self.folder, self.checkpoints, found, history
            )

    def _fit(self, step: int, callbacks: Sequence[Callback]) -> tuple[dict, list]:
        """Trains from a step, 0 or a checkpoint's; the results, and all metrics."""
        experiment = self.experiment
        # Read before anything is written, should it turn out to be damaged.
        state, saved = self._restored(step) if step else (None, {})
        arrays = {} if step else self._taken_over()
        startup_report.report_startup(self.console, experiment)
        with compiler_threads() as threads:
            if step == 0:
                experiment.initialise.compile(threads)
            trainer = experiment.trainer(threads)
            self.folder.describe_data(experiment.splits)
            statistics = self.folder.statistics(experiment.splits)
            initial = partial(self._initial, arrays)
            state = state or initial()
            trainer = self._fitting(trainer, threads, resumed=step > 0)
            trainer.order.skipped = tuple(saved.get(SKIPPED, ()))
            with self._writer(step, saved) as writer:
                lead = experiment.hosts.lead
                loop = Loop(
                    experiment=self.experiment,
                    task=with_statistics(self.experiment.task, statistics),
                    trainer=trainer,
                    console=self.console,
                    checkpoints=self.checkpoints,
                    recorder=Recorder(writer, callbacks if lead else ()),
                    interruption=self.interruption,
                    begun=partial(self._begun, threads, trainer, writer),
                    initial=initial,
                    restore=self._restore,
                )
                found = loop.run(state, step, saved)
                tested = found.get("test") or found.get("validation") or {}
                writer.hyperparameters(self.asked.flat(), tested)
        self.checkpoints.wait()
        if isinstance(writer, MemoryWriter):
            return found, writer.rows
        return found, self.folder.read_history()

    def _fitting(self, trainer: Trainer, threads: Executor, resumed: bool) -> Trainer:
        """The trainer, or one of as many micro-batches as fit into memory."""
        experiment = self.experiment
        pieces = memory_fit.pieces_that_fit(
            experiment, trainer.program.wait(), resumed, self.console.say
        )
        if pieces == experiment.config.optim.accumulate:
            return trainer
        self.experiment = experiment.accumulating(pieces)
        self.folder.create(self.asked, experiment.spec, pieces)
        return self.experiment.trainer(threads)

    def _initial(self, arrays: dict[str, np.ndarray]) -> TrainState:
        """The state at step 0, with weights that were taken over."""
        experiment = self.experiment
        state = experiment.initialise(np.int32(experiment.config.seed))
        if not arrays:
            return state
        variables = merged(unbundled(state.variables), arrays)
        return experiment.devices.put(state.starting_from(variables), experiment.shapes)

    def _restore(self, step: int) -> TrainState:
        """The state of a checkpoint."""
        experiment = self.experiment
        return self.checkpoints.restore(step, experiment.shapes, experiment.devices)

    def _restored(self, step: int) -> tuple[TrainState, dict]:
        """The state after a step, and what was saved with it."""
        state, total = self._restore(step), self.experiment.plan.total_steps
        self.console.say(f"continuing after step {step} of {total}")
        return state, self.checkpoints.metrics(step)

    def _writer(self, step: int, saved: dict) -> MetricWriter:
        if isinstance(self.folder, RunFolder) and self.experiment.hosts.lead:
            return Writers(self.folder, step, is_evaluated(saved))
        return MemoryWriter()

    def _begun(
        self, threads: Executor, trainer: Trainer, writer: MetricWriter
    ) -> Future[Evaluator | None]:
        """Says how long the first step took to come; makes what it did not wait for."""
        seconds = time.perf_counter() - self.started
        self.console.say(startup_report.startup_times(trainer, seconds))

        def make() -> Evaluator | None:
            evaluator = self.experiment.evaluator(threads)
            folder, lead = self.folder, self.experiment.hosts.lead
            if isinstance(folder, RunFolder) and lead and not folder.augmented.exists():
                grid = startup_report.augmented_images(self.experiment)
                writer.images("train/augmented", grid, 0)
                folder.augmented.write_bytes(encode_png(grid))
            return evaluator

        return threads.submit(make)

    def _taken_over(self) -> dict[str, np.ndarray]:
        """The weights to start from, by path; none if the config names no file."""
        config, splits = self.experiment.config, self.experiment.splits
        if not config.init_from:
            return {}
        weights = read(config.init_from, config.init_checkpoint)
        variables = jax.eval_shape(unbundled, self.experiment.shapes.variables)
        fitted = fit_weights(
            self.experiment.task.model, weights, shapes_of(variables), splits.classes
        )
        self.console.say(
            f"starting from {weights.path}" + "".join(f"; {n}" for n in fitted.notes)
        )
        return fitted.arrays
