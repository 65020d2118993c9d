"""Pass each row of metrics to the files of a run and to the user's callbacks."""

import dataclasses
from collections.abc import Callable, Sequence

from hybrid_jax.runs.storage import MetricWriter

# Receives each row of metrics; returns True to end the run after the row's evaluation.
Callback = Callable[[dict], bool | None]


@dataclasses.dataclass
class Recorder:
    """A recorder of rows of metrics.

    Attributes:
      writer: stores the rows.
      callbacks: receive the rows, in this order.
      stops: whether a callback has asked for the end of the run.
    """

    writer: MetricWriter
    callbacks: Sequence[Callback] = ()
    stops: bool = False

    def record(
        self, split: str, step: int, epoch: float, values: dict, **about: str
    ) -> None:
        """Record the metrics of a split after a step.

        Args:
          split: `train`, `validation` or `test`.
          step: counted from 1.
          epoch: passes over the training split so far.
          values: metrics by name.
          **about: further entries of the row that are not metrics.
        """
        row = {"split": split, "step": step, "epoch": round(epoch, 4)} | about | values
        self.writer.write(row)
        for callback in self.callbacks:
            self.stops |= callback(dict(row)) is True
