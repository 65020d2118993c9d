"""Storage of a run without a folder: states and metrics stay in memory.

Each class implements an interface of `storage`; `RunFolder` and `CheckpointWriter`
implement them on disk.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from hybrid_jax import data
from hybrid_jax.checkpoints.reader import best_checkpoint
from hybrid_jax.config.schema import Config
from hybrid_jax.data import Splits
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.state import TrainState


class InMemoryStorage:
    """A `RunStorage` that is empty before the run, and stores nothing."""

    path: Path | None = None
    log: Path | None = None

    def __enter__(self) -> "InMemoryStorage":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def resume(self, config: Config) -> tuple[Config, list[str]]:
        """Return the config unchanged, and no notes."""
        return config, []

    def own_dtype(self, config: Config) -> Config:
        """Return the config unchanged."""
        return config

    def has_checkpoints(self) -> bool:
        """Return False: no run was saved here."""
        return False

    def load_splits(self, config: Config) -> tuple[Config, Splits]:
        """Return the config unchanged, and its data set."""
        return config, data.load(config.data)

    def check_data(self, splits: Splits) -> None:
        """Accept any data."""

    def statistics(self, splits: Splits) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation float32 `[C]` of the training images."""
        return splits.statistics

    def create(self, config: Config, model: dict, micro_batches: int = 0) -> None:
        """Store nothing."""

    def write_data(self, splits: Splits) -> None:
        """Store nothing."""

    def write_environment(self, peak_memory: str = "") -> None:
        """Store nothing."""

    def read_micro_batches(self) -> int:
        """Return 0: no micro-batches were found to fit."""
        return 0

    def read_history(self) -> list[dict]:
        """Return no rows: the `MemoryWriter` has them."""
        return []

    def read_results(self) -> dict | None:
        """Return None: no run has ended here."""
        return None

    def write_results(self, results: dict) -> None:
        """Store nothing."""


class InMemoryCheckpoints:
    """A `CheckpointStore` that keeps the newest and the best state as NumPy arrays.

    Attributes:
      notes: none, since no checkpoint can be damaged.
      persistent: whether the checkpoints outlive the process.
    """

    notes: tuple[str, ...] = ()
    persistent = False

    def __init__(self) -> None:
        self._states: dict[int, TrainState] = {}
        self._metrics: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> "InMemoryCheckpoints":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def latest(self) -> int | None:
        """Return the newest step, or None."""
        return max(self._metrics, default=None)

    def metrics(self, step: int) -> dict[str, Any]:
        """Return the metrics of a step, and what else was saved beside its state."""
        return self._metrics[step]

    def best(self) -> tuple[int, dict[str, Any]] | None:
        """Return the step of the best checkpoint, and its metrics, or None."""
        return best_checkpoint(self._metrics)

    def save(self, step: int, state: TrainState, metrics: dict[str, Any]) -> None:
        """Store a step; drop all earlier steps but the best."""
        self._metrics[step] = self._metrics.get(step, {}) | metrics
        if step not in self._states:
            self._states[step] = jax.device_get(state)
        best = self.best()
        for old in {*self._states} - {step, best[0] if best else step}:
            del self._states[old], self._metrics[old]

    def restore(self, step: int, like: TrainState, devices: Devices) -> TrainState:
        """Return the training state of a step, on the devices."""
        return devices.put(self._states[step], like)

    def load_variables(self, step: int) -> dict[str, Any]:
        """Return the variables for evaluating a step: moving averages, if any."""
        return unpack(self._states[step].evaluated)

    def wait(self) -> None:
        """Return at once: nothing is being written."""

    def preemption_announced(self) -> bool:
        """Return False: nothing could be saved before the end of the host."""
        return False
