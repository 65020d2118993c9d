"""Layers on `sys.unraisablehook`: they do not pile up, and end with their run."""

import gc
import sys
import types
import weakref

import pytest

from hybrid_jax.checkpoints.writer import CheckpointWriter
from hybrid_jax.parallel.signals import Interruption
from hybrid_jax.unraisable import Layer, layers


def hooks_after_failure(folder):
    """The layers that a run leaves whose step fails, and whether it is gone."""
    run = Interruption()
    with (
        pytest.raises(ValueError, match="of the run"),
        run,
        CheckpointWriter(folder, keep=2),
    ):
        raise ValueError("of the run")
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None
    return [*layers()]


def test_failed_runs_leave_no_more_layers_than_one(tmp_path):
    with Interruption(), CheckpointWriter(tmp_path, keep=2):
        pass  # it removes what failed runs of other tests have left
    before = sys.unraisablehook
    first = hooks_after_failure(tmp_path)
    assert hooks_after_failure(tmp_path) == hooks_after_failure(tmp_path) == first
    assert len([layer for layer in first if layer.handles]) == 1  # of closed loops
    with Interruption(), CheckpointWriter(tmp_path, keep=2):
        pass
    assert sys.unraisablehook is before


def test_a_removed_layer_under_another_handles_no_more(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    lower, upper = Layer(lambda _: True), Layer(lambda _: False)
    error = types.SimpleNamespace(exc_value=ValueError())
    sys.unraisablehook(error)
    assert heard == []
    lower.remove()
    sys.unraisablehook(error)
    assert heard == [error]
    upper.remove()
    assert [*layers()] == []
