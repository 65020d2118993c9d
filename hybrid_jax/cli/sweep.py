r"""Search for the best values of an experiment's fields, by validation accuracy.

  hybrid-jax sweep --config=digits --sweep.optim.learning_rate=1e-4:1e-1:log
  hybrid-jax sweep --config=digits --seeds=3 --retrain=5 --workers=2 \
      --sweep.train.batch_size=10,25 --sweep.model.name=wrn_16_1,vit_tiny

Every trial has a folder in the workdir, beside results.csv and figures. Run the
same command again to resume, or at the same time elsewhere to help.

  --config=FILE[:MODEL]  experiment; --config.FIELD=VALUE changes a field
  --sweep.FIELD=VALUES   LOW:HIGH, LOW:HIGH:log or A,B,C; tuples A;B;C
  --workdir=DIR          folder of the sweep [sweeps/FILE]
  --sampler=NAME         tpe, random, or grid (all combinations) [tpe]
  --trials=N             different trials; 0 is up to 20, or the whole grid [0]
  --seeds=N              runs of each trial, with different seeds [1]
  --folds=K              cross-validate each seed on K folds, with or without
                         --sweep; out_of_fold.csv has the predictions
  --pruner=NAME          none, or halving, which ends bad trials early [none]
  --workers=N            number of processes on this machine [1]
  --storage=URL          postgresql://... for workers on several machines
  --retrain=N            train the winner on all images with N seeds; test it
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0; 2 for an error that you can fix; 143, 130 or 129 after a signal.
"""

import os
import typing
from pathlib import Path
from typing import Any

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import TEXT, Option, integer, one_of
from hybrid_jax.config.rules import PROCESS_BITS
from hybrid_jax.errors import UserError
from hybrid_jax.paths import expand_user

if typing.TYPE_CHECKING:
    from hybrid_jax.sweeps.progress import WorkProgress
    from hybrid_jax.sweeps.search import Search
    from hybrid_jax.sweeps.storage import Store
    from hybrid_jax.sweeps.table import Row

SWEEPS, TRIALS = "sweeps", 20
OPTIONS = (
    Option("workdir", TEXT),
    Option("sampler", one_of("tpe", "random", "grid"), "tpe"),
    Option("trials", integer(0), 0),
    Option("seeds", integer(1), 1),
    Option("folds", integer(0), 0),
    Option("pruner", one_of("none", "halving"), "none"),
    Option("workers", integer(1, PROCESS_BITS), 1),
    Option("storage", TEXT, ""),
    Option("retrain", integer(0), 0),
)


class Arguments(typing.NamedTuple):
    """The parsed command line.

    Attributes:
      search: the search to run.
      folder: folder of the search.
      trials: number of trials.
      notes: lines to print at the start.
      workers: number of processes on this machine.
      storage: URL of the storage; empty is SQLite in the folder.
      retrain: number of seeds to train the winner with.
      flags: flags of the experiment, to print a command that trains the winner.
    """

    search: "Search"
    folder: Path
    trials: int
    notes: list[str]
    workers: int
    storage: str
    retrain: int
    flags: list[str]


def run(call: Call) -> None:
    """Run the search that a command line asks for.

    Raises:
      UserError: something that the user can fix.
      Interrupted: a signal arrived; the runs are saved.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    arguments = parse(call.arguments)
    from hybrid_jax.cli.flags import with_value
    from hybrid_jax.sweeps.storage import Store
    from hybrid_jax.sweeps.workers import share_work

    store = Store(arguments.search, arguments.folder, arguments.storage)
    with store.errors():
        with _progress(arguments, store) as progress:
            for note in arguments.notes:
                progress.say(note)
            if arguments.workers > 1:
                share_work(
                    arguments.workers,
                    ["sweep", *with_value(call.arguments, "workers", 1)],
                    progress,
                    lambda: _is_done(arguments, store),
                )
            else:
                _work(arguments, store, progress)
        _show(call, arguments, store, progress)


def parse(words: list[str]) -> Arguments:
    """Parse a command line.

    Raises:
      UserError: a flag, a value, a field, its range or a config file is wrong.
    """
    from hybrid_jax.cli import flags, workdirs
    from hybrid_jax.config.schema import FIELDS
    from hybrid_jax.sweeps.search import check_seeds, create_search
    from hybrid_jax.sweeps.space import SWEEP, label, note_on_images

    varied = [Option(f"{SWEEP}{name}", TEXT) for name in FIELDS]
    parsed = flags.parse(words, [*OPTIONS, *varied], takes_config=True)
    values = parsed.values
    texts = {name: values[f"{SWEEP}{name}"] for name in FIELDS}
    texts = {name: text for name, text in texts.items() if text is not None}
    search = create_search(
        flags.required_config(parsed),
        texts,
        **{name: values[name] for name in ("sampler", "pruner", "seeds", "folds")},
    )
    _check_effects(search, texts, parsed.changed)
    if values["retrain"]:
        check_seeds({"seed": search.config.seed}, values["retrain"], "retrain")
    default = workdirs.default_workdir(values["config"])
    default = os.path.join(SWEEPS, os.path.basename(default))
    workdir = default if values["workdir"] is None else values["workdir"]
    trials, note = _count_trials(search, values["trials"])
    typed = {name: str(label(value)) for name, value in parsed.changed.items()}
    return Arguments(
        search=search,
        folder=expand_user(workdirs.resolve_workdir(workdir, None)),
        trials=trials,
        notes=[
            *filter(None, (note, note_on_images(search.space))),
            *_overruled_notes(texts, search.folds, parsed.changed),
        ],
        workers=values["workers"],
        storage=values["storage"],
        retrain=values["retrain"],
        flags=[
            f"--config={values['config']}",
            *(f"--config.{name}={text}" for name, text in typed.items()),
        ],
    )


def _overruled_notes(
    texts: dict[str, str], folds: int, changed: dict[str, Any]
) -> list[str]:
    """Return a note for each field of the command line that trials set themselves.

    Args:
      texts: the range or choices of each varied field, as typed.
      folds: number of folds, which set `data.validation`; 0 for none.
      changed: the fields that the command line sets, by name.
    """
    from hybrid_jax.config.field import as_typed
    from hybrid_jax.sweeps.space import SWEEP

    flags = {name: f"--{SWEEP}{name}={text}" for name, text in texts.items()}
    if folds:
        flags["data.validation"] = f"--folds={folds}"
    return [
        f"--config.{name}={as_typed(changed[name])} is used only for the checks before "
        f"the first trial; the trials use {flag}"
        for name, flag in flags.items()
        if name in changed
    ]


def _check_effects(
    search: "Search", texts: dict[str, str], changed: dict[str, Any]
) -> None:
    """Refuse a field that has no effect in any trial.

    Args:
      search: the search.
      texts: the range or choices of each varied field, as typed.
      changed: the fields that the command line sets, by name.

    Raises:
      UserError: names the field, and the other that decides.
    """
    from hybrid_jax.config.effects import IN_STEPS, check_varied
    from hybrid_jax.sweeps.space import SWEEP

    lengths = {name: changed[name] for name in IN_STEPS.values() if name in changed}
    flags = {name: f"--config.{name}={value}" for name, value in lengths.items()}
    flags |= {name: f"--{SWEEP}{name}={text}" for name, text in texts.items()}
    check_varied(flags, {d.name: d.ends for d in search.space}, search.config)


def _count_trials(search: "Search", asked: int) -> tuple[int, str]:
    """Return the number of trials, and a note if it is not the one that is asked for.

    Args:
      search: the search.
      asked: value of `--trials`.

    Raises:
      UserError: several trials are asked for, and nothing is varied.
    """
    if asked > 1 and not search.space:
        raise UserError(
            f"--trials={asked}: nothing is varied, so that all trials would be equal; "
            "leave it out, or give a range or choices of a field"
        )
    if not search.size:
        return asked or TRIALS, ""
    default = search.size if search.sampler == "grid" else TRIALS
    if asked <= search.size:
        return min(asked or default, search.size), ""
    return search.size, (
        f"--trials={asked}: the varied fields have {search.size} combinations, and "
        "each is tried once; --seeds=N repeats each with N seeds"
    )


def _progress(arguments: Arguments, store: "Store") -> "WorkProgress":
    """Return the progress of all trials and all runs of the winner."""
    from hybrid_jax.sweeps.progress import search_progress

    search, folder = arguments.search, arguments.folder
    trials, retrain = arguments.trials, arguments.retrain
    return search_progress(search, store, folder, trials, retrain)


def _is_done(arguments: Arguments, store: "Store") -> bool:
    """Return whether all trials and all runs of the winner have ended."""
    from hybrid_jax.sweeps.retrain import read_outcomes
    from hybrid_jax.sweeps.table import UNFINISHED, read_rows

    rows, count = read_rows(store.study), arguments.retrain
    states = [row.result.state for row in rows]
    if len(states) < arguments.trials or UNFINISHED in states:
        return False
    tested = read_outcomes(arguments.folder, arguments.search, rows[0], count)
    return len(tested) == count


def _work(arguments: Arguments, store: "Store", progress: "WorkProgress") -> None:
    """Run the remaining trials, and then the remaining runs of the winner."""
    from hybrid_jax.sweeps import retrain
    from hybrid_jax.sweeps.table import read_rows
    from hybrid_jax.sweeps.worker import Worker

    search, folder = arguments.search, arguments.folder
    Worker(search, store, folder, arguments.trials, progress.update).run()
    winner = read_rows(store.study)[0]
    if arguments.retrain and winner.is_complete:
        what = f"Training the winner, trial {winner.number}"
        progress.say(f"{what}, on all training images")
        count, say, watch = arguments.retrain, progress.say, progress.update
        retrain.retrain(search, store, folder, winner, count, say, watch)


def _show(
    call: Call, arguments: Arguments, store: "Store", progress: "WorkProgress"
) -> None:
    """Write and print the table, and print the winner's command and test accuracy.

    Raises:
      UserError: no trial is complete.
    """
    from hybrid_jax.sweeps import figures, retrain, table

    search, folder = arguments.search, arguments.folder
    with store.exclusive():
        winner, *_ = rows = table.read_rows(store.study)
        line = _winners_command(call, arguments, winner) if winner.is_complete else ""
        # Workers write it after each trial, but files may be lost, or a worker killed.
        table.write(folder, rows, search, line)
    progress.show(table.on_screen(rows, search))
    if len(winner.result.values) == 1:
        progress.say("One run a trial tells nothing of the spread: see --seeds")
    progress.say(f"All trials: {folder / table.CSV}")
    if not winner.is_complete:
        raise UserError(
            f"no trial is complete: {_why_incomplete(rows)}. To try again after a "
            "change, give another --workdir, since this one keeps these trials"
        )
    what = f"The winner, trial {winner.number}" if search.space else "To train one run"
    progress.say(f"{what}: {line}")
    if arguments.retrain:
        outcomes = retrain.read_outcomes(folder, search, winner, arguments.retrain)
        for text in retrain.in_words(outcomes):
            progress.say(text)
    if search.space:
        with store.exclusive():
            for note in figures.draw(store.study, folder):
                progress.say(note)
    if search.folds:
        _show_folds(search, folder, rows, progress)


def _why_incomplete(rows: "list[Row]") -> str:
    """Return why a trial failed; if none has failed, how all of them ended."""
    errors = [row.result.error for row in rows if row.result.error]
    return errors[0] if errors else f"all were {rows[0].result.state}"


def _winners_command(call: Call, arguments: Arguments, winner: "Row") -> str:
    """Return the command that trains the winner, as a shell takes it."""
    from hybrid_jax.config.effects import IN_STEPS, ignores_strides

    # The winner may count in steps what the command line gives in epochs, or be a model
    # that passes over strides.
    unused = {o for d, o in IN_STEPS.items() if winner.params.get(d)} | {*winner.params}
    if ignores_strides(arguments.search.config.flat() | winner.params):
        unused.add("model.strides")
    start = tuple(f"--config.{name}=" for name in unused)
    flags = [flag for flag in arguments.flags if not flag.startswith(start)]
    values = [f"--config.{name}={value}" for name, value in winner.params.items()]
    target = f"--workdir={arguments.folder / f'trial-{winner.number}-again'}"
    return call.line("train", *flags, *values, target)


def _show_folds(
    search: "Search", folder: Path, rows: "list[Row]", progress: "WorkProgress"
) -> None:
    """Predict each image with the winner's runs that left it out, and report accuracy.

    Raises:
      UserError: the winner's runs or their images are missing.
    """
    from hybrid_jax.evaluation import fold_report
    from hybrid_jax.sweeps.claims import waiting_lock
    from hybrid_jax.sweeps.runs import free_memory, load_splits
    from hybrid_jax.sweeps.worker import trial_folder

    winner = rows[0]
    parts = search.parts(search.values_of(winner.params))
    place = trial_folder(folder, winner.number)
    runs = {
        place / name: int(str(config.data.validation).partition("/")[0])
        for name, config in parts.items()
    }
    load_splits.cache_clear()  # the images of each fold are loaded again
    free_memory()
    with waiting_lock(folder, ".out_of_fold.lock"):
        about = {"trial": winner.number, "folds": search.folds}
        fold_report.report(folder, runs, about, progress)
    takes_best = any(c.train.checkpoint == "best" for c in parts.values())
    chosen = ["the best step of each run"] if takes_best else []
    chosen += ["the winner"] if len(rows) > 1 else []
    if chosen:
        progress.say(
            f"The same images chose {' and '.join(chosen)}: accuracy on other images "
            "may be lower"
        )


COMMAND = Command(__doc__.strip(), run, computes=True)
