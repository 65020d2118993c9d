"""Every line of metrics of a run: to its files, and to the caller's functions."""

import dataclasses
from collections.abc import Callable, Sequence

from hybrid_jax.engine.storage import MetricWriter

# Is handed each row of metrics; what returns True ends the run after the row's
# evaluation.
Callback = Callable[[dict], bool | None]


@dataclasses.dataclass
class Recorder:
    """Hands rows of metrics on.

    Attributes:
      writer: keeps them.
      callbacks: are told them, in this order.
      stops: whether one of them has asked for the end of the run.
    """

    writer: MetricWriter
    callbacks: Sequence[Callback] = ()
    stops: bool = False

    def record(
        self, split: str, step: int, epoch: float, values: dict, **about: str
    ) -> None:
        """Records the metrics of a split behind a step.

        Args:
          split: `train`, `validation` or `test`.
          step: counted from 1.
          epoch: passes over the training split.
          values: metrics by name.
          about: further entries of the row that are no metrics.
        """
        row = {"split": split, "step": step, "epoch": round(epoch, 4)} | about | values
        self.writer.write(row)
        for callback in self.callbacks:
            self.stops |= callback(dict(row)) is True
