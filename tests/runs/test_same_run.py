"""A loaded run whose folder is deleted or trained anew before all of it was read."""

import pickle
import shutil

import jax
import numpy as np
import pytest

import hybrid_jax
from hybrid_jax.errors import UserError
from hybrid_jax.export import hub
from hybrid_jax.main import main
from hybrid_jax.runs import temperature
from tests.experiments import flags, small

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
REPLACED = r"checkpoints/\d+ was replaced since its run was loaded: load the run again$"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs of the same config but for its seed."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        command = ["hybrid-jax", *flags(seed=seed), f"--workdir={folder / str(seed)}"]
        assert main(command) == 0
    return folder


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained / "0", tmp_path / "run")


def replace(workdir, trained):
    """Train anew under the same name."""
    shutil.rmtree(workdir)
    shutil.copytree(trained / "1", workdir)


def test_weights_of_another_run_are_refused(trained, workdir):
    run, mean = hybrid_jax.load_run(workdir), hybrid_jax.load_run(workdir, "all")
    complete = hybrid_jax.fit(small(), None, workdir, verbose=False)
    expected = hybrid_jax.load_run(trained / "0").predict(IMAGES)
    replace(workdir, trained)
    for loaded in (run, mean, complete):
        with pytest.raises(UserError, match=REPLACED):
            loaded.predict(IMAGES)
    again = hybrid_jax.load_run(workdir)
    assert not np.array_equal(again.predict(IMAGES), expected)


def test_what_else_is_of_another_run_is_refused(trained, workdir):
    run = hybrid_jax.load_run(workdir)
    expected = run.predict(IMAGES)
    stored = pickle.loads(pickle.dumps(run))  # noqa: S301
    replace(workdir, trained)
    (workdir / "classifier.json").write_text('{"labels": []}')
    np.testing.assert_array_equal(run.predict(IMAGES), expected)
    for loaded in (run, stored):
        for read in (
            lambda loaded=loaded: loaded.conformal,
            lambda loaded=loaded: temperature.notes(loaded),
            lambda loaded=loaded: hub._labels(loaded),
        ):
            with pytest.raises(UserError, match=REPLACED):
                read()
    for name in ("train", "validation", "test"):
        with pytest.raises(UserError, match=REPLACED):
            run.evaluate(name)


def test_a_folder_that_is_gone_is_one_line(workdir):
    run, read = hybrid_jax.load_run(workdir), hybrid_jax.load_run(workdir)
    expected = read.evaluate("test")
    shutil.rmtree(workdir)
    with pytest.raises(
        UserError, match=r"was deleted or damaged since .* load the"
    ) as said:
        run.predict(IMAGES)
    assert len(str(said.value).splitlines()) == 1
    assert read.evaluate("test") == expected


def test_a_classifier_needs_its_folder_no_more(trained, workdir):
    classifier = hybrid_jax.Classifier.load(workdir)
    replace(workdir, trained)
    expected = hybrid_jax.load_run(trained / "0")
    for ours, theirs in zip(
        jax.tree.leaves(classifier.run_.variables),
        jax.tree.leaves(expected.variables),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_that_goes_on_in_its_folder_stays_itself(workdir):
    run = hybrid_jax.load_run(workdir)
    (workdir / "results.json").unlink()
    assert main(["hybrid-jax", *flags(), f"--workdir={workdir}"]) == 0
    run.predict(IMAGES)
    assert len(run.conformal.scores)
