"""Intervals of means over classes, of which resamples may lack some."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import log_softmax

from hybrid_jax.console import Reporter
from hybrid_jax.evaluation import bootstrap, fold_report, report
from hybrid_jax.evaluation.evaluate import Evaluation
from hybrid_jax.evaluation.measures import MEASURES, measure
from hybrid_jax.evaluation.out_of_fold import OutOfFold
from hybrid_jax.evaluation.predictions import Predictions

NAMES = ["balanced_accuracy", "macro_f1"]


def answered(labels, answers, classes, groups=None):
    """Predictions of some answers."""
    scores = log_softmax(3.0 * np.eye(classes)[answers], 1)
    return Predictions(scores, np.asarray(labels), groups)


@pytest.mark.parametrize("has_groups", [False, True])
def test_a_class_that_resamples_lack_leaves_the_mean_as_it_is(has_groups):
    """A network that always gives one class is right on 1/10, and never on 1/9."""
    labels = np.repeat(np.arange(10), 2)
    groups = np.arange(20) if has_groups else None
    always = answered(labels, np.zeros(20, int), 10, groups)
    found = bootstrap.estimate(always, NAMES)
    assert found["balanced_accuracy"] == (0.1, None, None)
    # 97.5 % of the draws have at most 5 images of the class, a tenth of the mean.
    assert found["macro_f1"].high <= 2 * 5 / (5 + 20) / 10 + 1e-9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("has_groups", [False, True])
def test_resamples_are_centered_on_the_measure(name, has_groups):
    labels = np.repeat([0, 1, 2], [40, 40, 3])
    answers = labels.copy()
    answers[::4] = 0
    answers[80:] = 0  # the network knows nothing of the rare class
    groups = np.arange(83) if has_groups else None
    found = answered(labels, answers, 3, groups)
    (draws,) = bootstrap._resampled(found, [name], 0).values()
    assert draws.mean() == pytest.approx(measure(found, name), abs=0.005)
    assert draws.max() < 0.69  # where it knows two classes of three, by the best draw


def test_a_resample_without_an_image_of_a_class_keeps_the_classs_result():
    """Also where other images are taken for the class, so that its F1 is not 0/0."""
    found = answered([0, 0, 1, 1], [0, 1, 1, 1], 2)
    for name in NAMES:
        row = MEASURES[name]
        columns = row.columns(found)
        lacks_second = columns[:2].sum(0)
        value = row.value(lacks_second, np.asarray(2), columns.sum(0))
        own, kept = {"balanced_accuracy": (0.5, 1), "macro_f1": (2 / 3, 0.8)}[name]
        assert value == pytest.approx((own + kept) / 2)


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        (None, "a single image of class 'c' tells nothing of others"),
        (
            [0, 0, 1, 1, 2],
            "a single group of images of the classes 'a', 'b', 'c' tells",
        ),
    ],
)
def test_a_class_of_one_image_or_group_leaves_no_interval(groups, told, capsys):
    labels, names = np.array([0, 0, 1, 1, 2]), ("a", "b", "c", "unseen")
    groups = None if groups is None else np.array(groups)
    predictions = answered(labels, [0, 1, 1, 0, 2], 4, groups)
    found = bootstrap.estimate(predictions, [*NAMES, "accuracy", "nll"])
    assert [found[name].low for name in NAMES] == [None, None]
    assert None not in (found["accuracy"].low, found["nll"].low)
    with Reporter() as console:
        report.show(Evaluation("", "test", names, [], predictions), console)
    said = " ".join(capsys.readouterr().out.split())
    assert f"Left out: Intervals of balanced accuracy and macro F1: {told}" in said
    several = answered(np.repeat(labels[:4], 2), [0] * 8, 4)
    assert report.missing_intervals(several, names) == ""


def test_out_of_fold_predictions_say_what_has_no_interval(monkeypatch, tmp_path):
    predictions = answered([0, 0, 1, 1, 2], [0, 1, 1, 0, 2], 3)
    folds = np.array([0, 1, 0, 1, 0])
    found = OutOfFold(("a", "b", "c"), [*"vwxyz"], folds, predictions)
    monkeypatch.setattr(fold_report, "_read", lambda *_: found)
    monkeypatch.setattr(fold_report, "_show_labels_to_check", lambda *_: None)
    said = []
    console = SimpleNamespace(say=said.append, show=lambda table: None)
    fold_report.report(tmp_path, {Path("0"): 0, Path("1"): 1}, {}, console)
    (note,) = (line for line in said if line.startswith("Left out: "))
    assert "macro F1: a single image of class 'c' tells nothing of others" in note
