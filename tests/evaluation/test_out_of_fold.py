"""The table of out-of-fold predictions says the same when it is read again."""

import csv

import numpy as np
import pytest

from hybrid_jax.evaluation.out_of_fold import OutOfFold, read_csv, write_csv
from hybrid_jax.evaluation.predictions import Predictions


@pytest.mark.parametrize("has_groups", [True, False])
def test_a_table_is_read_as_it_was_written(tmp_path, has_groups):
    rng = np.random.default_rng(0)
    names = ['a, "b"', "c\nd", "é 1", "[x]", "path", "0"]
    scores = np.log(rng.dirichlet(np.ones(3), len(names)))
    scores[0] = -np.inf, 0, -1e4  # a network that is sure beyond all numbers
    groups = np.array(["p,1", "p,1", "q", "q", "é", "é"]) if has_groups else None
    labels = np.array([1, 0, 2, 2, 1, 0])
    predictions = Predictions(scores, labels, groups)
    folds = np.array([1, 1, 2, 2, 3, 3])
    written = OutOfFold(("group", "b;c", 'd"'), names, folds, predictions)
    write_csv(written, tmp_path / "a.csv")
    read = read_csv(tmp_path / "a.csv")
    assert (read.classes, read.names) == (written.classes, names)
    np.testing.assert_array_equal(read.folds, folds)
    np.testing.assert_array_equal(read.predictions.labels, labels)
    if has_groups:
        np.testing.assert_array_equal(read.predictions.groups, groups)
    else:
        assert read.predictions.groups is None
    found = read.predictions
    np.testing.assert_allclose(
        found.probabilities, predictions.probabilities, rtol=1e-8, atol=1e-300
    )
    assert np.isfinite(found.log_probabilities).all()
    sizes = [len(fold) for fold in read.by_fold()]
    assert sizes == [2, 2, 2]
    with pytest.raises(ValueError, match="other columns"):
        (tmp_path / "b.csv").write_text("image,class,predicted,fold,group\na,b,b,1,\n")
        read_csv(tmp_path / "b.csv")


def test_a_fold_has_its_own_images_with_their_groups():
    scores = np.log(np.random.default_rng(0).dirichlet(np.ones(2), 4))
    groups, labels = np.array(["p", "q", "p", "r"]), np.array([0, 1, 1, 0])
    predictions, folds = Predictions(scores, labels, groups), np.array([2, 1, 2, 1])
    found = OutOfFold(("a", "b"), [*"wxyz"], folds, predictions)
    for fold, rows in zip(found.by_fold(), ([1, 3], [0, 2]), strict=True):
        np.testing.assert_array_equal(fold.log_probabilities, scores[rows])
        np.testing.assert_array_equal(fold.labels, labels[rows])
        np.testing.assert_array_equal(fold.groups, groups[rows])


def test_a_table_that_lost_a_quotation_mark_is_read_as_damaged(tmp_path):
    header = "path,label,predicted,fold,group,a,b\n"
    rows = '"x,a,a,1,,0.5,0.5\n' + "y,a,a,1,,0.5,0.5\n" * 100
    (tmp_path / "a.csv").write_text(header + rows)
    before = csv.field_size_limit(1000)
    try:
        with pytest.raises(ValueError, match="field larger than field limit"):
            read_csv(tmp_path / "a.csv")
    finally:
        csv.field_size_limit(before)
