"""A run without a folder: what would lie in its files is kept in memory.

Each class stands in the place of one that writes files, and has its interface.
"""

from pathlib import Path

import jax
import numpy as np

from hybrid_jax import data
from hybrid_jax.config.schema import Config
from hybrid_jax.data import Splits
from hybrid_jax.engine.checkpoint import best_of
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.training.state import TrainState


class NoFolder:
    """In the place of a `RunFolder`: nothing was there before, and nothing stays."""

    path: Path | None = None
    log: Path | None = None

    def __enter__(self) -> "NoFolder":
        return self

    def __exit__(self, *_) -> None:
        pass

    def resume(self, config: Config) -> tuple[Config, list[str]]:
        """The config as it is."""
        return config, []

    def has_checkpoints(self) -> bool:
        """No."""
        return False

    def load_splits(self, config: Config) -> tuple[Config, Splits]:
        """The config as it is, and its data set."""
        return config, data.load(config.data)

    def check_data(self, splits: Splits) -> None:
        """Accepts any data."""

    def statistics(self, splits: Splits) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation float32 `[C]` of the training images."""
        return splits.statistics

    def create(self, config: Config, model: dict, micro_batches: int = 0) -> None:
        """Keeps nothing."""

    def write_data(self, splits: Splits) -> None:
        """Keeps nothing."""

    def read_micro_batches(self) -> int:
        """No micro-batches were found to fit."""
        return 0

    def read_results(self) -> dict | None:
        """None: no run has ended here."""

    def write_results(self, results: dict) -> None:
        """Keeps nothing."""


class Snapshots:
    """In the place of `Checkpoints`: the newest state and the best, as NumPy arrays.

    Attributes:
      notes: in words, what was passed over: nothing.
      lasting: whether they outlive the process.
    """

    notes: tuple[str, ...] = ()
    lasting = False

    def __init__(self, hosts: Hosts | None = None):
        self.hosts = hosts or Hosts()
        self._states: dict[int, TrainState] = {}
        self._metrics: dict[int, dict] = {}

    def __enter__(self) -> "Snapshots":
        return self

    def __exit__(self, *_) -> None:
        pass

    def latest(self) -> int | None:
        """The newest step, or None."""
        return max(self._metrics, default=None)

    def metrics(self, step: int) -> dict:
        """What was kept with a step, and of it."""
        return self._metrics[step]

    def best(self) -> tuple[int, dict] | None:
        """The step of the best validation accuracy, and its metrics."""
        return best_of(self._metrics)

    def save(self, step: int, state: TrainState, metrics: dict) -> None:
        """Keeps a step, and of those before it the best."""
        self._metrics[step] = self._metrics.get(step, {}) | metrics
        if step not in self._states:
            self._states[step] = jax.device_get(state)
        best = self.best()
        kept = {step, best[0] if best else step}
        self._states = {s: self._states[s] for s in self._states if s in kept}
        self._metrics = {s: self._metrics[s] for s in self._metrics if s in kept}

    def state(self, step: int) -> TrainState:
        """The state of a step, as NumPy arrays."""
        return self._states[step]

    def restore(self, step: int, like: TrainState, devices: Devices) -> TrainState:
        """The state of a step, on the devices."""
        return devices.put(self._states[step], like)

    def wait(self) -> None:
        """Returns: nothing is on its way."""

    def end_is_announced(self) -> bool:
        """No: nothing could be saved."""
        return False
