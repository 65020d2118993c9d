"""A test split that a run left unread can be evaluated later."""

import shutil

import pytest

import hybrid_jax
from hybrid_jax.errors import UserError
from hybrid_jax.runs.run import Run
from hybrid_jax.runs.unread_test import with_test_split
from tests.experiments import small
from tests.runs.test_run import write_digits


def trained(folder, name, **fields) -> Run:
    cells = str(folder / "cells")
    config = small(data__name="folder", data__path=cells, data__per_class=0, **fields)
    return hybrid_jax.fit(config, workdir=folder / name, verbose=False)


def test_a_test_split_that_was_left_unread_is_read_when_it_is_named(tmp_path):
    write_digits(tmp_path / "cells", slice(0, 200))
    tested = trained(tmp_path, "tested").results["test"]
    run = trained(tmp_path, "unread", data__test=False)
    assert "test" not in run.results
    assert "test" not in run.splits
    names = ("loss", "accuracy")
    expected = pytest.approx([tested[name] for name in names], rel=1e-5)
    assert [run.evaluate("test")[name] for name in names] == expected
    assert "test" not in run.splits  # what is evaluated by default stays the same
    loaded = hybrid_jax.load_run(tmp_path / "unread")
    assert [loaded.evaluate("test")[name] for name in names] == expected

    # Another image changes the draw, and a test image may be one of training.
    shutil.copy(tmp_path / "cells/no/000.png", tmp_path / "cells/no/more.png")
    with pytest.raises(UserError, match="changed meanwhile"):
        with_test_split(run.splits, run.config)
