"""Images that a run has seen in training, among those that it is judged on."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.errors import UserError, plural

# What each split of a run has done to the run.
ROLES = {"train": "trained on", "validation": "used to choose the checkpoint"}


def seen_notes(
    paths: Sequence[Path], config: DataConfig, load_splits: Callable[[], data.Splits]
) -> tuple[str, ...]:
    """Count files that are in a run's own splits, under any name.

    Only files of equal bytes are found, and only while the run's folder is there.

    Args:
      paths: files of labeled images.
      config: data config of the run.
      load_splits: returns the run's splits; called if they are in files.

    Returns:
      A note for each split that holds some of the files.
    """
    if config.name != "folder":
        return ()
    counts = {}
    # The folder is gone, has changed, or cannot be read.
    with contextlib.suppress(UserError, OSError):
        splits = load_splits()
        for name in ROLES:
            if name in splits:
                own = map(Path, splits[name].names)
                counts[name] = count_copies(paths, own)
    return tuple(
        f"{plural(count, 'image')} of {len(paths):,} "
        f"{'was' if count == 1 else 'were'} {ROLES[name]}: new images would do worse"
        for name, count in counts.items()
        if count
    )


def count_copies(paths: Iterable[Path], others: Iterable[Path]) -> int:
    """Count files whose bytes are those of another list's file."""
    by_size: dict[int, list[Path]] = {}
    for path in others:
        by_size.setdefault(_size(path), []).append(path)
    suspects = [path for path in paths if _size(path) in by_size]
    known = {
        _digest(path) for size in set(map(_size, suspects)) for path in by_size[size]
    }
    return sum(_digest(path) in known for path in suspects)


def _size(path: Path) -> int:
    return path.stat().st_size


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
