"""Images that a network was trained on, among those that it is judged on.

digests.npz in a run's folder holds a digest of each training and validation image,
uint64 `[N]`, and `earlier`, those of the images that the runs were trained on from
whose weights it began; `unknown` names such runs that keep none. So equal files are
found under any name, and after the images have moved or changed.
"""

import contextlib
import functools
import hashlib
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from hybrid_jax import data
from hybrid_jax.data.image_io import Unreadable
from hybrid_jax.errors import UserError, first_line, listed, plural
from hybrid_jax.paths import expand_user, replacing

FILE = "digests.npz"
EARLIER, UNKNOWN = "earlier", "unknown"
# What images have done to a run, by their key in the file.
ROLES = {
    "train": "trained on",
    "validation": "used to choose the checkpoint",
    EARLIER: "trained on by a run whose weights it began from",
}
BLOCK = 256  # images read at once
NO_DIGEST = 0  # of an image that cannot be read

Digests = Mapping[str, np.ndarray]  # by key in the file


class Keeper:
    """A thread that writes the digests of a run's images into its folder."""

    def __init__(
        self, folder: Path, splits: data.Splits, known: Digests, init_from: str
    ) -> None:
        """Start the thread.

        Args:
          folder: the run's folder.
          splits: its images.
          known: digests that have been computed, by split.
          init_from: value of `config.init_from`.
        """
        self._cancelled, self._error = threading.Event(), ""
        arguments = folder, splits, known, init_from
        # A daemon, so that a process that is told to end need not wait for it.
        self._thread = threading.Thread(target=self._keep, args=arguments, daemon=True)
        self._thread.start()

    def finish(self) -> str:
        """Wait for the thread; return why there are no digests, or empty."""
        self._thread.join()
        return self._error

    def cancel(self) -> None:
        """End the thread, so that it writes nothing into the folder of a later run."""
        self._cancelled.set()
        self._thread.join()

    def _keep(
        self, folder: Path, splits: data.Splits, known: Digests, init_from: str
    ) -> None:
        try:
            arrays = _inherited(init_from)
            for name in ("train", "validation"):
                if name in splits:
                    is_known = name in known
                    arrays[name] = (
                        known[name] if is_known else self._digests(splits[name])
                    )
            if not self._cancelled.is_set():
                with replacing(folder / FILE) as scratch, scratch.open("wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]
        except Exception as error:  # the run itself is not to blame
            self._error = first_line(error)

    def _digests(self, split: data.Split) -> np.ndarray:
        return compute_digests(split, self._cancelled.is_set)


def _inherited(init_from: str) -> dict[str, np.ndarray]:
    """Return what a run knows of the runs whose weights it began from."""
    try:
        seen = _of_source(init_from)
    except UserError:
        return {UNKNOWN: np.array([init_from])}
    trained_on = [seen[name] for name in ("train", EARLIER) if name in seen]
    found = {EARLIER: np.unique(np.concatenate(trained_on))} if trained_on else {}
    return found | ({UNKNOWN: seen[UNKNOWN]} if UNKNOWN in seen else {})


def judging_digests(splits: data.Splits, init_from: str) -> dict[str, np.ndarray]:
    """Return the digests of the images that judge a run which begins from another.

    Args:
      splits: images of the new run.
      init_from: value of `config.init_from`; without a run, the result is empty.
    """
    if not (init_from and expand_user(init_from).is_dir()):
        return {}
    judging = ("validation", "test")
    return {name: compute_digests(splits[name]) for name in judging if name in splits}


def notes_on_start(judging: Digests, init_from: str) -> Iterator[str]:
    """Yield what a run's first weights know of the images that it is judged on.

    Args:
      judging: result of `judging_digests`.
      init_from: value of `config.init_from`.
    """
    try:
        seen = _of_source(init_from)
    except UserError as error:
        yield f"Images that {init_from} was trained on may judge this run: {error}"
        return
    if UNKNOWN in seen:
        yield f"Images that {_named(seen)} was trained on may judge this run"
    for name, digests in judging.items():
        # Validation images may choose checkpoints twice.
        roles = ("train", EARLIER) if name == "validation" else tuple(ROLES)
        count = _count(digests, [seen[role] for role in roles if role in seen])
        if count:
            yield (
                f"{count:,} of the {len(digests):,} {name} images have served to train "
                f"{init_from}: new images would probably do worse"
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
        with contextlib.suppress(UserError, OSError):  # gone, or changed
            splits = load_splits() if is_of_files else {}
            seen = {n: compute_digests(splits[n]) for n in ROLES if n in splits}
        if not seen and (is_of_files or (workdir and (workdir / FILE).exists())):
            return (f"These images may have served to train the run: {unknown}",)
    digests = compute_digests(given) if seen else np.zeros(0, np.uint64)
    counts = {role: _count(digests, [seen[role]]) for role in ROLES if role in seen}
    notes = [
        f"{plural(count, 'image')} of {len(given):,} "
        f"{'was' if count == 1 else 'were'} {ROLES[role]}: new images would do worse"
        for role, count in counts.items()
        if count
    ]
    if UNKNOWN in seen:
        notes.append(
            f"These images may have served to train {_named(seen)}, whose weights the "
            "run began from"
        )
    return tuple(notes)


def compute_digests(
    split: data.Split, is_cancelled: Callable[[], bool] = lambda: False
) -> np.ndarray:
    """Return a digest of each image's file or record, or else of its pixels.

    Args:
      split: the images.
      is_cancelled: returns whether to read no more.

    Returns:
      uint64 `[N]`, or fewer if cancelled; `NO_DIGEST` for an unreadable image.
    """
    stored, found = split.stored, list[int]()
    for start in range(0, len(split), BLOCK):
        if is_cancelled():
            break
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
    others = np.concatenate([*seen, np.zeros(0, np.uint64)])
    return int(np.isin(digests[digests != NO_DIGEST], others).sum())


def _named(seen: Digests) -> str:
    return listed([*map(str, seen[UNKNOWN].tolist())])


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
        raise UserError(f"{workdir} keeps no digests of its images") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)})") from None


@functools.lru_cache(maxsize=1)
def _load(path: Path, modified: int) -> Digests:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in (*ROLES, UNKNOWN) if name in arrays}
