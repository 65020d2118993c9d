"""Write rows of metrics: lines of JSON, and TensorBoard's event files."""

import json
import math
import sys
from pathlib import Path

import numpy as np

from hybrid_jax.errors import escape
from hybrid_jax.json_files import write_whole
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.training.metrics import scalars

ABOUT = ("split", "step", "epoch", "weights")  # in a row, besides its metrics
LINE_LEVEL = 128  # of the lines between the images of a grid


class MemoryWriter:
    """A writer that keeps rows of metrics in a list, for a run without a folder.

    Attributes:
      rows: dicts, equal to the lines of `metrics.jsonl`.
    """

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def __enter__(self) -> "MemoryWriter":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rewind(self, step: int, evaluated: bool) -> None:
        """Drop the rows after a step; see `is_beyond`."""
        self.rows = [r for r in self.rows if not is_beyond(r, step, evaluated)]

    def write(self, row: dict) -> None:
        """Add a row."""
        self.rows.append(row)

    def images(self, name: str, grid: np.ndarray, step: int) -> None:
        """Ignore a picture."""

    def hyperparameters(self, config: dict, results: dict[str, float]) -> None:
        """Ignore what only TensorBoard shows."""


def _summary_writer() -> type:
    """Return the class of tensorboardX that writes event files.

    tensorboardX imports PyTorch if that is installed, only to know its tensors. That
    takes two seconds and 160 MB, so it does not find PyTorch here.
    """
    if "torch" in sys.modules:
        from tensorboardX import SummaryWriter
    else:
        sys.modules["torch"] = None  # type: ignore[assignment]
        try:
            from tensorboardX import SummaryWriter
        finally:
            del sys.modules["torch"]
    return SummaryWriter


class Writers:
    """A writer of metrics to JSON lines and TensorBoard; a context closes its files."""

    def __init__(self, workdir: RunFolder, step: int, evaluated: bool = True):
        """Continue after a step; drop what an interrupted run wrote after it.

        Args:
          workdir: folder of the run.
          step: the last step whose rows are kept.
          evaluated: whether the row of its evaluation is kept too.
        """
        self._workdir, self._opened, self._closed = workdir, 0, False
        self._open(step, evaluated)

    def _open(self, step: int, evaluated: bool) -> None:
        drop_later(self._workdir.metrics, step, evaluated)
        self._events = _summary_writer()(
            str(self._workdir.tensorboard),
            purge_step=step + 1,
            # Without a suffix, files of the same second have the same name.
            filename_suffix=f".{step}.{self._opened}",
        )
        self._opened, self._closed = self._opened + 1, False

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._events.close()

    def rewind(self, step: int, evaluated: bool) -> None:
        """Drop what was written after a step, and continue from there."""
        self.__exit__()
        self._open(step, evaluated)

    def write(self, row: dict) -> None:
        """Write a line of JSON, and a scalar `split/name` for each single number.

        Args:
          row: `split`, `step` and `epoch`, and metrics by name.
        """
        # Close the file each time: a mounted bucket saves no line before that.
        with self._workdir.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in scalars(row).items():
            if name not in ABOUT:
                tag = f"{row['split']}/{name}"
                self._events.add_scalar(tag, value, row["step"])
        self._events.flush()

    def images(self, name: str, grid: np.ndarray, step: int) -> None:
        """Write a picture, uint8 `[H, W, C]`, unless an interrupt has closed the files.

        tensorboardX would open another file, and TensorBoard then drop all curves.
        """
        if self._closed:
            return
        self._events.add_image(name, grid, step, dataformats="HWC")

    def hyperparameters(self, config: dict, results: dict[str, float]) -> None:
        """Write config and final results for the HPARAMS tab of TensorBoard."""
        values = {
            name: value if isinstance(value, (bool, int, float)) else escape(str(value))
            for name, value in config.items()
        }
        self._events.add_hparams(values, scalars(results), name="hparams")


def drop_later(path: Path, step: int, evaluated: bool = True) -> None:
    """Remove the rows after a step from a JSONL file, and lines that are damaged.

    See `is_beyond`.
    """
    if not path.exists():
        return
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if is_beyond(json.loads(line), step, evaluated):
                continue
        except (ValueError, KeyError, TypeError):
            continue
        lines.append(f"{line}\n")
    write_whole(path, "".join(lines))


def is_beyond(row: dict, step: int, evaluated: bool) -> bool:
    """Return whether a row of metrics is after a step and will be written again.

    The row of the final test always is. The row of the step's own validation is, unless
    the step is `evaluated`.
    """
    is_validation = row["step"] == step and row["split"] == "validation"
    return row["step"] > step or (is_validation and not evaluated) or "weights" in row


def image_grid(images: np.ndarray) -> np.ndarray:
    """Arrange images `[N, H, W, C]`, values 0 to 255, in rows of one uint8 picture.

    The lines between them are of a gray that neither dark nor bright images have.
    """
    images = np.clip(images, 0, 255).astype(np.uint8)
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    shape = rows, columns, height + 2, width + 2, channels
    grid = np.full(shape, LINE_LEVEL, np.uint8)
    for i, image in enumerate(images):
        grid[i // columns, i % columns, 1:-1, 1:-1] = image
    return grid.swapaxes(1, 2).reshape(
        rows * (height + 2), columns * (width + 2), channels
    )
