"""Validation alone chooses: nothing about the test images can change a search."""

import contextlib
import itertools
import json
import platform
import shutil
import time
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

from hybrid_jax.cli import sweep
from hybrid_jax.config.files import load_config
from hybrid_jax.config.resolve import resolve
from hybrid_jax.data.image_io import encode_png
from hybrid_jax.errors import UserError
from hybrid_jax.json_files import write_json
from hybrid_jax.main import main
from hybrid_jax.sweeps import retrain, samplers, table, trial, worker
from hybrid_jax.sweeps.claims import Heartbeats
from hybrid_jax.sweeps.runs import Outcome
from hybrid_jax.sweeps.search import create_search
from hybrid_jax.sweeps.storage import Store
from hybrid_jax.sweeps.worker import BEAT, ENDS, MACHINE, STARTS, Worker, machine
from tests.commands import ROOT

TINY = str(ROOT / "tests" / "sweeps" / "tiny.py")


def searched(folder, fields, began=None, **settings):
    """States and values of a search in this process, best first, by trial.

    Args:
      began: attributes of a trial whose worker is dead.
    """
    config = resolve(load_config(TINY, {"train.epochs": 1} | fields))
    grid = {"train.sampling": "uniform,balanced"}
    search = create_search(config, grid, sampler="grid", **settings)
    store = Store(search, folder)
    if began:
        store.study.enqueue_trial(search.grid()[0], user_attrs=began)
        store.study.ask()
    Worker(search, store, folder, 2).run()
    rows = table.read_rows(store.study)
    return [(row.number, row.result.state, row.result.values) for row in rows]


def test_a_database_that_fails_ends_with_a_line(tmp_path, monkeypatch, capsys):
    """Also where the progress and the results are read, and where a file is damaged."""

    def fail(study):
        raise OperationalError("select", {}, Exception("connection lost"))

    monkeypatch.setattr(table, "read_rows", fail)
    words = [f"--config={TINY}", "--sweep.train.sampling=uniform,balanced"]
    code = main(["hybrid-jax", "sweep", *words, f"--workdir={tmp_path / 's'}"])
    error = capsys.readouterr().err
    assert code == 2
    assert "study.sqlite3 fails ((builtins.Exception) connection lost): free" in error
    (tmp_path / "s/study.sqlite3").write_text("damaged" * 1000)
    assert main(["hybrid-jax", "sweep", *words, f"--workdir={tmp_path / 's'}"]) == 2
    error = capsys.readouterr().err
    assert "file is not a database): free the disk if it is full, delete" in error


def test_trials_whose_runs_were_deleted_are_named_with_their_file(tmp_path, digits):
    config = resolve(load_config(TINY, {}))
    search = create_search(config, {"optim.clip_norm": "1,2"})
    study = Store(search, tmp_path).study
    study.tell(study.ask(), 0.5)
    for _ in range(2):  # the second time, too
        with pytest.raises(UserError) as refused:
            Store(search, tmp_path)
        assert str(refused.value) == (
            f"{tmp_path / 'study.sqlite3'} has 1 trial of this sweep, whose runs are "
            "gone: put them back, or delete this file to start anew"
        )
    (tmp_path / "study.sqlite3").unlink()
    assert Store(search, tmp_path).study.get_trials() == []


def test_what_the_winner_lacks_is_said():
    diverged = {"seed-0": Outcome("diverged", error="the loss is nan")}
    assert retrain.in_words(diverged)[-1].endswith(": no run of it is complete")
    untested = {"seed-0": Outcome("complete")}
    assert retrain.in_words(untested)[-1].endswith(": the data have no test split")


@pytest.fixture
def images(tmp_path, digits):
    """A folder of digits as a user has it, with a test split."""
    folder = tmp_path / "digits"
    for split, count in (("train", 20), ("test", 5)):
        labels = digits[split].labels
        for digit in range(10):
            place = folder / split / f"{digit}"
            place.mkdir(parents=True)
            for row in (labels == digit).nonzero()[0][:count]:
                image = digits[split].images[row]
                (place / f"{row}.png").write_bytes(encode_png(image))
    return folder


def test_no_test_image_is_looked_at(images, tmp_path):
    fields = {"data.name": "folder", "data.path": str(images), "data.per_class": 0}
    first = searched(tmp_path / "a", fields)
    # Now every test image is damaged, and of a wrong class.
    for place in (images / "test").iterdir():
        for path in place.iterdir():
            path.write_bytes(b"no image")
    assert searched(tmp_path / "b", fields) == first
    shutil.rmtree(images / "test" / "3")
    assert searched(tmp_path / "c", fields) == first
    for run in tmp_path.glob("?/trials/*/seed-0"):
        assert '"test"' not in (run / "results.json").read_text()
        assert '"split": "test"' not in (run / "metrics.jsonl").read_text()
    assert [state for _, state, _ in first] == ["complete", "complete"]


def test_a_hopeless_trial_is_pruned_by_its_validation(tmp_path, monkeypatch, digits):
    pruners = samplers.optuna().pruners
    hopeless = pruners.ThresholdPruner(lower=1.1)  # no accuracy reaches that
    monkeypatch.setitem(samplers.PRUNERS, "halving", lambda evaluations: hopeless)
    rows = searched(tmp_path, {"train.epochs": 4}, seeds=2, pruner="halving")
    assert [state for _, state, _ in rows] == ["pruned", "pruned"]
    for number in (0, 1):
        trial = tmp_path / "trials" / f"{number:04}"
        log = (trial / "seed-0" / "log.txt").read_text()
        assert "epoch 1.0/4" in log
        assert "epoch 2.0/4" not in log
        assert not (trial / "seed-1").exists()


def test_a_trial_that_ends_its_workers_is_given_up(tmp_path, digits):
    often = {STARTS: [0, 0, 0], MACHINE: machine()}
    rows = searched(tmp_path, {}, often)
    assert [(number, state) for number, state, _ in rows] == [
        (1, "complete"),
        (0, "crashed"),
    ]


def test_a_pruned_trial_whose_worker_died_keeps_its_runs(tmp_path, monkeypatch, digits):
    first = Outcome("complete", validation={"accuracy": 0.5}, seconds=3.0)
    ended = {"seed-0": first, "seed-1": first._replace(seconds=2.0), "seed-2": None}
    monkeypatch.setattr(trial, "read_outcome", lambda folder: ended[folder.name])
    monkeypatch.setattr(trial, "evaluations_of", lambda config: 4)
    config = resolve(load_config(TINY, {}))
    search = create_search(config, {"optim.clip_norm": "1,2"}, seeds=3)
    store = Store(search, tmp_path)
    asked = store.study.ask()
    asked.report(0.5, 9)  # in the third run
    row = {"split": "validation", "step": 7, "seconds": 1.25}
    asked.set_user_attr(ENDS, trial.PRUNED)
    (tmp_path / "trials/0000/seed-2").mkdir(parents=True)
    (tmp_path / "trials/0000/seed-2/metrics.jsonl").write_text(json.dumps(row))
    Worker(search, store, tmp_path, 1).run()
    (found,) = table.read_rows(store.study)
    assert found.result == trial.Result("pruned", [0.5, 0.5], 6.25)


def test_trials_that_would_be_equal_are_refused_and_not_trained(tmp_path, digits):
    config = resolve(load_config(TINY, {"train.steps": 5}))
    search = create_search(config, {"train.epochs": "1,2"}, sampler="grid")
    store = Store(search, tmp_path)
    Worker(search, store, tmp_path, 2).run()
    results = [row.result for row in table.read_rows(store.study)]
    assert [result.state for result in results] == ["refused", "refused"]
    assert "since config.train.steps=5" in results[0].error
    assert not [*tmp_path.glob("trials/*/seed-0")]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_worker_that_dies_before_it_draws_changes_no_value(sampler, tmp_path, digits):
    config, drawn = resolve(load_config(TINY, {"train.epochs": 1})), []
    for name in ("whole", "died"):
        space = {"optim.learning_rate": "1e-4:1e-1:log"}
        search = create_search(config, space, sampler=sampler)
        store = Store(search, tmp_path / name)
        if name == "died":
            store.study.ask()
        with contextlib.ExitStack() as held:
            trial = Worker(search, store, tmp_path / name, 1)._claim(held)
            drawn.append(trial.params)
    assert drawn[0] == drawn[1] != {}


def test_a_worker_of_another_machine_is_dead_once_its_heartbeat_stops(
    tmp_path, monkeypatch, digits
):
    monkeypatch.setattr(Heartbeats, "GRACE_SECONDS", 0.7)
    monkeypatch.setattr(Store, "has_locks", False)
    rows = searched(tmp_path, {}, {MACHINE: "another", BEAT: 5})
    assert [state for _, state, _ in rows] == ["complete", "complete"]


def test_locks_alone_tell_of_a_dead_worker_where_all_workers_see_them(tmp_path, digits):
    """As of an earlier version, or of a container that has another name now."""
    search = create_search(resolve(load_config(TINY, {})), {"optim.clip_norm": "1,2"})
    store = Store(search, tmp_path)
    store.study.ask().set_user_attr(MACHINE, "another")
    with contextlib.ExitStack() as held:
        assert Worker(search, store, tmp_path, 1)._claim(held) is not None


def test_a_trial_that_is_taken_over_has_a_heartbeat_at_once(
    tmp_path, monkeypatch, digits
):
    """Else a third worker, which heard the same silence, would take it over too."""
    monkeypatch.setattr(Heartbeats, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(Store, "has_locks", False)
    names = map(str, itertools.count())
    monkeypatch.setattr(worker, "machine", lambda: next(names))
    # The locks exclude nobody.
    monkeypatch.setattr(Worker, "trial_folder", lambda *_: tmp_path / next(names))
    search = create_search(resolve(load_config(TINY, {})), {"optim.clip_norm": "1,2"})
    store = Store(search, tmp_path)
    store.study.ask().set_user_attr(MACHINE, "another")
    workers, claims = [Worker(search, store, tmp_path, 1) for _ in range(2)], []
    for each in [*workers, *workers]:  # the first time, both begin to listen
        with contextlib.ExitStack() as held:
            claims.append(each._claim(held))
    assert [claim is not None for claim in claims] == [False, False, True, False]
    monkeypatch.setattr(Heartbeats, "BEAT_SECONDS", 0.01)
    first = now = claims[2].user_attrs[BEAT]
    with workers[0]._beating(claims[2]):
        for _ in range(1000):
            if now != first:
                break
            time.sleep(0.01)
            now = store.study.get_trials()[0].user_attrs[BEAT]
    assert now.startswith(first.removesuffix("0"))


def test_containers_of_one_host_are_machines_of_their_own(monkeypatch):
    names = []
    for name in ("a", "b"):
        monkeypatch.setattr(platform, "node", lambda name=name: name)
        names.append(machine())
    assert names[0] != names[1]


def test_runs_of_a_trial_that_won_before_stay_its_own(tmp_path, monkeypatch, digits):
    """A worker may still train them when another trial has become the winner."""
    places, said = [], []
    monkeypatch.setattr(
        retrain, "work_through", lambda parts, at, *_: places.append(at)
    )
    search = create_search(resolve(load_config(TINY, {})), {"optim.clip_norm": "1,2"})
    store, winners = Store(search, tmp_path), [0, 1, 1]
    for number in winners:
        row = SimpleNamespace(number=number, params={"optim.clip_norm": 1 + number})
        retrain.retrain(search, store, tmp_path, row, 1, said.append)
    assert places == [tmp_path / f"winner-trial-{number}" for number in winners]
    (line,) = said
    assert line.startswith(
        f"trial 0 won before, and its test results are in {places[0]}"
    )
    older = places[0].rename(tmp_path / "winner")  # as an earlier version called it
    write_json(older / "winner.json", {"trial": "0"})
    with pytest.raises(UserError, match=r"winner.json has an unreadable .*'trial'"):
        retrain.retrain(search, store, tmp_path, row, 1, said.append)
    write_json(older / "winner.json", {"trial": 0})
    retrain.retrain(search, store, tmp_path, row, 1, said.append)
    assert not older.exists()
    run = places[0] / f"seed-{search.config.seed}"
    run.mkdir(parents=True)
    write_json(run / "failure.json", {**Outcome("diverged")._asdict(), "config": {}})
    found = []
    for number in (0, 1):
        row = SimpleNamespace(number=number, params={"optim.clip_norm": 1 + number})
        found.append(retrain.read_outcomes(tmp_path, search, row, 1))
    assert [len(outcomes) for outcomes in found] == [1, 0]


def test_a_winner_is_trained_on_all_images_with_seeds_that_follow(
    tmp_path, monkeypatch, digits
):
    monkeypatch.setattr(retrain, "work_through", lambda parts, *_: parts)
    config = resolve(load_config(TINY, {"seed": 7, "train.patience": 3}))
    search = create_search(config, {"optim.clip_norm": "1,2"})
    row = SimpleNamespace(number=0, params={"optim.clip_norm": 2})
    parts = retrain.retrain(search, Store(search, tmp_path), tmp_path, row, 2, print)
    assert {name: config.seed for name, config in parts.items()} == {
        "seed-7": 7,
        "seed-8": 8,
    }
    for config in parts.values():
        assert (config.data.validation, config.data.test) == (0, True)
        assert (config.optim.clip_norm, config.train.patience) == (2, 0)


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_trials_of_one_seed_draw_different_values(name):
    def drawn(number, seed=0):
        sampler = samplers.create_sampler(name, seed, number)
        study = samplers.optuna().create_study(sampler=sampler)
        return study.ask().suggest_float("x", 0, 1)

    values = [drawn(number) for number in range(4)]
    assert values == [drawn(number) for number in range(4)]
    assert len({*values, drawn(0, seed=1)}) == 5


def test_trials_are_ranked_by_their_means_and_those_that_failed_come_last():
    study = samplers.optuna().create_study(direction="maximize")
    for state, values in (
        ("pruned", [0.9]),
        ("complete", [0.5, 0.7]),
        ("diverged", []),
        ("complete", [0.8, 0.6]),
        ("complete", [0.6, 0.6]),
    ):
        started, result = study.ask(), trial.Result(state, values, 1.0)
        started.set_user_attr(trial.RESULT, result._asdict())
        study.tell(started, result.value)
    study.ask()  # has not ended
    assert [row.number for row in table.read_rows(study)] == [3, 1, 4, 0, 2, 5]


def test_halving_compares_trials_from_a_ninth_of_their_evaluations():
    study = samplers.optuna().create_study(
        direction="maximize", pruner=samplers.PRUNERS["halving"](27)
    )
    ended = []
    for worth in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
        trial = study.ask()
        for evaluation in range(1, 28):
            trial.report(worth, evaluation)
            if trial.should_prune():
                break
        ended.append(evaluation)
    assert ended == [27, 3, 3, 3, 3, 3]


def test_a_trial_that_diverges_ends_no_healthy_one(tmp_path, monkeypatch, digits):
    """Also if it was the best of all before."""

    def run(parts, folder, report, callbacks):
        (config,) = parts.values()
        failing = config.train.sampling == "uniform"
        for evaluation in range(1, 9):
            if report(evaluation, 0.9 if failing else 0.5):
                return trial.Result("pruned", [], 1.0)
        if failing:
            return trial.Result("diverged", [], 1.0, "the loss is nan")
        return trial.Result("complete", [0.5], 1.0)

    monkeypatch.setattr(worker, "run_trial", run)
    rows = searched(tmp_path, {"train.epochs": 8}, pruner="halving")
    assert [(n, state) for n, state, _ in rows] == [(1, "complete"), (0, "diverged")]


def test_why_no_trial_is_complete_is_said():
    pruned = table.Row(0, {}, trial.Result("pruned", [], 0.0))
    diverged = table.Row(1, {}, trial.Result("diverged", [], 0.0, "the loss is nan"))
    assert sweep._why_incomplete([pruned, diverged]) == "the loss is nan"
    assert sweep._why_incomplete([pruned]) == "all were pruned"


def tried(monkeypatch, folder, accuracies, ends_at, seeds=1, **fields):
    """State of a trial, and the evaluations and accuracies that it was asked at.

    Args:
      accuracies: of each of its runs, one a step.
      ends_at: evaluation at which the trial is called hopeless.
    """

    def run(config, workdir, callbacks):
        for step, accuracy in enumerate(accuracies, 1):
            row = {"split": "validation", "step": step, "accuracy": accuracy}
            if any([callback(row) for callback in callbacks]):
                break
        return Outcome("complete", validation={"accuracy": accuracy})

    def report(evaluations, worth):
        asked.append((evaluations, round(worth, 4)))
        return evaluations == ends_at

    asked = []
    monkeypatch.setattr(trial, "run_config", run)
    schedule = {"train.steps": 6, "train.eval_every_steps": 1}
    config = resolve(load_config(TINY, schedule | fields))
    search = create_search(config, {"optim.clip_norm": "1,2"}, seeds=seeds)
    return trial.run_trial(search.parts({}), folder, report).state, asked


def test_runs_that_end_early_are_compared_at_the_same_evaluations(
    tmp_path, monkeypatch, digits
):
    accuracies, patience = [0.3, 0.9, 0.9, 0.9], {"train.patience": 2}
    state, asked = tried(monkeypatch, tmp_path, accuracies, 0, 2, **patience)
    first = [(1, 0.3), (2, 0.9), (3, 0.9), (4, 0.9), (6, 0.9)]
    assert asked == [*first, (7, 0.6), (8, 0.9), (9, 0.9)]
    assert state == "complete"
    state, asked = tried(monkeypatch, tmp_path, accuracies, 6, 2, **patience)
    assert (state, asked) == ("pruned", first)


def test_a_trial_with_nothing_left_to_train_is_complete(tmp_path, monkeypatch, digits):
    accuracies = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert tried(monkeypatch, tmp_path, accuracies, 6)[0] == "complete"
    assert tried(monkeypatch, tmp_path, accuracies, 5)[0] == "pruned"
    flat, patience = [0.5, 0.5, 0.5], {"train.patience": 2}
    assert tried(monkeypatch, tmp_path, flat, 3, **patience)[0] == "complete"


def test_a_trial_is_judged_by_the_checkpoint_that_its_runs_keep(
    tmp_path, monkeypatch, digits
):
    accuracies = [0.9, 0.5, 0.7, 0.6, 0.4, 0.3]
    for checkpoint, expected in (("best", [0.9] * 5), ("last", accuracies[:5])):
        fields = {"train.checkpoint": checkpoint}
        _, asked = tried(monkeypatch, tmp_path / checkpoint, accuracies, 0, **fields)
        assert [worth for _, worth in asked] == expected
