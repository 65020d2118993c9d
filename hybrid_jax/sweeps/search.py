"""Define a search by its config and space, and keep both in its folder."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.config import stored
from hybrid_jax.config.effects import check_changed
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.errors import UserError
from hybrid_jax.json_files import check_entries, read_json, write_json
from hybrid_jax.runs.folder_kinds import MARKS
from hybrid_jax.sweeps.claims import waiting_lock
from hybrid_jax.sweeps.folders import check_data, check_workdir
from hybrid_jax.sweeps.runs import load_splits
from hybrid_jax.sweeps.space import MOST_POINTS, SWEEP, Dimension, parse_space

FILE, TRIALS = MARKS["sweep"], "trials"
SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Search:
    """A search, which does not change once it has begun.

    Attributes:
      config: the config that all trials share.
      space: the fields that trials vary; empty to cross-validate one config.
      sampler: a row of `samplers.SAMPLERS`.
      pruner: a row of `samplers.PRUNERS`.
      seeds: number of runs of a trial that differ only in their seed.
      folds: number of folds of cross-validation; 0 validates as the config says.
    """

    config: Config
    space: tuple[Dimension, ...]
    sampler: str = "tpe"
    pruner: str = "none"
    seeds: int = 1
    folds: int = 0

    def __post_init__(self) -> None:
        """Refuse a search that cannot choose between trials.

        Raises:
          UserError: nothing is varied, there is no validation split, or two settings
            define it.
        """
        if not self.space and not self.folds:
            raise UserError(
                "nothing is varied: give a range or choices of a field, such as "
                f"--{SWEEP}optim.learning_rate=1e-4:1e-1:log, or --folds=5 to "
                "cross-validate the config as it is"
            )
        varied = next((d for d in self.space if d.name == "data.validation"), None)
        if varied and self.folds:
            raise UserError("--sweep.data.validation and --folds: give one of them")
        low = self.config.data.validation
        if varied:
            low = varied.low if not varied.choices else min(map(_share, varied.choices))
        if low == 0 and not self.folds:
            raise UserError(
                "config.data.validation=0 leaves nothing to choose by: take a share "
                "such as 0.2, or give --folds=5"
            )
        if self.folds == 1:
            raise UserError("--folds=1 leaves nothing to train on: give 2 or more")
        if self.sampler == "grid":
            self.grid()
        check_seeds({"seed": self.config.seed}, self.seeds)

    @property
    def base(self) -> Config:
        """Return the config of all trials, which do not load the test split."""
        return self.config.replace({"data.test": False})

    def parts(self, values: dict[str, Any]) -> dict[str, Config]:
        """Return the configs of a trial's runs by name, grouped by fold.

        Args:
          values: values of the varied fields, by name.
        """
        parts = {}
        for fold in range(1, (self.folds or 1) + 1):
            for seed in seeds_of(self.config, self.seeds):
                changed = values | {"seed": seed}
                if self.folds:
                    changed["data.validation"] = f"{fold}/{self.folds}"
                name = f"fold-{fold}-seed-{seed}" if self.folds else f"seed-{seed}"
                parts[name] = self.base.replace(changed)
        return parts

    def why_refused(self, values: dict[str, Any]) -> str:
        """Return why a trial's values do not go together; empty if nothing is known.

        A trial would equal others if one of its fields has no effect.

        Args:
          values: values of the varied fields, by name.
        """
        try:
            check_changed(values, self.config.flat() | values)
        except UserError as error:
            return str(error)
        return ""

    def values_of(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Return the values of the varied fields from the values that Optuna stores."""
        return {d.name: d.value_of(kept[d.name]) for d in self.space}

    @property
    def size(self) -> int:
        """Return the number of combinations of values; 0 if there is no end to them."""
        points = [dimension.points for dimension in self.space]
        return math.prod([0 if found is None else len(found) for found in points])

    def combination(self, number: int) -> dict[str, Any]:
        """Return one of the `size` combinations of values, as Optuna stores them.

        Args:
          number: of the combination, from 0; the last field varies fastest.
        """
        values = {}
        for dimension in reversed(self.space):
            assert dimension.points, "there are finitely many combinations"
            number, place = divmod(number, len(dimension.points))
            values[dimension.name] = dimension.points[place]
        return {dimension.name: values[dimension.name] for dimension in self.space}

    def grid(self) -> list[dict[str, Any]]:
        """Return every combination of values, as Optuna stores them.

        Raises:
          UserError: a field has infinitely many values, or there are too many
            combinations.
        """
        for dimension in self.space:
            dimension.check_grid()
        if self.size > MOST_POINTS:
            raise UserError(
                f"a grid of {self.size:,} trials is too large: give fewer values, so "
                f"that it has {MOST_POINTS:,} at most, or another --sampler"
            )
        return [*map(self.combination, range(self.size))]

    def to_json(self) -> dict[str, Any]:
        """Return the settings that tell searches apart, for a JSON file."""
        return {
            "space": {dimension.name: dimension.text for dimension in self.space},
            "sampler": self.sampler,
            "pruner": self.pruner,
            "seeds": self.seeds,
            "folds": self.folds,
        }


def _share(validation: float | str) -> float:
    """Return the share of images that validate, or 1 for a fold such as `2/5`."""
    return 1.0 if isinstance(validation, str) else validation


def seeds_of(config: Config, count: int) -> range:
    """Return the seeds of `count` runs of a config."""
    return range(config.seed, config.seed + count)


def check_seeds(firsts: dict[str, int], count: int, flag: str = "seeds") -> None:
    """Refuse seeds that are too large, before any run is trained.

    Args:
      firsts: the first of `count` seeds that follow each other, by field.
      count: number of seeds, at least 1.
      flag: flag of the command for this number.

    Raises:
      UserError: names the field.
    """
    for name, first in firsts.items():
        if not FIELDS[name].rule.holds(first + count - 1):
            raise UserError(
                f"config.{name}={first} and --{flag}={count} lead to seeds of 2**31 "
                f"and more: give a smaller config.{name}"
            )


class Kept(NamedTuple):
    """What the folder of a search says of its trials.

    Attributes:
      name: name of the search in its storage.
      storage: the storage in which the search began, without a password.
      is_new: whether the search has no trial in this folder.
    """

    name: str
    storage: str
    is_new: bool


def keep(search: Search, folder: Path, storage: str) -> Kept:
    """Write a search to its folder, or check that the folder holds the same search.

    Args:
      search: the search that is asked for.
      folder: folder of the search; created if it does not exist.
      storage: storage of the trials, without a password; a database may move.

    Raises:
      UserError: the folder holds another search, or one of other images; names the
        differences.
    """
    path = folder / FILE
    asked = {"schema": SCHEMA, "storage": _kind(storage)} | search.to_json()
    check_workdir(folder, "sweep", search.config.data)
    # The test split stays unread while a search chooses.
    seen = dataclasses.replace(search.config.data, test=False)
    identity = load_splits(seen).identity
    with waiting_lock(folder):
        # Without a trial, the search has not begun, and may still change.
        is_new = not (path.exists() and (folder / TRIALS).exists())
        if is_new:
            name = _name(asked, search.config, identity, folder)
            about = {"data": identity, "config": stored.nested(search.config)}
            ours = asked | {"storage": storage, "study": name} | about
            write_json(path, ours | {"study": _known_name(path, ours)})
        theirs = read_json(path)
    check_entries(path, theirs, {"data": dict, "config": dict, "storage": str})
    began = theirs["storage"]
    known = {**theirs, "storage": _kind(began)}
    differing = [
        f"{name} is {known.get(name)!r} there and {value!r} here"
        for name, value in asked.items()
        if known.get(name) != value
    ]
    config = stored.read(theirs["config"], stored.SCHEMA, folder)
    differing += stored.differences(config, search.config)
    if differing:
        raise UserError(
            f"--workdir={folder} holds another sweep: {'; '.join(differing)}. Give "
            "another workdir, or that sweep's settings"
        )
    check_data(folder, theirs.get("data", identity), identity)
    return Kept(str(theirs["study"]), began, is_new)


def _kind(storage: str) -> str:
    """Return `postgresql`, whichever the database, or SQLite's file."""
    return storage.partition("+")[0]


def _known_name(path: Path, ours: dict[str, Any]) -> str:
    """Return the name that a file gives to this search; else the search's own name.

    The search's trials may be put back into the folder, and then need their name.

    Args:
      path: of the file, which need not exist.
      ours: what the file holds for this search.
    """
    with contextlib.suppress(UserError):
        theirs = read_json(path)
        if {**theirs, "study": ours["study"]} == json.loads(json.dumps(ours)):
            return str(theirs["study"])
    return str(ours["study"])


def _name(
    asked: dict[str, Any], config: Config, identity: dict[str, Any], folder: Path
) -> str:
    """Return the name of a search in its storage, which ends in hexadecimal digits.

    The name depends on the settings, the images and the folder's last name. So workers
    find the same study even if a shared file system shows them each other's files late,
    and sweeps of other images in the same database have another name.

    Args:
      asked: the settings that tell searches apart.
      config: the config that all trials share.
      identity: `Splits.identity` of the images.
      folder: folder of the search.
    """
    values = config.flat().items()
    common = {name: value for name, value in values if not FIELDS[name].local}
    text = json.dumps([folder.absolute().name, asked, common, identity])
    return f"hybrid_jax-{hashlib.sha256(os.fsencode(text)).hexdigest()}"


def create_search(config: Config, texts: dict[str, str], **settings: Any) -> Search:
    """Create a search from the flags of a command.

    Args:
      config: the config that all trials share.
      texts: the range or choices of each varied field; see `parse_space`.
      **settings: other attributes of `Search`.
    """
    return Search(config, parse_space(texts), **settings)
