"""Describe a run's data for its data.json, read that file, and compare it with data.

In the older layout, data.json did not say how images are decoded, and the split that
chose the best weights was called the test split.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import Splits
from hybrid_jax.data.pixel_format import PixelFormat
from hybrid_jax.errors import UserError, elide, first_line
from hybrid_jax.json_files import read_json
from hybrid_jax.weights.files import check_class_names

# Names of entries; the last has the number of groups of each split that has some.
STATISTICS, PIXELS, GROUPS = "mean and deviation", "pixels", "groups"
CLASSES = "classes"
LEVELS = 1.0  # most by which these may differ, of 255; decoders differ by far less


def is_described(stored: dict[str, Any]) -> bool:
    """Return whether a description has all entries that this version writes."""
    return PIXELS in stored


def described(splits: Splits, known: dict[str, Any]) -> dict[str, Any]:
    """Return the description of splits; a known mean and deviation stay."""
    kept = {name: known[name] for name in (STATISTICS,) if name in known}
    groups = {
        name: len(np.unique(split.groups))
        for name, split in splits.items()
        if split.groups is not None
    }
    return (
        splits.summary
        | {PIXELS: splits.form.to_json()}
        | ({GROUPS: groups} if groups else {})
        | kept
    )


def read_statistics(path: Path, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Read mean and deviation float32 `[C]`, levels 0 to 255.

    Raises:
      UserError: none are stored for so many channels.
    """
    with _restored(path, f"has no {STATISTICS} of {channels} channels"):
        stored = np.asarray(read_json(path)[STATISTICS], np.float32)
        if not np.isfinite(stored).all():
            raise ValueError("some are not finite")
        mean, std = stored.reshape(2, channels)
    return mean, std


def read_classes(path: Path, outputs: int) -> tuple[str, ...]:
    """Read the class names in the order of a network's logits.

    Raises:
      UserError: there is not one name for each of so many logits.
    """
    with _restored(path, "does not name the classes of the network"):
        return check_class_names(read_json(path)[CLASSES], outputs)


def read_form(path: Path, config: DataConfig) -> PixelFormat:
    """Read the pixel format; in the older layout, the bit depth is unknown.

    Args:
      path: of data.json.
      config: data config of the run.

    Raises:
      UserError: the entries do not describe a format.
    """
    with _restored(path, "does not say how images are decoded"):
        return _form(read_json(path), config)


@contextlib.contextmanager
def _restored(path: Path, lacks: str) -> Iterator[None]:
    """Ask to restore a file whose entries have wrong types or values.

    Raises:
      UserError: what the file lacks.
    """
    try:
        yield
    except UserError:  # it says itself what the file lacks
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} {lacks} ({first_line(error)}): restore it, or give another workdir"
        ) from None


def _form(stored: dict[str, Any], config: DataConfig) -> PixelFormat:
    if is_described(stored):
        return PixelFormat.from_json(stored[PIXELS])
    height, width, channels = stored["height, width and channels"]
    return PixelFormat.from_json(
        {
            "size": [height, width],
            "channels": channels,
            "bits": 0,
            "fit": config.fit,
            "background": config.background,
        }
    )


def differences(
    stored: dict[str, Any],
    splits: Splits,
    statistics: Callable[[Splits], Sequence[np.ndarray]],
) -> list[str]:
    """Return lines of text that say how splits differ from the stored description.

    Args:
      stored: entries of data.json.
      splits: the splits as they are now.
      statistics: returns mean and deviation that the run uses; not called if the
        splits differ otherwise, such as in their channels.
    """
    theirs, names = dict(stored), {*splits.identity}
    if not is_described(stored):
        if splits.validation is not None:
            theirs["validation images"] = theirs.pop("test images", None)
            for name in ("labels", "files"):  # checksums over another test split
                theirs.pop(name, None)
        names = names & theirs.keys()
    differing = [
        f"{name} were {elide(theirs.get(name))} and are {elide(value)} now"
        for name, value in splits.identity.items()
        if name in names and theirs.get(name) != value
    ]
    if differing or np.allclose(
        statistics(splits), splits.statistics, rtol=0, atol=LEVELS
    ):
        return differing
    return [
        f"{STATISTICS} were {theirs.get(STATISTICS)} and are "
        f"{splits.summary[STATISTICS]} now"
    ]
