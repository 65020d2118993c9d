"""Training between two evaluations, with metrics that are read one window behind.

Reading a metric waits for the device. So what a window of steps summed up is read when
the next steps are on their way: while the host divides, prints and writes, the device
has work.
"""

import dataclasses
import time
from collections.abc import Callable

from hybrid_jax.training import metrics
from hybrid_jax.training.programs import Trainer
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task


@dataclasses.dataclass
class Window:
    """Steps `first` to `last` of a line of metrics, and what the device sums up."""

    first: int
    last: int
    sums: list[metrics.Sums] = dataclasses.field(default_factory=list)


class Windows:
    """Dispatches windows of steps; each is read behind a dispatch of the next."""

    def __init__(
        self,
        task: Task,
        trainer: Trainer,
        dispatched: Callable[[int], None],
        read: Callable[[Window, dict[str, float], float], None],
    ):
        """`dispatched` is told steps, `read` a window, its means and its seconds."""
        self._task, self._trainer = task, trainer
        self._dispatched, self._read = dispatched, read
        self._behind: Window | None = None

    def start(self) -> None:
        """Begins to measure time; the device has nothing to do."""
        self._trainer.pace.restart()
        self._since = time.perf_counter()

    def advance(self, state: TrainState, first: int, last: int) -> TrainState:
        """Dispatches steps `first` to `last`; the state behind them, to be computed."""
        window, step, pace = Window(first, last), first, self._trainer.pace
        while step < last:
            count = min(pace.steps, last - step)
            state, sums = self._trainer(self._task, state, step, count)
            window.sums.append(sums)
            step += count
            pace.sent(count, sums)  # by now the window before is complete
            self._dispatched(step)
            self.finish()
        self._behind = window
        return state

    def finish(self) -> None:
        """Reads the window that is still to be read, if any, and waits for it."""
        if self._behind is None:
            return
        window, self._behind = self._behind, None
        means, now = metrics.means(*window.sums), time.perf_counter()
        seconds, self._since = now - self._since, now
        self._read(window, means, seconds)
