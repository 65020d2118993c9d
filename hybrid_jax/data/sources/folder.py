"""A user's own images: files listed, looked through once, decoded to one form."""

import hashlib
import os
import shutil
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs

from hybrid_jax.data.decode_cache import decoded
from hybrid_jax.data.image_io import Facts
from hybrid_jax.data.lazy_images import (
    Encoded,
    Files,
    choose_form,
    look_through,
    refuse_unreadable,
)
from hybrid_jax.data.scan_cache import READ_BY, remember, remembered
from hybrid_jax.data.sources.class_folders import SPLITS
from hybrid_jax.data.sources.file_list import Listing, Listings, list_images
from hybrid_jax.data.splitting import used_splits
from hybrid_jax.errors import UserError, counted, shown
from hybrid_jax.paths import expanded

if typing.TYPE_CHECKING:
    from hybrid_jax.config.schema import DataConfig

NAMED_AT_MOST = 20  # of images that are skipped
KEPT_BESIDE = 3  # decoded splits of other seeds or shares; older ones are deleted


class Stamp(NamedTuple):
    """What tells a file from what it was, and its pixels from another reader's."""

    size: int
    changed: int
    reader: str


class OwnImages:
    """The images at `config.data.path`, with the interface of `Prepared`."""

    def __init__(self, options: "DataConfig"):
        """See the fields of `config.data`.

        Raises:
          UserError: of `list_images`; images that cannot be read, unless they are
            skipped, which those that the user holds out never are.
        """
        path = options.path
        if not path:
            raise UserError(
                "config.data.path is missing: give the folder of your images, or a .csv"
            )
        listed = _listed(options)
        self.classes, self.splits, self.unused = listed.classes, (*listed.splits,), {}
        self._root = expanded(path)
        self._title = shown(self._root.name) or path
        self._kept = _place_of(path, options.dir)
        facts = self._look_through(listed.splits)
        _refuse_unreadable(listed, facts, options.on_error)
        self._listings = {s: _readable(of, facts) for s, of in listed.splits.items()}
        self._check_classes(listed)
        good = [fact for fact in facts.values() if not fact.error]
        self._sizes = {path: fact[:2] for path, fact in facts.items()}
        self.form = choose_form(
            good, options.image_size, options.fit, options.background, shown(path)
        )
        skipped = [
            f"{shown(path)}: {facts[path].error}" for path in facts if facts[path].error
        ]
        self.notes = (
            *listed.notes,
            *skipped_note(skipped),
            *_transparency_note(good, options.background),
        )

    def images(self, split: str) -> Encoded:
        """The images of a split."""
        paths = self._listings[split].paths
        sizes = np.array([self._sizes[path] for path in paths], np.int32)
        return Encoded(Files(paths), self.form, np.arange(len(paths)), sizes)

    def decoded(self, split: str) -> np.ndarray:
        """All of their pixels, uint8 `[N, H, W, C]`; what is outdated is deleted."""
        paths = self._listings[split].paths
        state = [f"{path} {self._stamps[path]}" for path in paths]
        digest = _digest([repr(self.form), *state])[:16]
        shape = "x".join(map(str, (*self.form.size, self.form.channels)))
        name = f"decoded-{split}-{shape}-{self.form.fit}"
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
            for split in self.splits
            for path in self._listings[split].paths
        )

    def labels(self, split: str) -> np.ndarray:
        """Labels int32 `[N]`, in the order of the images."""
        return self._listings[split].labels

    def groups(self, split: str) -> np.ndarray | None:
        """What images belong to, text `[N]`; None where nothing says so."""
        return self._listings[split].groups

    def _look_through(self, listings: dict[str, Listing]) -> dict[Path, Facts]:
        """The facts of every file; those of unchanged files are remembered."""
        memory = self._kept / "facts.json"
        known = remembered(memory, len(Stamp._fields) + len(Facts._fields))
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
            # What could not be read may be mended without a trace, as by `chmod`.
            good = {path: fact for path, fact in facts.items() if not fact.error}
            rows = {str(path): [*self._stamps[path], *good[path]] for path in good}
            remember(memory, rows)
        return facts

    def _check_classes(self, listed: Listings) -> None:
        """Refuses classes of which skipping has left nothing to train or test on."""
        needed = self.splits if listed.held_out else ("train",)
        for split in needed:
            count = np.bincount(self.labels(split), minlength=len(self.classes))
            if not count.all():
                name = self.classes[int(count.argmin())]
                kind = "" if split == "train" else " that was held out for testing"
                raise UserError(
                    f"{shown(self._root)}: no image of class {name!r}{kind} can be read"
                )


def _listed(options: "DataConfig") -> Listings:
    """The user's images, without a validation split that is not to be used.

    Raises:
      UserError: of `list_images` and of `used_splits`.
    """
    wanted = SPLITS if options.validation else SPLITS.keys() - {"validation"}
    listed = list_images(
        options.path,
        options.test_fraction,
        options.split_seed,
        exclude=options.exclude,
        group=options.group,
        wanted=wanted,
    )
    used_splits({split: len(of.labels) for split, of in listed.splits.items()}, options)
    return listed


def _refuse_unreadable(
    listed: Listings, facts: dict[Path, Facts], on_error: str
) -> None:
    """Raises a `UserError` that names images which cannot be read and are not skipped.

    Splits that the user holds out are never shortened.
    """
    for split, (paths, *_) in listed.splits.items():
        may_skip = split == "train" or listed.held_out
        if may_skip and on_error == "skip":
            continue
        refuse_unreadable(
            Files(paths),
            [facts[path] for path in paths],
            split,
            "mend or remove them, list them in a file for config.data.exclude"
            + (", or --config.data.on_error=skip" if may_skip else ""),
        )


def _readable(listing: Listing, facts: dict[Path, Facts]) -> Listing:
    rows = np.flatnonzero([not facts[path].error for path in listing.paths])
    return listing.take(rows)


def skipped_note(skipped: list[str]) -> tuple[str, ...]:
    """Says which images are skipped, each with its reason; nothing if none is."""
    if not skipped:
        return ()
    more = len(skipped) - NAMED_AT_MOST
    return (
        f"{counted(len(skipped), 'image')} skipped, which cannot be read: "
        + "; ".join(skipped[:NAMED_AT_MOST])
        + (f"; and {more:,} more" if more > 0 else ""),
    )


def _transparency_note(facts: list[Facts], background: str) -> tuple[str, ...]:
    count = sum(fact.transparent for fact in facts)
    if not count:
        return ()
    return (
        f"{counted(count, 'image')} with transparent parts, which lie on {background} "
        "(config.data.background)",
    )


def _place_of(path: str, dir: str) -> Path:
    """Where things about a user's folder are kept; never in that folder."""
    whole = str(expanded(path).resolve())
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
    try:
        found = path.stat()
    except OSError:  # reading it will tell why
        return Stamp(0, 0, READ_BY)
    return Stamp(found.st_size, found.st_mtime_ns, READ_BY)
