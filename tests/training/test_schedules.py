"""Learning rates, step by step, against values worked out by hand and PyTorch's."""

import numpy as np
import pytest

from hybrid_jax.config.resolve import default, resolve
from hybrid_jax.config.schema import OptimConfig
from hybrid_jax.errors import UserError
from hybrid_jax.training.schedules import SCHEDULES, Lengths

PEAK = 0.4


def rates(name, lengths, **fields):
    config = OptimConfig(learning_rate=PEAK, schedule=name, **fields)
    schedule = SCHEDULES[name](config, lengths)
    return np.array([float(schedule(step)) for step in range(lengths.total)])


@pytest.mark.parametrize("name", ["cosine", "step", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_warmup_rises_linearly_from_0_to_the_peak(name, warmup):
    found = rates(name, Lengths(warmup, 12, (8,)))
    np.testing.assert_allclose(found[:warmup], PEAK * np.arange(warmup) / (warmup or 1))
    assert found[warmup] == pytest.approx(PEAK)
    assert found.max() == pytest.approx(PEAK)


def test_cosine_falls_to_0_at_the_end():
    found = rates("cosine", Lengths(10, 110))
    t = np.arange(100) / 100
    np.testing.assert_allclose(
        found[10:], PEAK * (1 + np.cos(np.pi * t)) / 2, rtol=1e-5, atol=1e-8
    )


def test_constant_stays_at_the_peak():
    np.testing.assert_allclose(rates("constant", Lengths(3, 9))[3:], PEAK, rtol=1e-6)


def test_steps_fall_as_those_of_pytorch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [4, 7], gamma=0.2)
    expected = []
    for _ in range(10):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    for warmup in (0, 3):
        found = rates("step", Lengths(warmup, 10, (4, 7)), decay_factor=0.2)
        np.testing.assert_allclose(found[warmup:], expected[warmup:], rtol=1e-6)


def test_epochs_that_end_in_one_step_fall_there_together():
    found = rates("step", Lengths(0, 4, (2, 2)), decay_factor=0.1)
    np.testing.assert_allclose(found, PEAK * np.array([1, 1, 0.01, 0.01]), rtol=1e-6)


@pytest.mark.parametrize(("warmup", "total"), [(3, 10), (29, 100), (57, 190)])
def test_one_cycle_rises_and_falls_as_pytorch_says(warmup, total):
    """`OneCycleLR` ends its rise a step earlier than its share says."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK, total_steps=total + 1, pct_start=(warmup + 1) / (total + 1)
    )
    expected = []
    for _ in range(total):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    found = rates("one_cycle", Lengths(warmup, total))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)
    assert found.argmax() == warmup


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"schedule": "one_cycle", "warmup_epochs": 0},
            r"'one_cycle' rises during warm-up, .* such as .*warmup_epochs=",
        ),
        (
            {"schedule": "step"},
            r"needs epochs .*: give config.optim.decay_epochs, such",
        ),
        (
            {"schedule": "step", "decay_epochs": (10, 20)},
            r"decay_epochs=\(10, 20\) has 20, and .*before config.train.epochs=20",
        ),
        (
            {"schedule": "step", "decay_epochs": (5,)},
            r"has 5, and .* only after config.optim.warmup_epochs=5",
        ),
        (
            {"decay_epochs": (9,)},
            "decay_epochs=.* has no effect with .*schedule='cosine'",
        ),
        (
            {"momentum": 0.5},
            "momentum=0.5 has no effect with config.optim.name='adamw'",
        ),
    ],
)
def test_schedules_that_cannot_be_are_refused(fields, message):
    config = default()
    config.train.epochs = 20
    config.optim.update(fields)
    with pytest.raises(UserError, match=message):
        resolve(config)
