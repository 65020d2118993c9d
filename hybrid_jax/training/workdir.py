"""The folder of a run: what lies where, and whose it is.

config.json      the experiment
model.json       the network, as arguments of `create_model`, and its channels
data.json        class names in the order of the labels, how many images, their labels
metrics.jsonl    one line of metrics per log interval and per evaluation
tensorboard/     the same for TensorBoard, with augmented images and hyper-parameters
checkpoints/     the newest and the best, a folder a step
augmented.png    training images as augmentation makes them
log.txt          what the run said, and an overview of its parameters
.lock            held by the run that writes here, and free once it has ended or died
"""

import json
import os
import re
import time
import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from ml_collections import ConfigDict

from hybrid_jax.config import flatten, unflatten
from hybrid_jax.data import Splits
from hybrid_jax.errors import OtherRun, UserError, short
from hybrid_jax.fields import FIELDS, PATH
from hybrid_jax.parallel.hosts import Hosts
from hybrid_jax.paths import expanded

STATISTICS = "mean and deviation"  # in data.json
LEVELS = 1.0  # of 255, by which they may differ: decoders round by far less


class Workdir:
    """Paths inside a run's folder. Nothing is written before `create`.

    As a context it is the one run of its folder, from the moment that there is one. Of
    many hosts, which share the folder, the leading one writes.
    """

    def __init__(self, path: str | os.PathLike, hosts: Hosts | None = None):
        self.path, self._hosts = expanded(path), hosts or Hosts()
        self.config = self.path / "config.json"
        self.model = self.path / "model.json"
        self.data = self.path / "data.json"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.augmented = self.path / "augmented.png"
        self.log = self.path / "log.txt"
        self._lock = FileLock(self.path / ".lock", blocking=False)

    def __enter__(self) -> "Workdir":
        """Reserves the folder, if it exists.

        Raises:
          UserError: another run writes there, or none can.
        """
        if self._hosts.lead:
            self._check_writable()
            if self.path.is_dir():
                self._reserve()
        return self

    def __exit__(self, *_) -> None:
        self._lock.release(force=True)

    def _check_writable(self) -> None:
        there = next(p for p in (self.path, *self.path.parents) if p.exists())
        effective = os.access in os.supports_effective_ids
        may = os.access(there, os.W_OK | os.X_OK, effective_ids=effective)
        if there.is_dir() and not may:
            raise UserError(
                f"--workdir={self.path} cannot be written to: {there} is read-only to "
                "you; give a folder of yours"
            )

    def _reserve(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            raise UserError(
                f"--workdir={self.path} is in use by another run: wait for its end, or "
                "give another workdir"
            ) from None

    def check(self, config: ConfigDict) -> None:
        """Refuses a path that cannot be this config's folder.

        Raises:
          UserError: it, or what it would lie in, is a file.
          OtherRun: it holds a run of another config; names the fields.
        """
        there = next(p for p in (self.path, *self.path.parents) if p.exists())
        if not there.is_dir():
            within = "" if there == self.path else f": {there}"
            raise UserError(f"--workdir={self.path}{within} is a file; give a folder")
        if not self.config.exists() or not self.has_checkpoints():
            return  # what never saved a checkpoint may begin again, differently
        theirs, ours = self.read_config(), flatten(config)
        differing = [
            f"config.{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here"
            for name in {**theirs, **ours}
            if not (_free(name) or _same(name, theirs.get(name), ours.get(name)))
        ]
        if differing:
            raise OtherRun(
                f"--workdir={self.path} holds a run of another config: "
                f"{'; '.join(differing)}",
                "Give another workdir, or that config" + self._longer(theirs, ours),
                epochs_differ=theirs["train.epochs"] != ours["train.epochs"],
            )

    def _longer(self, theirs: dict, ours: dict) -> str:
        """The way to more epochs, where those are what is asked for."""
        if theirs["train.epochs"] == ours["train.epochs"]:
            return ""
        return (
            "; to train its weights for more epochs, give another workdir and "
            f"--config.init_from={self.path}"
        )

    def check_data(self, splits: Splits) -> None:
        """Refuses data that are not those of the run that the folder holds.

        Raises:
          UserError: names what differs; a user's folder may have changed meanwhile.
        """
        if not self.data.exists() or not self.has_checkpoints():
            return
        theirs = _read_json(self.data)
        differing = [
            f"{name} were {short(theirs.get(name))} and are {short(value)} now"
            for name, value in splits.identity.items()
            if theirs.get(name) != value
        ]
        if not differing and not _alike(self.statistics(splits), splits.statistics):
            differing = [
                f"{STATISTICS} were {theirs.get(STATISTICS)} and are "
                f"{splits.summary[STATISTICS]} now"
            ]
        if differing:
            raise UserError(
                f"--workdir={self.path} holds a run of other data: "
                f"{'; '.join(differing)}. Restore them, or give another workdir"
            )

    def statistics(self, splits: Splits) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation float32 `[C]` that the run's images are normalized with.

        Those of its start, once it has saved a checkpoint: another version of a decoder
        may round another way.
        """
        if not self.data.exists() or not self.has_checkpoints():
            return splits.statistics
        stored = _read_json(self.data).get(STATISTICS)
        try:
            mean, std = np.asarray(stored, np.float32).reshape(2, splits.channels)
        except (TypeError, ValueError):
            raise UserError(
                f"{self.data} has no {STATISTICS} of {splits.channels} channels: "
                "restore it, or give another workdir"
            ) from None
        return mean, std

    def has_checkpoints(self) -> bool:
        """Whether a run got as far as saving one."""
        return any(path.name.isdigit() for path in self.checkpoints.glob("*"))

    def read_config(self) -> dict:
        """The stored config, flat; what it does not have yet is at its default."""
        defaults = {name: field.default for name, field in FIELDS.items()}
        return defaults | flatten(_read_json(self.config))

    def read_model(self) -> dict:
        """The arguments of `create_model`, and `channels`."""
        return _read_json(self.model)

    def read_classes(self) -> list[str] | None:
        """The class names in the order of the logits; None if it has none yet."""
        return _read_json(self.data).get("classes") if self.data.exists() else None

    def create(self, config: ConfigDict, model: dict) -> None:
        """Makes the folder with what describes the run, but for its data.

        Raises:
          UserError: another run has made it meanwhile, or hosts do not share it.
        """
        with self._hosts.leader_first():
            if self._hosts.lead:
                self.path.mkdir(parents=True, exist_ok=True)
                self._reserve()
                whole = unflatten(located(flatten(config)))
                _write_json(self.config, whole.to_dict())
                _write_json(self.model, model)
        if not _appears(self.config):
            raise UserError(
                f"--workdir={self.path} of host 0 is not to be seen on host "
                f"{self._hosts.number}: give a folder that all hosts share"
            )

    def describe_data(self, splits: Splits) -> None:
        """Adds what describes the data, which are looked at, unless it is known."""
        known = self.data.exists() and self.has_checkpoints()
        if self._hosts.lead and not known:
            _write_json(self.data, splits.summary)


def located(flat: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """A flat config whose paths are absolute, so that it says the same anywhere."""
    return {
        name: str(expanded(value).absolute()) if value and _is_path(name) else value
        for name, value in flat.items()
    }


def _is_path(name: str) -> bool:
    return name in FIELDS and FIELDS[name].rule is PATH


def _same(name: str, theirs: typing.Any, ours: typing.Any) -> bool:
    """Whether two values of a field mean the same.

    The same relative path does, on another machine or from another folder too.
    """
    if not (_is_path(name) and theirs and ours):
        return theirs == ours
    theirs, ours = expanded(theirs), expanded(ours)
    if theirs.absolute() == ours.absolute():
        return True
    return not ours.is_absolute() and theirs.parts[-len(ours.parts) :] == ours.parts


def _alike(theirs: Sequence[np.ndarray], ours: Sequence[np.ndarray]) -> bool:
    """Whether mean and deviation are those of the same pixels, but for rounding."""
    return bool(np.allclose(theirs, ours, rtol=0, atol=LEVELS))


def _appears(path: Path) -> bool:
    """Whether a file of another host is there, soon: network folders take a while."""
    for _ in range(20):
        if path.exists():
            return True
        time.sleep(0.5)
    return False


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a reader, or a crash, never meets half of it."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def _write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # Bytes of a file's name that are not UTF-8, as JSON writes them and reads them.
    text = re.sub("[\ud800-\udfff]", lambda byte: f"\\u{ord(byte[0]):x}", text)
    write_whole(path, text + "\n")


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no fields")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): restore it, or give another workdir"
        ) from None
    return content


def _free(name: str) -> bool:
    return name in FIELDS and FIELDS[name].free
