"""One run in one folder: its end is kept, and nothing is run twice."""

import json

import matplotlib.pyplot as plt
import optuna
import pytest
from optuna.trial import TrialState
from rich.table import Table

from hybrid_jax.config.files import load_config
from hybrid_jax.config.resolve import resolve
from hybrid_jax.errors import ConfigMismatch, UserError
from hybrid_jax.programs import memory_fit
from hybrid_jax.sweeps import figures, runs
from hybrid_jax.sweeps.claims import claim
from hybrid_jax.sweeps.parts import work_through
from hybrid_jax.sweeps.progress import Status, WorkProgress
from hybrid_jax.sweeps.runs import InUse, read_outcome, run_config, share_done
from hybrid_jax.sweeps.trial import RESULT, Result
from tests.commands import ROOT

TINY = str(ROOT / "tests" / "sweeps" / "tiny.py")


def config(**fields):
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    return resolve(load_config(TINY, {"train.epochs": 1} | changed))


def test_a_run_ends_once_and_is_read_from_then_on(
    tmp_path, digits, capsys, monkeypatch
):
    tried = config(data__test=False)
    capsys.readouterr()
    first = run_config(tried, tmp_path / "a")
    assert first.is_complete
    assert first.test is None
    assert 0 <= first.validation["accuracy"] <= 1
    assert first.step == 5
    assert capsys.readouterr().out == ""
    assert "epoch 1.0/1" in (tmp_path / "a" / "log.txt").read_text()
    monkeypatch.setattr(runs, "fit", None)  # would fail
    assert run_config(tried, tmp_path / "a") == first
    with pytest.raises(ConfigMismatch, match=r"config\.seed is 0 there and 1 here"):
        run_config(config(data__test=False, seed=1), tmp_path / "a")


def test_a_run_says_how_much_of_it_is_done(tmp_path):
    assert share_done(config(), tmp_path) == 0
    row = {"split": "train", "step": 5, "epoch": 2.0}
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(row)}\n")
    assert share_done(config(train__epochs=8), tmp_path) == 0.25
    steps = resolve(load_config(TINY, {"train.steps": 50}))
    assert share_done(steps, tmp_path) == 0.1
    assert share_done(config(train__epochs=1), tmp_path) == 1


def test_a_config_that_fails_has_an_outcome_too(tmp_path, monkeypatch):
    diverging = config(data__test=False, debug__inject="nan@3")
    # Warm-up takes every step there is, which is known with the data alone.
    refused = diverging.replace({"train.batch_size": 500, "optim.warmup_epochs": 0.9})
    parts = {"diverging": diverging, "refused": refused}
    told = []
    outcomes = work_through(parts, tmp_path, lambda *about: told.append(about))
    assert told == [*outcomes.items()]
    assert [o.state for o in outcomes.values()] == ["diverged", "refused"]
    assert outcomes["diverging"].step in (3, 4)
    assert "the loss is nan at step" in outcomes["diverging"].error
    assert "warm-up takes all" in outcomes["refused"].error
    frozen = config(data__test=False, freeze=("nowhere",))
    refused = run_config(frozen, tmp_path / "frozen")
    assert (refused.state, "'nowhere'" in refused.error) == ("refused", True)
    monkeypatch.setattr(runs, "fit", None)
    assert work_through(parts, tmp_path) == outcomes


def test_a_run_that_diverged_is_tried_anew_with_the_way_out(tmp_path, digits):
    diverging = config(data__test=False, debug__inject="nan@3")
    assert run_config(diverging, tmp_path / "a").state == "diverged"
    way_out = diverging.replace({"train.non_finite": "skip"})
    assert "config.train.non_finite=skip" in read_outcome(tmp_path / "a").error
    with pytest.warns(UserWarning, match="leaving out batch 3 and 4"):
        assert run_config(way_out, tmp_path / "a").state == "complete"
    assert read_outcome(tmp_path / "a").is_complete


def test_a_run_that_one_machine_refused_is_tried_anew_on_another(tmp_path, digits):
    too_many = config(data__test=False, parallel__devices=1000)
    refused = run_config(too_many, tmp_path / "a")
    assert (refused.state, "1000" in refused.error) == ("refused", True)
    assert run_config(too_many, tmp_path / "a") == refused
    assert run_config(config(data__test=False), tmp_path / "a").is_complete


def test_a_run_that_lacked_memory_is_tried_anew_where_there_is_more(
    tmp_path, digits, monkeypatch
):
    small = config(data__test=False)
    monkeypatch.setattr(memory_fit, "device_memory", lambda: 10**6)
    monkeypatch.setattr(runs, "device_memory", lambda: 10**6)
    lacking = run_config(small, tmp_path / "a")
    assert lacking.state == "out of memory"
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_run", None)  # would fail
        assert run_config(small, tmp_path / "a") == lacking
    monkeypatch.undo()
    assert run_config(small, tmp_path / "a").is_complete


def test_what_another_worker_holds_is_left_to_it(tmp_path):
    with claim(tmp_path / "a") as is_mine, claim(tmp_path / "a") as is_mine_too:
        assert (is_mine, is_mine_too) == (True, False)
        with pytest.raises(InUse):
            run_config(config(), tmp_path / "a")
    with claim(tmp_path / "a") as is_mine:
        assert is_mine


@pytest.mark.parametrize(
    ("name", "value"),
    [("state", 3), ("seconds", "x"), ("config", None), ("step", None), ("error", 5)],
    ids=str,
)
def test_a_failure_of_wrong_types_is_named(name, value, tmp_path):
    config_of = config(data__test=False, freeze=("nowhere",))
    run_config(config_of, tmp_path)
    path = tmp_path / "failure.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    told = rf"failure\.json has an unreadable entry '{name}': delete it to try the run"
    with pytest.raises(UserError, match=told):
        run_config(config_of, tmp_path)
    for damaged, told in (("{", "cannot be read"), ("{}", "has no entry")):
        path.write_text(damaged)
        with pytest.raises(UserError, match=f"{told} .*: delete it to try the run"):
            run_config(config_of, tmp_path)


def trial(state, value):
    return optuna.trial.create_trial(
        params={"rate": value},
        distributions={"rate": optuna.distributions.FloatDistribution(0.0, 1.0)},
        state=TrialState.PRUNED if state == "pruned" else TrialState.COMPLETE,
        value=value if state == "complete" else 0.0,
        user_attrs={RESULT: Result(state, [value], 1.0)._asdict()},
    )


def test_names_under_axes_are_turned_and_numbers_are_not():
    figure, (left, right) = plt.subplots(1, 2)
    left.bar(["'astroformer_pico_cccc'", "'astroformer_pico_cctt'"], [1, 2])
    right.plot([0.1, 1e-9])
    figures._turn_names(figure)
    figure.canvas.draw()
    turned, straight = (
        {label.get_rotation() for label in axes.get_xticklabels()}
        for axes in (left, right)
    )
    assert (turned, straight) == ({45}, {0})
    plt.close(figure)


def test_a_table_breaks_no_name_without_a_terminal(capsys):
    table, names = Table("model.name", "optim.learning_rate"), ["m" * 90, "v" * 90]
    table.add_row(*names)
    with WorkProgress("sweep", "trials", 0, lambda: Status({})) as progress:
        progress.show(table)
    assert " │ ".join(names) in capsys.readouterr().out


def test_figures_leave_out_trials_that_have_no_accuracy(tmp_path, monkeypatch):
    """In the storage, a failure has the worst accuracy, which nobody measured."""
    study = optuna.create_study(direction="maximize")
    states = ("complete", "diverged", "complete", "refused", "pruned")
    study.add_trials([trial(s, 0.5 + n / 10) for n, s in enumerate(states)])
    drawn = []
    plot = "optuna.visualization.matplotlib.plot_slice"
    monkeypatch.setattr(plot, lambda study, **_: drawn.append(study) or plt.figure())
    notes = figures.draw(study, tmp_path)
    assert "figures leave out 2 failed trials and 1 pruned trial" in notes
    done = drawn[0].get_trials(states=[TrialState.COMPLETE])
    assert [(each.number, each.value) for each in done] == [(0, 0.5), (2, 0.7)]
    assert (tmp_path / "slices.png").exists()
