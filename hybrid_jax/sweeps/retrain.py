"""Train the winner of a search on all training images, and test it with each seed."""

from collections.abc import Callable, Mapping
from pathlib import Path

from hybrid_jax import intervals
from hybrid_jax.config.schema import Config
from hybrid_jax.errors import plural
from hybrid_jax.json_files import check_entries, read_json
from hybrid_jax.sweeps.parts import work_through
from hybrid_jax.sweeps.runs import Outcome, read_outcome
from hybrid_jax.sweeps.search import Search, seeds_of
from hybrid_jax.sweeps.storage import Store
from hybrid_jax.sweeps.table import Row
from hybrid_jax.sweeps.trial import METRIC

FOLDER = "winner-trial-"  # and the number of the trial


def winner_config(search: Search, winner: Row) -> Config:
    """Return the config that trains the winner on all training images and tests it.

    Images that were held out for validation are trained on too. A validation split of
    the data set itself is not used, and the log of each run says so.
    """
    # Without a validation split, nothing can end a run early or choose a checkpoint.
    everything = {"data.validation": 0, "data.test": True, "train.patience": 0}
    return search.config.replace(search.values_of(winner.params) | everything)


def retrain(
    search: Search,
    store: Store,
    folder: Path,
    winner: Row,
    count: int,
    say: Callable[[str], None],
    watch: Callable[[], None] = lambda: None,
) -> dict[str, Outcome]:
    """Train the winner with several seeds, together with other workers.

    Args:
      search: a search whose trials have ended.
      store: the storage of its trials.
      folder: folder of the search; the runs are in `winner-trial-7/seed-0` and so on,
        so that those of a trial that won before stay as they are.
      winner: the best trial.
      count: number of seeds.
      say: prints a line.
      watch: called every few seconds, and after each run.

    Returns:
      The outcome of each run by name.

    Raises:
      UserError, Interrupted: like `runs.run_config`.
    """
    place = winner_folder(folder, winner.number)
    with store.exclusive():
        _rename_older(folder)
        others = () if place.exists() else sorted(folder.glob(f"{FOLDER}*"))
        for other in others:
            say(
                f"trial {other.name.removeprefix(FOLDER)} won before, and its test "
                f"results are in {other}: the test split is now used once more, for "
                "another winner"
            )
        place.mkdir(exist_ok=True)
    parts = winner_parts(search, winner, count)
    return work_through(parts, place, lambda name, outcome: watch(), watch)


def winner_parts(search: Search, winner: Row, count: int) -> dict[str, Config]:
    """Return the configs of the winner's runs by name, a seed each."""
    base = winner_config(search, winner)
    seeds = seeds_of(base, count)
    return {f"seed-{seed}": base.replace({"seed": seed}) for seed in seeds}


def read_outcomes(
    folder: Path, search: Search, winner: Row, count: int
) -> dict[str, Outcome]:
    """Read the outcomes of the winner's runs that have ended, by name."""
    place = winner_folder(folder, winner.number)
    names = winner_parts(search, winner, count)
    found = {name: read_outcome(place / name) for name in names}
    return {name: outcome for name, outcome in found.items() if outcome}


def _rename_older(folder: Path) -> None:
    """Rename the folder of runs of an earlier version, which had one for any winner."""
    older = folder / "winner"
    if (about := older / "winner.json").exists():
        found = read_json(about)
        check_entries(about, found, {"trial": int})
        place = winner_folder(folder, found["trial"])
        if not place.exists():
            older.rename(place)


def winner_folder(folder: Path, number: int) -> Path:
    """Return the folder of the winner's runs, given the folder of its search."""
    return folder / f"{FOLDER}{number}"


def in_words(outcomes: Mapping[str, Outcome]) -> list[str]:
    """Return lines with the winner's test accuracy and its failed runs."""
    lines = [
        f"winner, {name}: {outcome.state} ({outcome.error})"
        for name, outcome in outcomes.items()
        if not outcome.is_complete
    ]
    tested = [o.test[METRIC] for o in outcomes.values() if o.test]
    if not tested:
        why = "the data have no test split"
        if len(lines) == len(outcomes):
            why = "no run of it is complete"
        return [*lines, f"No test accuracy of the winner: {why}"]
    seeds = plural(len(tested), "seed")
    return [
        *lines,
        "Test accuracy of the winner, on all training images: "
        f"{intervals.in_words(tested)} "
        f"({seeds}{'' if len(tested) > 1 else ', so no interval'})",
    ]
