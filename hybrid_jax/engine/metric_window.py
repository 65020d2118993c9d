"""Train between two evaluations, with metrics that are read one window late.

Reading a metric waits for the device. So the sums of a window of steps are read after
the next steps are dispatched: while the host divides, prints and writes, the device has
work.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hybrid_jax.programs.programs import Trainer
from hybrid_jax.training import metrics
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task


@dataclasses.dataclass
class Window:
    """The steps of one line of metrics, with the sums of their metrics.

    Attributes:
      first, last: the steps, counted from 0, are `first` to `last - 1`.
      earlier: sums of steps before `first`, dispatched before the run was interrupted.
      sums: sums of each dispatch.
    """

    first: int
    last: int
    earlier: dict[str, Any] = dataclasses.field(default_factory=dict)
    sums: list[metrics.Sums] = dataclasses.field(default_factory=list)

    @property
    def parts(self) -> list[dict[str, Any]]:
        """Return all sums of the window, the earlier ones first."""
        return [self.earlier, *self.sums] if self.earlier else [*self.sums]

    def first_bad(self) -> int:
        """Return the first step, counted from 1, whose loss is not finite."""
        rows = jax.device_get(self.sums)
        images, losses = (
            np.concatenate([np.atleast_1d(part[name]) for part in rows])
            for name in (metrics.IMAGES, "loss")
        )
        finite = np.isfinite(losses[images > 0])  # a chunk may be partly empty
        return self.first + 1 + int(np.argmin(finite))


class Windows:
    """A dispatcher of windows of steps; it reads each after dispatching the next.

    Attributes:
      state: state after the last dispatched step, which may not be computed yet.
      step: number of steps that were dispatched.
    """

    def __init__(
        self,
        task: Task,
        trainer: Trainer,
        state: TrainState,
        step: int,
        earlier: dict[str, Any],
        agreed: Callable[[int], int],
        dispatched: Callable[[int], None],
        read: Callable[[Window, dict[str, Any], float], None],
    ):
        """Begin after a step.

        Args:
          task: the constants of the steps.
          trainer: dispatches steps.
          state: state after `step`; its buffers are donated.
          step: 0, or a checkpoint's step.
          earlier: sums of the window that `step` lies in, or empty.
          agreed: takes the number of steps that this host would dispatch, and returns
            the number that all hosts dispatch. If it raises, no state is lost.
          dispatched: called with `step` after each dispatch.
          read: called with a window, its metrics and its seconds.
        """
        self.state, self.step = state, step
        self._task, self._trainer, self._earlier = task, trainer, earlier
        self._agreed, self._dispatched, self._read = agreed, dispatched, read
        self._current: Window | None = None
        self._unread: Window | None = None

    def start(self) -> None:
        """Begin to measure time, while the device is idle."""
        self._trainer.pace.restart()
        self._since = time.perf_counter()

    def advance(self, last: int) -> None:
        """Dispatch the steps up to `last`: a window, or the rest of one."""
        window, pace = Window(self.step, last, self._earlier), self._trainer.pace
        self._current, self._earlier = window, {}
        while self.step < last:
            count = self._agreed(self._trainer.count(self.step, last))
            state, sums = self._trainer(self._task, self.state, self.step, count)
            window.sums.append(sums)
            self.state, self.step = state, self.step + count
            pace.sent(count, sums)  # waits until the window before is complete
            self._dispatched(self.step)
            self.finish()
        self._current, self._unread = None, window

    def unfinished(self) -> dict[str, Any]:
        """Return the sums of a partly dispatched window; empty if there is none."""
        return metrics.total(*self._current.parts) if self._current else {}

    def finish(self) -> None:
        """Wait for the last window and read it, unless it was read."""
        if self._unread is None:
            return
        window, self._unread = self._unread, None
        means, now = metrics.means(*window.parts), time.perf_counter()
        seconds, self._since = now - self._since, now
        self._read(window, means, seconds)
