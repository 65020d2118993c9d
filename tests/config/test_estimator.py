"""The config of an estimator: its recipe, and what goes by the images."""

import pytest

from hybrid_jax.config.estimator import PARAMETERS, choose_config
from hybrid_jax.config.resolve import default
from hybrid_jax.config.schema import Config
from hybrid_jax.errors import UserError


def chosen(images=1437, sizes=((32, 32),), config=None, **parameters):
    def trained(data):
        held_out = 0.4 if isinstance(data.validation, str) else data.validation
        return int(images * (1 - held_out))

    given = dict.fromkeys(PARAMETERS) | parameters
    return choose_config(given, config, trained, lambda _: [*sizes])


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (((32, 48),), ()),  # as they are
        (((8, 8),), (16, 16)),
        (((5, 16),), (20, 64)),
        (((512, 256),), (128, 64)),
        (((2000, 100),), (128, 16)),
        (((1, 1024),), (16, 128)),
        (((8, 64),), (16, 128)),
        (((4, 100),), (16, 128)),
        (((60, 90), (50, 40), (70, 70)), (60, 60)),
        (((600, 900), (500, 400)), (128, 128)),
    ],
)
def test_sizes_go_by_the_images(sizes, expected):
    assert chosen(sizes=sizes).data.image_size == expected
    assert chosen(sizes=sizes, image_size=64).data.image_size == (64, 64)


def test_enlarged_images_are_halved_first():
    assert chosen(sizes=[(8, 8)]).model.strides == (2, 1, 1, 2, 1)  # as in digits.py
    assert chosen(sizes=[(16, 16)]).model.strides == ()
    assert chosen(sizes=[(8, 8)], model="wrn_16_4").model.strides == ()
    assert chosen(sizes=[(8, 8)], config="digits").model.strides == (2, 1, 1, 2, 1)


@pytest.mark.parametrize(
    ("images", "steps"), [(200, 1000), (1437, 1000), (5000, 2800), (50_000, 28_100)]
)
def test_lengths_go_by_the_number_of_images(images, steps):
    config = chosen(images)
    assert (config.train.steps, config.optim.warmup_steps) == (steps, steps // 10)
    assert config.train.eval_every_steps == steps // 20
    assert chosen(images + 1).train.steps == steps  # as folds are
    assert chosen(images, config="few_images").train.steps == 5000


def test_warm_up_fits_into_a_length_that_is_asked_for():
    assert chosen(steps=20).optim.warmup_steps == 2
    assert chosen(epochs=3).train.epochs == 3
    assert chosen(epochs=3).train.steps == 0
    short = chosen(config="few_images", steps=300)
    assert (short.train.steps, short.optim.warmup_steps) == (300, 100)
    assert chosen(config="few_images", epochs=500).optim.warmup_steps == 200
    assert chosen(config="few_images", validation="2/5", steps=1).train.steps == 1


def test_fields_of_folders_are_left_out_but_for_groups():
    config = default()
    changes = {"data.name": "folder", "data.path": "cells", "data.group": r"p\d"}
    config.update_from_flattened_dict(changes | {"data.test_fraction": 0.5})
    for recipe in (config, Config().replace({"data.name": "arrays"} | changes)):
        found = chosen(config=recipe).data
        assert (found.name, found.path, found.group) == ("arrays", "", r"p\d")


def test_one_cycle_warms_up_for_one_step_at_least():
    config = default()
    config.optim.schedule = "one_cycle"
    assert chosen(config=config, steps=2).optim.warmup_steps == 1
    for lengths in ({"steps": 1}, {"epochs": 1, "batch_size": 2000}):
        with pytest.raises(UserError, match="1 step is too short for config"):
            chosen(config=config, **lengths)


RECIPE = """
from hybrid_jax.config import default

def get_config(model="wrn_16_1"):
    config = default()
    config.optim.learning_rate = 0.25
    if model == "vit_femto":
        {}
    return config
"""


@pytest.mark.parametrize(
    "mistake", ["config.optim.typo = 3", "raise ValueError('a typo')"]
)
def test_a_recipe_that_fails_for_a_model_is_not_replaced(mistake, tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE.format(mistake))
    found = chosen(config=str(recipe), model="wrn_16_2")
    assert (found.model.name, found.optim.learning_rate) == ("wrn_16_2", 0.25)
    with pytest.raises(UserError, match=r"recipe\.py, line 8: .*typo"):
        chosen(config=str(recipe), model="vit_femto")


def test_recipes_know_their_model():
    small = "scaling/small"
    assert chosen(config=small, model="wrn_16_4").optim.name == "sgd"
    assert chosen(config=f"{small}:wrn_16_4").model.name == "wrn_16_4"
    assert chosen(config=f"{small}:wrn_16_4", model="vit_tiny").optim.name == "sgd"
    with pytest.raises(UserError, match="few_images"):
        chosen(config="few_image")
