"""Values and combinations that are refused, with advice that can be followed."""

import re

import pytest

from hybrid_jax.config import files
from hybrid_jax.config import resolve as configs
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.config.suggestions import warmup_field
from hybrid_jax.errors import UserError


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model.name": "vit_tiny", "model.padding": "circular"}, "take a hybrid"),
        (
            {"model.name": "maxvit_tiny", "model.downsample": "aps"},
            "at fixed positions",
        ),
        (
            {
                "model.name": "wrn_16_2",
                "data.image_size": (30, 30),
                "model.downsample": "aps",
            },
            r"config.model.downsample='aps' .* by 4.* 32x32 would do",
        ),
    ],
)
def test_choices_that_cannot_be_equivariant_are_refused(fields, said):
    with pytest.raises(UserError, match=said):
        configs.resolve(files.load_config("digits", fields))


@pytest.mark.parametrize("text", ["(x{99999999999999})", "~" * 9000 + "1"])
def test_patterns_that_python_cannot_compile_or_parse_are_refused(text):
    for name in ("freeze", "data.image_size"):
        with pytest.raises(UserError, match=rf"config\.{name}=.* is not allowed"):
            configs.read_value(name, text)


@pytest.mark.parametrize(
    "fields",
    [
        {"train.steps": 5, "optim.warmup_steps": 5},
        {"train.steps": 1, "optim.warmup_steps": 1},
        {"train.steps": 10, "optim.schedule": "one_cycle"},
        {"train.epochs": 10, "optim.schedule": "one_cycle"},
    ],
)
def test_a_shorter_or_longer_warm_up_is_one_that_is_taken(fields):
    config = Config().replace({"optim.warmup_epochs": 0.0} | fields)
    with pytest.raises(UserError, match=r"such as --config\.") as error:
        configs.resolve(config)
    advice = re.findall(r"--config\.(\S+)=(\S+)", str(error.value))
    assert advice
    changed = {name: type(FIELDS[name].default)(value) for name, value in advice}
    assert configs.resolve(config.replace(changed))


@pytest.mark.parametrize(
    "fields",
    [{"optim.warmup_steps": 5}, {"train.steps": 50}, {"train.epochs": 9}],
)
def test_a_longer_warm_up_is_one_that_is_taken(fields):
    config = configs.resolve(Config().replace({"optim.warmup_epochs": 0.0} | fields))
    name = warmup_field(config).removeprefix("config.")
    longer = config.replace({name: type(FIELDS[name].default)(8)})
    assert configs.resolve(longer)


@pytest.mark.parametrize("schedule", ["one_cycle", "step"])
def test_a_run_of_one_step_has_no_time_for_a_schedule(schedule):
    """Each warm-up that it could be told to take would be refused."""
    fields = {"train.steps": 1, "optim.warmup_epochs": 0.0}
    with pytest.raises(UserError, match=r"steps=1: give more, or another schedule"):
        configs.resolve(Config().replace(fields | {"optim.schedule": schedule}))
    assert configs.resolve(Config().replace(fields))


def test_falls_of_a_run_in_steps_are_not_told_by_its_epochs():
    fields = {"train.steps": 9, "optim.schedule": "step", "optim.warmup_steps": 1}
    config = Config().replace(fields | {"optim.warmup_epochs": 0.0})
    with pytest.raises(UserError, match=r"decay_epochs, within the run's 9 steps"):
        configs.resolve(config)


@pytest.mark.parametrize("value", ["", "all", "best", "3", "best,3", "2,last"])
def test_checkpoints_to_start_from_are_those_of_other_commands(value):
    fields = {"init_from": "runs/x", "init_checkpoint": value}
    assert configs.resolve(Config().replace(fields)).init_checkpoint == value
    for wrong in ("all,3", "3,", "0", "first"):
        with pytest.raises(UserError, match="init_checkpoint"):
            configs.resolve(Config().replace(fields | {"init_checkpoint": wrong}))
