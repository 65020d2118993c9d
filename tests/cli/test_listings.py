"""The listings of fields and of models."""

import re

import pytest

from hybrid_jax.cli import fields
from hybrid_jax.config import resolve as configs
from hybrid_jax.config.files import experiments, load_config
from hybrid_jax.config.schema import FIELDS
from hybrid_jax.errors import UserError
from hybrid_jax.main import main
from hybrid_jax.models import list_models


@pytest.fixture
def said(capsys):
    """Runs the program without a mistake; gives what it prints."""

    def run(*args):
        assert main(["hybrid-jax", *args]) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", list(FIELDS)),
        ("seed", ["seed"]),
        ("learning", ["optim.learning_rate"]),
        ("config.optim.learning_rate", ["optim.learning_rate"]),
        ("--config.train.epochs", ["train.epochs"]),
        ("name", ["data.name", "model.name", "loss.name", "optim.name"]),
        ("*image_size", ["data.image_size"]),
        ("config.model.", [name for name in FIELDS if name.startswith("model.")]),
        ("gradient norm", ["optim.clip_norm"]),
    ],
)
def test_fields_are_found_by_group_name_and_meaning(text, found):
    assert fields.matching(text) == found


@pytest.mark.parametrize(
    ("text", "near"),
    [("lr", "optim.learning_rate"), ("augmnt", "augment"), ("bach_size", "batch_size")],
)
def test_a_misspelt_field_names_the_nearest(text, near):
    with pytest.raises(UserError, match=rf"did you mean config\.\S*{near}"):
        fields.matching(text)


def test_every_field_is_listed_as_it_is_typed(said):
    listed = said("fields").split("\n\n")
    assert len(listed) == len(FIELDS)
    for text, (name, field) in zip(listed, FIELDS.items(), strict=True):
        head, *more = text.splitlines()
        flag, _, default = head.partition("=")
        assert flag == f"--config.{name}"
        assert configs.parse_value(name, default) == field.default
        words = " ".join(" ".join(more).split())
        assert words == f"{field.meaning} allowed: {field.rule.words}"
        assert all(len(line) <= 80 for line in more)


@pytest.mark.parametrize("name", experiments())
def test_the_values_of_an_experiment_are_listed_as_they_are_typed(name, said):
    values = configs.flatten(load_config(name, {}))
    listed = said("fields", f"--config={name}").split("\n\n")
    for text, (field, row) in zip(listed, FIELDS.items(), strict=True):
        head, *more = text.splitlines()
        typed = head.removeprefix(f"--config.{field}=")
        assert configs.parse_value(field, typed) == values[field]
        told = [line for line in more if line.startswith("    default: ")]
        assert bool(told) == (values[field] != row.default)


def test_an_experiments_value_stands_before_the_default(said):
    listed = said("fields", "--config=few_images:vit_tiny", "model.name")
    head, *_, default = listed.strip().splitlines()
    assert head == "--config.model.name=vit_tiny"
    assert default.strip() == "default: astroformer_nano"


def test_a_value_that_no_run_would_take_is_refused(capsys):
    assert main(["hybrid-jax", "fields", "--config=digits:nope", "model.name"]) == 2
    told = capsys.readouterr()
    assert "config.model.name='nope' is not allowed" in told.err
    assert not told.out


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], list_models()),
        (["maxvit"], list_models("maxvit_*")),
        (["*_pico"], list_models("*_pico")),
    ],
    ids=str,
)
def test_models_are_listed(arguments, names, said):
    head, *rows = said("models", *arguments).split("\n\n")[0].splitlines()
    assert head.split() == ["name", "stack", "widths", "depths"]
    assert [row.split()[0] for row in rows] == names
    assert all(len(row) <= 80 for row in rows)


def test_rows_of_the_listing_and_the_parts_of_one(said):
    (row,) = re.findall(r"^coatnet_6 .*", said("models", "coatnet_*"), re.M)
    cells = ["coatnet_6", "C-C-CT-T", "192, 384, 768+1536, 2048", "2, 4, 8+42, 2"]
    assert re.split(r"\s{2,}", row) == cells
    assert "stage3_block50" in said("models", "coatnet_6")
