"""Read and write the folder of a run, which is locked for that run.

config.json      the experiment, and the version of this layout
model.json       the network, as arguments of `create_model`, and its channels
data.json        class names in the order of the labels, how many images, their labels,
                 mean and deviation, and how images are decoded
metrics.jsonl    one line of metrics per log interval and per evaluation
environment.json versions, devices and peak memory of the last training
results.json     the chosen checkpoint, with its validation and test metrics
digests.npz      digests of training and validation images, by which copies are found
validation.npz   the scores of the validation images by the tested weights
classifier.json  the labels of the classes, if `Classifier` trained the run
tensorboard/     the metrics for TensorBoard, with augmented images and the config
checkpoints/     the newest and the best checkpoints, a folder per step
augmented.png    augmented training images
report.html      a page about the run, written by `hybrid-jax train`
log.txt          what the run printed, and an overview of its parameters
.lock            locked by the run that writes here, until it ends or dies
"""

import os
import typing

import numpy as np

from hybrid_jax import data, runtime
from hybrid_jax.checkpoints import manifest
from hybrid_jax.config import effects, stored
from hybrid_jax.config.resolve import resolve
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.config.suggestions import unknown_field
from hybrid_jax.data import Splits
from hybrid_jax.data.pixel_format import PixelFormat
from hybrid_jax.errors import ConfigMismatch, UserError
from hybrid_jax.json_files import read_json, read_lines, write_json
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.paths import check_folder, expand_user, wait_for_file
from hybrid_jax.runs import folder_kinds, stored_data
from hybrid_jax.runs.lock import RunLock
from hybrid_jax.runs.lost_images import load_again
from hybrid_jax.runs.stored_results import read_results

if typing.TYPE_CHECKING:
    from hybrid_jax.checkpoints.reader import CheckpointReader, Steps

OF_ENDED_RUN = (
    "results.json",
    "report.html",
    "digests.npz",
    "validation.npz",
    "classifier.json",
)
VERSION, MICRO_BATCHES = "schema", "micro_batches"  # in config.json, beside the fields


class RunFolder:
    """The folder of a run: its paths, and methods that read and write its files.

    Nothing is written before `create`. As a context manager, it locks the folder
    against other runs as soon as it exists. Hosts share the folder; only the main
    process writes.
    """

    def __init__(self, path: str | os.PathLike, hosts: Hosts | None = None):
        check_folder("--workdir", path)
        self.path, self._hosts = expand_user(path), hosts or Hosts()
        self.config = self.path / "config.json"
        self.model = self.path / "model.json"
        self.data = self.path / "data.json"
        self.metrics = self.path / "metrics.jsonl"
        self.environment = self.path / "environment.json"
        self.results = self.path / "results.json"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.augmented = self.path / "augmented.png"
        self.digests = self.path / "digests.npz"
        self.report = self.path / "report.html"
        self.log = self.path / "log.txt"
        self._lock = RunLock(self.path)
        self._is_mine = False  # locked, so that no other run can begin there

    def __enter__(self) -> "RunFolder":
        """Lock the folder, if it exists.

        Raises:
          UserError: another run writes there, or the user may not.
        """
        if self._hosts.is_main:
            self._lock.check_writable()
            if self.path.is_dir():
                self._lock.acquire()
                self._is_mine = True
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._is_mine = False

    def resume(self, config: Config) -> tuple[Config, list[str]]:
        """Return the config with which the folder's run continues, if it holds one.

        A run of the older layout, which had no validation split, continues without one
        unless `config` asks for it.

        Args:
          config: the config that is asked for.

        Returns:
          The config, and notes for the user.

        Raises:
          UserError: the path, or one above it, is a file, or the folder holds
            something else.
          ConfigMismatch: the folder holds a run of another config; names the fields.
        """
        if not self._holds_run:
            folder_kinds.check_free(self.path, "run")
            return config, []  # nothing was saved: any config may begin
        theirs, notes = self.read_config(), []
        default = FIELDS["data.validation"].default
        if self._is_older and config.data.validation == default:
            config = config.replace({"data.validation": theirs.data.validation})
            notes.append(
                "this run is of an older version: it continues with "
                f"config.data.validation={theirs.data.validation}"
            )
        self._check_same(theirs, config)
        return config, notes

    @property
    def _holds_run(self) -> bool:
        return self.config.exists() and self.has_checkpoints()

    def own_dtype(self, config: Config) -> Config:
        """Return a config whose `dtype=auto` means that of the folder's run, if any.

        Otherwise it would depend on the machine, and a run may continue on another.
        """
        if config.dtype != "auto" or not self._holds_run:
            return config
        return config.replace({"dtype": self.read_config().dtype})

    def _check_same(self, theirs: Config, ours: Config) -> None:
        differing = stored.differences(theirs, ours)
        if not differing:
            return
        longer = (theirs.train.epochs, theirs.train.steps) != (
            ours.train.epochs,
            ours.train.steps,
        )
        more = (
            "; to train its weights for more epochs, give another workdir and "
            f"--config.init_from={self.path}"
        )
        raise ConfigMismatch(
            self.path, differing, more if longer else "", epochs_differ=longer
        )

    def load_splits(self, config: Config) -> tuple[Config, Splits]:
        """Load the data set of a config, split as for the run that the folder holds.

        In the older layout, validation images served as the test split if there was no
        other. They chose the best weights, so they are the validation split now.

        Returns:
          The config, with `data.validation` changed in that case, and the splits.

        Raises:
          UserError: the data set cannot be loaded.
        """
        load = load_again if self._holds_run else data.load
        splits, is_older = load(config.data), self._holds_run and self._is_older
        if is_older and splits.test is None and config.data.validation == 0:
            default = FIELDS["data.validation"].default
            config = config.replace({"data.validation": default})
            splits = load(config.data)
        return config, splits

    def check_data(self, splits: Splits) -> None:
        """Refuse data that are not those of the run that the folder holds.

        Raises:
          UserError: the data differ; the message names what.
        """
        if not self.data.exists() or not self.has_checkpoints():
            return
        theirs = read_json(self.data)
        differing = stored_data.differences(theirs, splits, self.statistics)
        if differing:
            raise UserError(
                f"--workdir={self.path} holds a run of other data: "
                f"{'; '.join(differing)}. Restore them, or give another workdir"
            )

    def statistics(self, splits: Splits) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation float32 `[C]` that the run normalizes images with.

        A run with a checkpoint keeps those of its start, since another version of a
        decoder may round differently.
        """
        if not self.data.exists() or not self.has_checkpoints():
            return splits.statistics
        return self.read_statistics(splits.channels)

    def read_statistics(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Read mean and deviation float32 `[C]`, levels 0 to 255.

        Raises:
          UserError: none are stored for so many channels.
        """
        return stored_data.read_statistics(self.data, channels)

    def has_checkpoints(self) -> bool:
        """Return whether a run has saved a checkpoint."""
        return manifest.any_saved(self.checkpoints)

    @property
    def schema(self) -> int:
        """Read the version of the layout of the folder's run.

        Raises:
          UserError: the version is newer than this program.
        """
        return stored.check_schema(read_json(self.config).get(VERSION, 1), self.path)

    @property
    def _is_older(self) -> bool:
        """Return whether the run is of the layout that had no validation split."""
        return self.schema < stored.WITH_VALIDATION

    def read_config(self) -> Config:
        """Read the stored config, in the fields of this version.

        Raises:
          UserError: the config cannot be read, or is newer than this program.
        """
        known = read_json(self.config)
        fields = {k: v for k, v in known.items() if k not in (VERSION, MICRO_BATCHES)}
        return stored.read(fields, self.schema, self.path)

    def config_with(self, changed: dict[str, typing.Any]) -> Config:
        """Return the stored config with some free fields changed.

        Raises:
          UserError: it or a row cannot be read, or a field may not be changed.
        """
        local = (f"--config.{name}" for name in FIELDS if FIELDS[name].local)
        for name in changed:
            if name not in FIELDS:
                raise UserError(unknown_field(name))
            if not FIELDS[name].free:
                raise UserError(
                    f"--config.{name} is what the run of {self.path} was trained with: "
                    "leave it out; only places of files and the use of this machine "
                    f"can be changed, such as {', '.join(sorted(local))}"
                )
        stored.check_rows(config := self.read_config(), str(self.path))
        effects.check_stored(changed, config := config.replace(changed))
        return resolve(config, is_stored=True)

    def read_micro_batches(self) -> int:
        """Read how many micro-batches a step has; 0 if no number was searched for."""
        return read_json(self.config).get(MICRO_BATCHES, 0)

    def read_model(self) -> dict:
        """Read the arguments of `create_model`, and `channels`."""
        return read_json(self.model)

    def read_classes(self, outputs: int) -> tuple[str, ...]:
        """Read the class names in the order of a network's logits.

        Args:
          outputs: how many logits the network has.

        Raises:
          UserError: the names cannot be read, or there is not one for each logit.
        """
        return stored_data.read_classes(self.data, outputs)

    def read_form(self) -> PixelFormat:
        """Read the pixel format in which the run's images are decoded.

        For the older layout, it is built from other entries, and the bit depth of
        16-bit images is unknown.

        Raises:
          UserError: the format cannot be read.
        """
        return stored_data.read_form(self.data, self.read_config().data)

    def read_pixels(self, channels: int) -> dict:
        """Read how images are decoded and normalized.

        Returns:
          The entries of a `PixelFormat`, and `mean` and `deviation` of each channel.
        """
        mean, std = self.read_statistics(channels)
        statistics = {"mean": mean.tolist(), "deviation": std.tolist()}
        return self.read_form().to_json() | statistics

    def read_results(self) -> dict | None:
        """Read the chosen checkpoint and its metrics; None before the run has ended.

        Raises:
          UserError: the file is damaged; says how to write it again.
        """
        return read_results(self.results) if self.results.exists() else None

    def choose(
        self, saved: "CheckpointReader", checkpoint: str | int | None
    ) -> "Steps":
        """Return the steps of a checkpoint; without a name, the one that was tested.

        If the run has not ended, the best on validation takes its place, or else the
        last.

        Raises:
          UserError: there is no such checkpoint; the message lists the saved steps.
        """
        validated = self.read_config().data.validation != 0
        if checkpoint in (None, ""):
            usual = "best" if validated and saved.best() else "last"
            checkpoint = (self.read_results() or {}).get("checkpoint", usual)
        return saved.find_steps(checkpoint, validated)

    def read_history(self) -> list[dict]:
        """Read all lines of metrics, in their order; skip damaged ones."""
        rows = read_lines(self.metrics)
        return [row for row in rows if {"split", "step"} <= row.keys()]

    def create(self, config: Config, model: dict, micro_batches: int = 0) -> None:
        """Create the folder, and write the config and the model of the run.

        Args:
          config: config of the run.
          model: arguments of `create_model`, and `channels`.
          micro_batches: number that was found to fit; 0 if none was searched for.

        Raises:
          UserError: another run has locked the folder, or began there after this one
            had found no folder; or hosts do not share it.
        """
        with self._hosts.main_process_first():
            if self._hosts.is_main:
                self.path.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
                if not self._is_mine and self._holds_run:
                    raise UserError(
                        f"--workdir={self.path}: another run began there at the same "
                        "time: give another workdir"
                    )
                self._is_mine = True
                if not self.has_checkpoints():  # results of an earlier run
                    for name in OF_ENDED_RUN:
                        (self.path / name).unlink(missing_ok=True)
                # A resumed run keeps the version of its layout.
                schema = self.schema if self.has_checkpoints() else stored.SCHEMA
                about = {VERSION: schema} | (
                    {MICRO_BATCHES: micro_batches} if micro_batches else {}
                )
                write_json(self.config, about | stored.nested(config))
                write_json(self.model, model)
        if not wait_for_file(self.config):
            raise UserError(
                f"--workdir={self.path} of host 0 is not visible on host "
                f"{self._hosts.process_index}: give a folder that all hosts share"
            )

    def write_data(self, splits: Splits) -> None:
        """Write the description of the data, unless it is complete."""
        if not self._hosts.is_main:
            return
        has_run = self.data.exists() and self.has_checkpoints()
        known = read_json(self.data) if has_run else {}
        if not stored_data.is_described(known):
            write_json(self.data, stored_data.described(splits, known))

    def write_environment(self, peak_memory: str = "") -> None:
        """Write the versions and devices that the run is trained with.

        Args:
          peak_memory: peak memory of a run that has ended, in words.
        """
        if self._hosts.is_main:
            more = {"peak memory": peak_memory} if peak_memory else {}
            write_json(self.environment, runtime.environment() | more)

    def write_results(self, results: dict) -> None:
        """Write which checkpoint was chosen, and its metrics."""
        if self._hosts.is_main:
            write_json(self.results, results)
