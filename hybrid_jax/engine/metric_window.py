"""Training between two evaluations, with metrics that are read one window behind.

Reading a metric waits for the device. So what a window of steps summed up is read when
the next steps are on their way: while the host divides, prints and writes, the device
has work.
"""

import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np

from hybrid_jax.engine.programs import Trainer
from hybrid_jax.training import metrics
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task


@dataclasses.dataclass
class Window:
    """Steps `first` to `last` of a line of metrics, and what the device sums up.

    Attributes:
      earlier: sums of steps before `first`, dispatched before the run was interrupted.
    """

    first: int
    last: int
    earlier: dict[str, float] = dataclasses.field(default_factory=dict)
    sums: list[metrics.Sums] = dataclasses.field(default_factory=list)

    @property
    def parts(self) -> list[metrics.Sums]:
        """All sums of the line."""
        return [self.earlier, *self.sums] if self.earlier else self.sums

    def first_bad(self) -> int:
        """The first step, counted from 1, whose loss is not finite."""
        rows = jax.device_get(self.sums)
        images, losses = (
            np.concatenate([np.atleast_1d(part[name]) for part in rows])
            for name in ("images", "loss")
        )
        finite = np.isfinite(losses[images > 0])  # a chunk may be filled in part
        return self.first + 1 + int(np.argmin(finite))


class Windows:
    """Dispatches windows of steps; each is read behind a dispatch of the next.

    Attributes:
      state: behind the last step that was dispatched, to be computed.
      step: that one.
    """

    def __init__(
        self,
        task: Task,
        trainer: Trainer,
        state: TrainState,
        step: int,
        earlier: dict[str, float],
        agreed: Callable[[int], int],
        dispatched: Callable[[int], None],
        read: Callable[[Window, dict[str, float], float], None],
    ):
        """Begins behind a step.

        Args:
          task, trainer: what is dispatched.
          state: after `step`, to be used up.
          step: 0, or a checkpoint's.
          earlier: sums of the window that `step` lies in, or empty.
          agreed: from how many steps this host would dispatch to how many all do; may
            raise, and nothing is lost.
          dispatched: told the step after one.
          read: told a window, its means and its seconds.
        """
        self.state, self.step = state, step
        self._task, self._trainer, self._earlier = task, trainer, earlier
        self._agreed, self._dispatched, self._read = agreed, dispatched, read
        self._window: Window | None = None
        self._behind: Window | None = None

    def start(self) -> None:
        """Begins to measure time; the device has nothing to do."""
        self._trainer.pace.restart()
        self._since = time.perf_counter()

    def advance(self, last: int) -> None:
        """Dispatches the steps up to `last`, which are a window, or the rest of one."""
        window, pace = Window(self.step, last, self._earlier), self._trainer.pace
        self._window, self._earlier = window, {}
        while self.step < last:
            count = self._agreed(self._trainer.count(self.step, last))
            state, sums = self._trainer(self._task, self.state, self.step, count)
            window.sums.append(sums)
            self.state, self.step = state, self.step + count
            pace.sent(count, sums)  # by now the window before is complete
            self._dispatched(self.step)
            self.finish()
        self._window, self._behind = None, window

    def unfinished(self) -> dict[str, float]:
        """Sums of the window that is dispatched in part; empty if none is."""
        return metrics.total(*self._window.parts) if self._window else {}

    def finish(self) -> None:
        """Reads the window that is still to be read, if any, and waits for it."""
        if self._behind is None:
            return
        window, self._behind = self._behind, None
        means, now = metrics.means(*window.parts), time.perf_counter()
        seconds, self._since = now - self._since, now
        self._read(window, means, seconds)
