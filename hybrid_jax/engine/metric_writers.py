"""What a run leaves to be read: lines of JSON, and TensorBoard's event files."""

import json
import math
from pathlib import Path

import numpy as np

from hybrid_jax.engine.json_files import write_whole
from hybrid_jax.engine.run_folder import RunFolder
from hybrid_jax.errors import shown

ABOUT = ("split", "step", "epoch", "weights")  # what a row says beside its metrics


class MemoryWriter:
    """Metrics in a list, of a run without a folder.

    Attributes:
      rows: as the lines of `metrics.jsonl`.
    """

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def __enter__(self) -> "MemoryWriter":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rewind(self, step: int, evaluated: bool) -> None:
        """Drops what was kept beyond a step; see `is_beyond`."""
        self.rows = [r for r in self.rows if not is_beyond(r, step, evaluated)]

    def write(self, row: dict) -> None:
        """Keeps a row."""
        self.rows.append(row)

    def images(self, name: str, grid: np.ndarray, step: int) -> None:
        """Drops a picture."""

    def hyperparameters(self, config: dict, results: dict[str, float]) -> None:
        """Drops what only files are for."""


class Writers:
    """Metrics by split and step; a context manager that closes its files."""

    def __init__(self, workdir: RunFolder, step: int, evaluated: bool = True):
        """Continues after `step`; drops what an interrupted run wrote beyond it.

        If the step is still to be `evaluated`, its evaluation is dropped too.
        """
        self._workdir, self._opened = workdir, 0
        self._open(step, evaluated)

    def _open(self, step: int, evaluated: bool) -> None:
        # It imports PyTorch where that is installed, which takes a second.
        from tensorboardX import SummaryWriter

        drop_later(self._workdir.metrics, step, evaluated)
        self._events = SummaryWriter(
            str(self._workdir.tensorboard),
            purge_step=step + 1,
            # Names are else unique to the second only.
            filename_suffix=f".{step}.{self._opened}",
        )
        self._opened += 1

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()

    def rewind(self, step: int, evaluated: bool) -> None:
        """Drops what was written beyond a step, and goes on from there."""
        self.__exit__()
        self._open(step, evaluated)

    def write(self, row: dict) -> None:
        """Writes a line of JSON, and a scalar `split/name` for each metric.

        Args:
          row: `split`, `step` and `epoch`, and metrics by name.
        """
        # Closed, since folders that are mounted from a bucket keep no line before.
        with self._workdir.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if name not in ABOUT:
                tag = f"{row['split']}/{name}"
                self._events.add_scalar(tag, value, row["step"])
        self._events.flush()

    def images(self, name: str, grid: np.ndarray, step: int) -> None:
        """A picture, uint8 `[H, W, C]`."""
        self._events.add_image(name, grid, step, dataformats="HWC")

    def hyperparameters(self, config: dict, results: dict[str, float]) -> None:
        """The flat config and the final results, for TensorBoard's HPARAMS tab."""
        values = {
            name: value if isinstance(value, (bool, int, float)) else shown(str(value))
            for name, value in config.items()
        }
        self._events.add_hparams(values, results, name="hparams")


def drop_later(path: Path, step: int, evaluated: bool = True) -> None:
    """Removes the lines of a JSONL file that lie beyond a step, and a torn last line.

    See `is_beyond`.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if is_beyond(json.loads(line), step, evaluated):
                continue
        except (ValueError, KeyError, TypeError):
            continue
        kept.append(line)
    write_whole(path, "".join(kept))


def is_beyond(row: dict, step: int, evaluated: bool) -> bool:
    """Whether a row of metrics is from behind a step, and will be written again.

    So is the row of the last test, and that of the step's own evaluation, unless it is
    known to be `evaluated`.
    """
    own = row["step"] == step and row["split"] == "validation" and not evaluated
    return row["step"] > step or own or "weights" in row


def image_grid(images: np.ndarray, most: int = 64) -> np.ndarray:
    """Images `[N, H, W, C]` of levels 0 to 255 as one uint8 picture, in rows."""
    images = np.clip(images[:most], 0, 255).astype(np.uint8)
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    grid = np.zeros((rows, columns, height + 2, width + 2, channels), np.uint8)
    for i, image in enumerate(images):
        grid[i // columns, i % columns, 1:-1, 1:-1] = image
    return grid.swapaxes(1, 2).reshape(
        rows * (height + 2), columns * (width + 2), channels
    )
