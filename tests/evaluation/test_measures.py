"""Measures, intervals and calibration against scikit-learn, SciPy and simulations."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax
from sklearn import metrics as sklearn_metrics
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from hybrid_jax.console import Reporter
from hybrid_jax.evaluation import bootstrap, report, selective
from hybrid_jax.evaluation.calibration import fit_temperature, reliability
from hybrid_jax.evaluation.comparison import compare
from hybrid_jax.evaluation.evaluate import Evaluation
from hybrid_jax.evaluation.measures import BINS, MEASURES, measure
from hybrid_jax.evaluation.per_class import per_class
from hybrid_jax.evaluation.prediction_sets import judge_sets
from hybrid_jax.evaluation.predictions import Predictions, average, confusion_matrix

CLASSES = 7


def simulated(images=400, seed=0, sharpness=1.5, groups=None):
    """Logits that are right more often than not, and too sure of themselves."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES - 1, images)  # the last class has no image
    logits = rng.normal(size=(images, CLASSES))
    logits[np.arange(images), labels] += 1.2
    return Predictions(log_softmax(sharpness * logits, 1), labels, groups)


@pytest.fixture(scope="module")
def predictions():
    return simulated()


def test_measures_are_those_of_scikit_learn(predictions):
    p, labels, names = predictions.probabilities, predictions.labels, range(CLASSES)
    guess = p.argmax(1)
    present = sorted({*labels.tolist(), *guess.tolist()})
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, guess),
        "top5": sklearn_metrics.top_k_accuracy_score(labels, p, k=5, labels=names),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, guess),
        "macro_f1": sklearn_metrics.f1_score(
            labels, guess, average="macro", labels=present
        ),
        "nll": sklearn_metrics.log_loss(labels, p, labels=names),
        "brier": sklearn_metrics.brier_score_loss(labels, p, labels=[*names]),
    }
    for name, value in expected.items():
        assert measure(predictions, name) == pytest.approx(value, rel=1e-6), name
    assert {*MEASURES} == {*expected, "ece"}


def test_calibration_error_is_that_of_its_definition(predictions):
    confidence, correct = predictions.confidence, predictions.correct
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    number = np.digitize(confidence, edges)
    expected = sum(
        (number == i).mean()
        * abs(confidence[number == i].mean() - correct[number == i].mean())
        for i in {*number.tolist()}
    )
    assert measure(predictions, "ece") == pytest.approx(expected)
    rows = reliability(predictions)
    assert sum(row.images for row in rows) == len(predictions)
    fullest = max(rows, key=lambda row: row.images)
    inside = (confidence >= fullest.low) & (confidence < fullest.high)
    assert fullest.accuracy == pytest.approx(correct[inside].mean())


def test_classes_are_judged_as_scikit_learn_does(predictions):
    names = tuple("abcdefg")
    rows = per_class(predictions, names)
    guess, labels = predictions.predicted, predictions.labels
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, guess, labels=range(CLASSES), zero_division=np.nan
    )
    for i, row in enumerate(rows):
        assert row.name == names[i]
        assert row.support == support[i]
        assert row.recall.value == pytest.approx(recall[i], nan_ok=True)
        assert row.precision.value == pytest.approx(precision[i], nan_ok=True)
        own = labels == i
        specificity = sklearn_metrics.recall_score(~own, guess != i)
        assert row.specificity.value == pytest.approx(specificity)
        if own.any():
            assert row.f1 == pytest.approx(f1[i])
            scores = predictions.log_probabilities[:, i]
            assert row.auc == pytest.approx(sklearn_metrics.roc_auc_score(own, scores))
    assert np.isnan(rows[-1].recall.value)
    assert np.isnan(rows[-1].auc)
    np.testing.assert_array_equal(
        confusion_matrix(predictions),
        sklearn_metrics.confusion_matrix(labels, guess, labels=range(CLASSES)),
    )


def test_of_many_classes_those_of_least_recall_are_shown():
    # Half of the classes have one group, and so a recall without an interval.
    labels = np.repeat(np.arange(22), 2)
    guess = np.where(labels < 4, labels + 1, labels)
    groups = np.array([f"{n // 2}" if n // 2 % 2 else f"{n}" for n in range(44)])
    predictions = Predictions(np.log(np.eye(22)[guess] + 1e-3), labels, groups)
    names = tuple(f"c{n}" for n in range(22))
    found = Evaluation("", "test", names, [], predictions)
    assert {row.recall.low is None for row in found.per_class} == {True, False}
    shown = [*report._class_table(found, 80).columns[0].cells]
    assert shown == [*names[:20]]


@pytest.mark.parametrize(
    ("width", "missing"),
    [
        (200, ""),
        (80, "specificity, AUC"),
        (70, "specificity, AUC, F1"),
        (50, "specificity, AUC, F1, 95 % interval"),
    ],
)
def test_a_narrow_screen_names_the_columns_it_leaves_out(width, missing, predictions):
    classes = tuple(f"class number {n}" for n in range(CLASSES))
    found = Evaluation("", "test", classes, [], predictions)
    table = report._class_table(found, width)
    assert [*table.columns[0].cells] == [*classes]
    expected = f"classes.csv of --output also has {missing}" if missing else None
    assert table.caption == expected
    assert report._width({c.header: [*c.cells] for c in table.columns}) <= width


def test_a_temperature_that_makes_probabilities_worse_is_reported(predictions, capsys):
    names = tuple(f"c{n}" for n in range(CLASSES))
    worse = "the temperature that validation chose makes probabilities worse"
    for temperature, is_said in ((None, False), (5.0, True)):
        found = Evaluation("", "test", names, [], predictions, temperature)
        report.show(found, Reporter())
        assert (worse in capsys.readouterr().out) == is_said


def test_temperature_is_that_of_scikit_learn(predictions):
    class Logits(ClassifierMixin, BaseEstimator):
        classes_ = np.arange(CLASSES)

        def fit(self, x, y):
            return self

        def __sklearn_is_fitted__(self):
            return True

        def predict(self, x):
            return x.argmax(1)

        def decision_function(self, x):
            return x

    held, other = predictions.log_probabilities, simulated(seed=1)
    labels = predictions.labels.copy()
    labels[:5] = CLASSES - 1  # scikit-learn wants an image of each class
    fitted = Predictions(held, labels)
    theirs = CalibratedClassifierCV(FrozenEstimator(Logits()), method="temperature")
    theirs.fit(held, labels)
    found = other.scaled(fit_temperature(fitted)).probabilities
    expected = theirs.predict_proba(other.log_probabilities)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert fit_temperature(fitted) > 1  # they were too sure
    assert measure(other.scaled(fit_temperature(fitted)), "nll") < measure(other, "nll")
    perfect = Predictions(held, held.argmax(1))
    assert fit_temperature(perfect) is None  # the loss falls with it, without end


@pytest.mark.parametrize(
    "name", ["accuracy", "nll", "balanced_accuracy", "macro_f1", "brier"]
)
def test_intervals_cover_as_often_as_they_claim(name, monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)
    truth = measure(simulated(200_000, seed=99), name)
    hits, tries = 0, 200
    for seed in range(tries):
        (found,) = bootstrap.estimate(simulated(300, seed), [name], seed).values()
        hits += found.low <= truth <= found.high
    # 95 %, with room for chance and for what a bootstrap of 300 images lacks.
    assert stats.binomtest(hits, tries, 0.935).pvalue > 1e-3


def test_groups_make_intervals_wider():
    alone = simulated(100)
    tenfold = Predictions(
        np.repeat(alone.log_probabilities, 10, 0), np.repeat(alone.labels, 10)
    )
    grouped = Predictions(
        tenfold.log_probabilities, tenfold.labels, np.repeat(np.arange(100), 10)
    )

    def width(predictions, name):
        found = bootstrap.estimate(predictions, [name])[name]
        return found.high - found.low

    recalls = [per_class(p, tuple("abcdefg"))[0].recall for p in (grouped, tenfold)]
    assert recalls[0].value == recalls[1].value
    assert recalls[0].high - recalls[0].low > 2 * (recalls[1].high - recalls[1].low)
    for name in ("accuracy", "nll"):
        # Ten copies of an image tell no more than one, if they are known for copies.
        assert width(grouped, name) == pytest.approx(width(alone, name), rel=0.15)
        assert width(tenfold, name) < 0.45 * width(alone, name)


def test_a_perfect_score_is_not_certain():
    perfect = Predictions(np.log(np.full((20, 2), [0.9, 0.1])), np.zeros(20, int))
    names = ["accuracy", "balanced_accuracy", "macro_f1"]
    found, *others = bootstrap.estimate(perfect, names).values()
    assert found.value == 1
    assert found.low == pytest.approx(0.8389, abs=1e-4)  # Wilson, by hand
    # These are no shares of images, and all draws of them are equal.
    assert [*map(tuple, others)] == [(1, None, None), (1, None, None)]
    same = compare(perfect, perfect)
    assert (same.difference, same.low, same.high) == (0, None, None)


def test_few_groups_tell_little():
    """A perfect score of three patients is less certain, one patient tells nothing."""
    scores, labels = np.log(np.full((40, 2), [0.9, 0.1])), np.zeros(40, int)
    three = Predictions(scores, labels, np.arange(40) % 3)
    one = Predictions(scores, labels, np.zeros(40, int))
    found = bootstrap.estimate(three, ["accuracy"])["accuracy"]
    assert found[1:] == pytest.approx(bootstrap.proportion(1.0, 3))
    assert bootstrap.accuracy_interval(three.correct, three.groups) == found[1:]
    assert per_class(three, ("a", "b"))[0].recall == found
    sets = judge_sets(three, np.ones((40, 2), bool), 0.9)
    assert (sets.coverage, sets.size) == (found, (2.0, None, None))
    for estimate in (
        *bootstrap.estimate(one, ["accuracy", "nll"]).values(),
        per_class(one, ("a", "b"))[0].recall,
        judge_sets(one, np.ones((40, 2), bool), 0.9).coverage,
    ):
        assert estimate[1:] == (None, None)
    assert bootstrap.accuracy_interval(one.correct, one.groups) == (None, None)
    (bin_of_all,) = (row for row in reliability(three) if row.images)
    assert (bin_of_all.accuracy_low, bin_of_all.accuracy_high) == found[1:]


def test_one_image_or_group_has_no_bootstrap():
    one = Predictions(np.log([[0.7, 0.2, 0.1]]), np.array([0]))
    found = bootstrap.estimate(one, ["accuracy", "balanced_accuracy", "nll"])
    assert found["accuracy"].low == pytest.approx(0.2065, abs=1e-4)  # Wilson's
    assert found["balanced_accuracy"][1:] == found["nll"][1:] == (None, None)
    assert judge_sets(one, np.ones((1, 3), bool), 0.9).size == (3, None, None)
    several = Predictions(np.log(np.full((4, 2), [0.9, 0.1])), np.array([0, 1, 0, 1]))
    other = Predictions(several.log_probabilities[:, ::-1], several.labels)
    grouped = Predictions(several.log_probabilities, several.labels, np.zeros(4))
    for first, second in ((one, one), (grouped, other)):
        found = compare(first, second)
        assert (found.low, found.high) == (None, None)
        assert " points; this one alone is right on " in report.compared(found)
    assert " points (-100.00 to +100.00); this one" in report.compared(
        compare(several, other)
    )


def test_wilsons_interval_is_that_of_scipy_and_takes_any_share():
    for right, images in ((0, 1), (1, 1), (0, 7), (3, 7), (7, 7), (4980, 5000)):
        expected = stats.binomtest(right, images).proportion_ci(0.95, "wilson")
        assert bootstrap.proportion(right / images, images) == pytest.approx(expected)
    # Two groups, in each of which one of four images is right.
    right, groups = np.array([1, 0, 0, 0] * 2, bool), np.repeat([0, 1], 4)
    low, high = bootstrap.accuracy_interval(right, groups)
    assert 0 < low < 0.25 < high < 1
    z = stats.norm.ppf(0.975)  # the ends are where the score test rejects
    for end in (low, high):
        assert abs(0.25 - end) == pytest.approx(z * np.sqrt(end * (1 - end) / 2))


def test_errors_that_are_left_are_counted(predictions):
    curve = selective.risk_coverage(predictions)
    answered = curve.answered(0.1)
    sure = predictions.confidence >= answered.confidence
    assert answered.images == sure.sum()
    assert answered.coverage == pytest.approx(sure.mean())
    assert answered.errors == (~predictions.correct[sure]).sum()
    assert answered.errors / answered.images <= 0.1
    low, high = selective.risks(predictions, [answered.confidence])[0][1:]
    assert low < answered.errors / answered.images < high
    assert curve.risk[-1] == pytest.approx(1 - measure(predictions, "accuracy"))
    assert curve.coverage[-1] == 1
    hopeless = Predictions(
        predictions.log_probabilities, (predictions.predicted + 1) % 7
    )
    assert selective.risk_coverage(hopeless).answered(0.5) is None
    alike = Predictions(np.log(np.full((4, 2), 0.5)), np.array([0, 1, 0, 1]))
    assert selective.risk_coverage(alike).risk.tolist() == [0.5]


def test_models_are_compared_image_by_image(predictions):
    other = Predictions(simulated(seed=5).log_probabilities, predictions.labels)
    found = compare(predictions, other)
    ahead = (predictions.correct & ~other.correct).sum()
    behind = (~predictions.correct & other.correct).sum()
    assert (found.first_only, found.second_only) == (ahead, behind)
    assert found.difference == pytest.approx((ahead - behind) / 400)
    assert found.low < found.difference < found.high
    # McNemar's exact test by its definition: both tails of a fair coin.
    n, k = ahead + behind, min(ahead, behind)
    assert found.p_value == pytest.approx(min(1, 2 * stats.binom.cdf(k, n, 0.5)))
    same = compare(predictions, predictions)
    assert same[:3] == (0, None, None)
    assert same.p_value == 1


def test_an_ensemble_is_the_mean_of_probabilities(predictions):
    other = Predictions(simulated(seed=5).log_probabilities, predictions.labels)
    mean = (predictions.probabilities + other.probabilities) / 2
    np.testing.assert_allclose(average([predictions, other]).probabilities, mean)


def test_comparisons_and_sizes_of_sets_draw_whole_groups():
    """Ten copies of an image tell no more than one, if they are known for copies."""
    one = simulated(100)
    other = Predictions(simulated(100, seed=5).log_probabilities, one.labels)
    copies = [
        Predictions(
            np.repeat(p.log_probabilities, 10, 0),
            np.repeat(p.labels, 10),
            np.repeat(np.arange(100), 10),
        )
        for p in (one, other)
    ]

    def width(found):
        return found.high - found.low

    expected = width(compare(one, other))
    assert width(compare(*copies)) == pytest.approx(expected, rel=0.15)
    sizes = [judge_sets(p, p.probabilities > 0.1, 0.9).size for p in (one, copies[0])]
    assert width(sizes[1]) == pytest.approx(width(sizes[0]), rel=0.15)


def test_each_share_of_each_class_has_its_own_interval():
    """A bootstrap of groups of one image comes close to Wilson's intervals."""
    labels = np.repeat(np.arange(3), 200)
    draws = np.random.default_rng(0).random(600)
    is_wrong = draws < np.array([0.05, 0.3, 0.6])[labels]
    guess = np.where(is_wrong, (labels + 1) % 3, labels)
    scores = np.log(np.eye(3)[guess] + 0.01)
    alone, grouped = (
        per_class(Predictions(scores, labels, groups), tuple("abc"))
        for groups in (None, np.arange(600))
    )
    for ours, theirs in zip(grouped, alone, strict=True):
        for name in ("recall", "precision", "specificity"):
            expected = pytest.approx(tuple(getattr(theirs, name)), abs=0.02)
            assert tuple(getattr(ours, name)) == expected


def test_the_area_is_the_mean_risk_over_all_coverages():
    """By hand: a quarter of the images at risk 1, half at 2/3, a quarter at 1/2."""
    confidence = np.array([0.9, 0.7, 0.7, 0.6])
    scores = np.log(np.stack([confidence, 1 - confidence], 1))
    curve = selective.risk_coverage(Predictions(scores, np.array([1, 0, 1, 0])))
    assert curve.coverage.tolist() == [0.25, 0.75, 1]
    assert curve.area == pytest.approx(0.25 + 0.5 * 2 / 3 + 0.25 / 2)
