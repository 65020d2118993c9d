"""Images that a network was trained on, among those that it is judged on.

digests.npz in a run's folder holds a digest of each image, uint64 `[N]`, by split, and
`earlier`, those of the images that the runs were trained on from whose weights it
began. So copies are found under any name, and after the images have moved or changed.
"""

import contextlib
import functools
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from hybrid_jax import data
from hybrid_jax.data.image_io import Unreadable
from hybrid_jax.errors import UserError, first_line, plural
from hybrid_jax.paths import expand_user, replacing

FILE = "digests.npz"
EARLIER = "earlier"
# What images have done to a run, by their key in the file.
ROLES = {
    "train": "trained on",
    "validation": "used to choose the checkpoint",
    EARLIER: "trained on by a run whose weights it began from",
}
BLOCK = 256  # images read at once
NO_DIGEST = 0  # of an image that cannot be read

Digests = Mapping[str, np.ndarray]  # by key of `ROLES`


def keep(folder: Path, splits: data.Splits, init_from: str) -> None:
    """Write the digests of a run's images into its folder.

    Args:
      folder: the run's folder.
      splits: its images.
      init_from: value of `config.init_from`.
    """
    arrays = {name: compute_digests(split) for name, split in splits.items()}
    with contextlib.suppress(UserError):  # `notes_on_start` has told of it
        if seen := _of_source(init_from):
            trained_on = [seen[name] for name in ("train", EARLIER) if name in seen]
            arrays[EARLIER] = np.unique(np.concatenate(trained_on))
    with replacing(folder / FILE) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def notes_on_start(splits: data.Splits, init_from: str) -> Iterator[str]:
    """Yield what a run's first weights know of the images that it is judged on.

    Args:
      splits: images of the new run.
      init_from: value of `config.init_from`.
    """
    try:
        seen = _of_source(init_from)
    except UserError as error:
        yield f"Images that {init_from} was trained on may judge this run: {error}"
        return
    for name, split in splits.items():
        # Validation images may choose checkpoints twice.
        roles = {"validation": ("train", EARLIER), "test": tuple(ROLES)}.get(name, ())
        known = [seen[role] for role in roles if role in seen]
        count = _count(compute_digests(split), known) if known else 0
        if count:
            yield (
                f"{count:,} of the {len(split):,} {name} images have served to train "
                f"{init_from}: new images would do worse"
            )


def notes_on_given(
    given: data.Split,
    workdir: Path | None,
    is_of_files: bool,
    load_splits: Callable[[], data.Splits],
) -> tuple[str, ...]:
    """Return a note for each role that some of the given images have had in a run.

    Args:
      given: labeled images to judge the run by.
      workdir: the run's folder; None without one.
      is_of_files: whether the run was trained on files of the user's own.
      load_splits: returns the run's splits, for runs that keep no digests.
    """
    seen: Digests = {}
    try:
        seen = _read(workdir) if workdir else {}
    except UserError as unknown:
        if is_of_files:
            try:
                splits = load_splits()
                seen = {n: compute_digests(splits[n]) for n in ROLES if n in splits}
            except (UserError, OSError):  # they are gone, or have changed
                return (f"These images may have served to train the run: {unknown}",)
    digests = compute_digests(given) if seen else np.zeros(0, np.uint64)
    counts = {role: _count(digests, [seen[role]]) for role in ROLES if role in seen}
    return tuple(
        f"{plural(count, 'image')} of {len(given):,} "
        f"{'was' if count == 1 else 'were'} {ROLES[role]}: new images would do worse"
        for role, count in counts.items()
        if count
    )


def compute_digests(split: data.Split) -> np.ndarray:
    """Return a digest of each image's file or record, or else of its pixels.

    Returns:
      uint64 `[N]`; `NO_DIGEST` for an image that cannot be read.
    """
    stored, found = split.stored, list[int]()
    for start in range(0, len(split), BLOCK):
        rows = range(start, min(start + BLOCK, len(split)))
        if stored is None:
            found += [_digest(split.image(row).tobytes()) for row in rows]
        else:
            found += map(_digest, stored.records.read(stored.rows[rows].tolist()))
    return np.array(found, np.uint64)


def _digest(content: bytes | Unreadable) -> int:
    if isinstance(content, Unreadable):
        return NO_DIGEST
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def _count(digests: np.ndarray, seen: list[np.ndarray]) -> int:
    """Count the images whose digest is among some others."""
    return int(np.isin(digests[digests != NO_DIGEST], np.concatenate(seen)).sum())


def _of_source(init_from: str) -> Digests:
    """Return the digests of the run that weights are from; empty if it is a file.

    Raises:
      UserError: the run keeps none.
    """
    source = expand_user(init_from) if init_from else None
    return _read(source) if source and source.is_dir() else {}


def _read(workdir: Path) -> Digests:
    """Read the digests in the folder of a run.

    Raises:
      UserError: there are none, or they are damaged.
    """
    path = workdir / FILE
    try:
        return _load(path, os.stat(path).st_mtime_ns)
    except FileNotFoundError:
        raise UserError(
            f"{workdir} keeps no digests of its images, as it is older"
        ) from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)})") from None


@functools.lru_cache(maxsize=1)
def _load(path: Path, modified: int) -> Digests:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in ROLES if name in arrays}
