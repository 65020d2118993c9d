"""The prediction of a network for one image file."""

from typing import NamedTuple

import numpy as np


class Prediction(NamedTuple):
    """The prediction of a network for one image file.

    Attributes:
      path: path of the file.
      probabilities: float32 `[classes]`; None if the file cannot be read.
      error: why the file cannot be read; empty if it can.
      differences: how the image differs from the run's images, in words: `in color
        turned to gray, ...`.
    """

    path: str
    probabilities: np.ndarray | None
    error: str = ""
    differences: tuple[str, ...] = ()
