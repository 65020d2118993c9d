"""A user's own images: files listed, looked through once, decoded to one form."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import platformdirs

from hybrid_jax.data.encoded import (
    Encoded,
    Files,
    choose_form,
    look_through,
    refuse_unreadable,
)
from hybrid_jax.data.kept import decoded
from hybrid_jax.data.listing import Listing, list_images
from hybrid_jax.data.pixels import Facts
from hybrid_jax.errors import UserError

SPLITS = ("train", "test")
KEPT_BESIDE = 3  # decoded splits of other seeds or shares; older ones are deleted


class Stamp(NamedTuple):
    """What tells a file from what it was, and its pixels from another reader's."""

    size: int
    changed: int
    reader: str


class OwnImages:
    """The images at `config.data.path`, with the interface of `Prepared`."""

    def __init__(
        self,
        path: str,
        dir: str,
        test_fraction: float,
        seed: int,
        on_error: str,
        size: tuple,
        fit: str,
    ):
        """See the fields of `config.data`.

        Raises:
          UserError: of `list_images`; images that cannot be read, unless they are
            skipped, which those to test on never are.
        """
        if not path:
            raise UserError(
                "config.data.path is missing: give the folder of your images, or a .csv"
            )
        listed = list_images(path, test_fraction, seed)
        self.classes = listed.classes
        self.skipped: list[str] = []
        self._title = Path(path).expanduser().name or path
        self._kept = _place_of(path, dir)
        self._root = Path(path).expanduser()
        facts = self._look_through({s: getattr(listed, s) for s in SPLITS})
        self._listings = {
            split: self._readable(split, getattr(listed, split), facts, on_error)
            for split in SPLITS
        }
        missing = np.bincount(self.labels("train"), minlength=len(self.classes)) == 0
        if missing.any():
            name = self.classes[int(missing.argmax())]
            raise UserError(f"{path}: no image of class {name!r} can be read")
        good = [f for f in facts.values() if not f.error]
        self._form = choose_form(good, size, fit, path)

    def images(self, split: str) -> Encoded:
        """The images of `train` or `test`."""
        records = Files(self._listings[split].paths)
        return Encoded(records, self._form, np.arange(len(records)))

    def decoded(self, split: str) -> np.ndarray:
        """All of their pixels, uint8 `[N, H, W, C]`; what is outdated is deleted."""
        paths = self._listings[split].paths
        state = [f"{path} {self._stamps[path]}" for path in paths]
        digest = _digest([repr(self._form), *state])[:16]
        shape = "x".join(map(str, (*self._form.size, self._form.channels)))
        name = f"decoded-{split}-{shape}-{self._form.fit}"
        others = [p for p in self._kept.glob(f"{name}-*") if p.name[-16:] != digest]
        newest = sorted(others, key=_age)[:KEPT_BESIDE]
        for old in {*others} - {*newest}:
            shutil.rmtree(old, ignore_errors=True)
        folder = self._kept / f"{name}-{digest}"
        return decoded(self.images(split), folder, f"{self._title} {split}")

    @property
    def fingerprint(self) -> str:
        """Of names and sizes of all files, wherever the folder lies."""
        return _digest(
            f"{split} {os.path.relpath(path, self._root)} {self._stamps[path].size}"
            for split in SPLITS
            for path in self._listings[split].paths
        )

    def labels(self, split: str) -> np.ndarray:
        """Labels int32 `[N]`, in the order of the images."""
        return self._listings[split].labels

    def _look_through(self, listings: dict[str, Listing]) -> dict[Path, Facts]:
        """The facts of every file; those of unchanged files are remembered."""
        memory = self._kept / "facts.json"
        known = _remembered(memory)
        paths = [path for listing in listings.values() for path in listing.paths]
        self._stamps = {path: _stamp(path) for path in paths}
        facts = {
            path: Facts(*known[str(path)][len(stamp) :])
            for path, stamp in self._stamps.items()
            if known.get(str(path), [])[: len(stamp)] == [*stamp]
        }
        new = [path for path in self._stamps if path not in facts]
        facts |= zip(new, look_through(Files(new), self._title), strict=True)
        if new or len(known) != len(facts):
            rows = {str(path): [*self._stamps[path], *facts[path]] for path in facts}
            _remember(memory, rows)
        return facts

    def _readable(
        self, split: str, listing: Listing, facts: dict[Path, Facts], on_error: str
    ) -> Listing:
        of_split = [facts[path] for path in listing.paths]
        good = np.array([not fact.error for fact in of_split])
        if on_error == "stop" or split == "test":
            way_out = "mend or remove them" + (
                ", or --config.data.on_error=skip" if split == "train" else ""
            )
            refuse_unreadable(Files(listing.paths), of_split, split, way_out)
        self.skipped += [
            f"{path}: {facts[path].error}"
            for path, is_good in zip(listing.paths, good, strict=True)
            if not is_good
        ]
        rows = np.flatnonzero(good)
        return Listing([listing.paths[row] for row in rows], listing.labels[rows])


def _place_of(path: str, dir: str) -> Path:
    """Where things about a user's folder are kept; never in that folder."""
    whole = str(Path(path).expanduser().resolve())
    name = f"{Path(whole).name}-{_digest([whole])[:12]}"
    root = Path(dir).expanduser() if dir else platformdirs.user_cache_path("hybrid_jax")
    return root / "folders" / name


def _digest(lines: Iterable[str]) -> str:
    # Names of files need not be text.
    content = "\n".join(lines).encode(errors="surrogateescape")
    return hashlib.sha256(content).hexdigest()


def _age(folder: Path) -> float:
    try:
        return -folder.stat().st_mtime
    except OSError:  # another run deleted it
        return 0.0


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return Stamp(found.st_size, found.st_mtime_ns, PIL.__version__)


def _remembered(memory: Path) -> dict[str, list]:
    """Stamp and facts of each file; nothing of what another version wrote."""
    length = len(Stamp._fields) + len(Facts._fields)
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
        return {path: row for path, row in content.items() if len(row) == length}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _remember(memory: Path, rows: dict[str, list]) -> None:
    scratch = memory.with_name(f".{memory.name}.{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(rows), encoding="utf-8")
        os.replace(scratch, memory)
    except OSError:  # a read-only or full disk costs another look, nothing else
        with contextlib.suppress(OSError):
            scratch.unlink()
