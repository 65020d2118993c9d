import contextlib
import dataclasses
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hybrid_jax.augment.affine import SYMMETRIES
from hybrid_jax.augment.auto_augment import MAX_MAGNITUDE, SPACES
from hybrid_jax.cli import flags
from hybrid_jax.config import files, stored
from hybrid_jax.config import resolve as configs
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.errors import UserError
from hybrid_jax.models import list_models
from hybrid_jax.models.registry import family_of

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(CONFIGS.glob("*.py"))
STUDIES = sorted(CONFIGS.glob("scaling/*.py"))


def get_config(path: Path, *args):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.get_config(*args)


def test_the_named_experiments_exist():
    assert {path.stem for path in FILES} >= {
        "digits",
        "fashion_mnist",
        "cifar10",
        "cifar100",
        "tinyimagenet",
        "galaxy10",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_experiment_is_valid_and_tells_its_command(path):
    module, config = get_config(path)
    configs.resolve(config)
    assert f"--config=configs/{path.name}" in module.__doc__
    for name in list_models():
        _, config = get_config(path, name)
        configs.resolve(config)
        assert config.model.name == name


@pytest.mark.parametrize("config", [None, 5, "digits"])
def test_what_is_no_config_is_named(config):
    with pytest.raises(UserError, match=f"a config is needed, not {config!r}: give"):
        configs.resolve(config)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_experiment_for_studies_builds_on_another_one(path):
    name = path.relative_to(CONFIGS).with_suffix("").as_posix()
    assert files.find(name) == (path, [])
    module, config = get_config(path)
    assert f"hybrid-jax study scaling --config={name}" in module.__doc__
    models = files.study_models(name)
    assert config.model.name in models and len({*models}) == len(models) >= 18
    assert files.study_models(f"{name}:{models[1]}") == []
    assert {family_of(model) for model in models} >= {
        "astroformer",
        "astroformer_cccc",
        "astroformer_cttt",
        "cbam",
        "sasa",
        "vit",
        "wrn",
    }
    for model in models:
        config = configs.resolve(files.load_config(f"{name}:{model}", {}))
        assert config.model.name == model
        assert not config.data.validation and config.data.test


def test_models_for_studies_are_names(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("STUDY_MODELS = 'vit_tiny'\n")
    with pytest.raises(UserError, match="STUDY_MODELS is no tuple of names"):
        files.study_models(str(file))


@pytest.mark.parametrize(
    ("code", "model", "said"),
    [
        ("def get_config(): pass", ":vit_tiny", "takes no model: leave out :vit_tiny$"),
        ("def get_config(model): pass", "", "takes a model: give one behind a colon$"),
        ("def get_config(*, model): pass", "", "neither without arguments nor with a"),
        ("def get_config(*, model): pass", ":vit_tiny", "neither without arguments"),
        ("get_config = dict", "", "define get_config"),
    ],
)
def test_a_function_that_cannot_be_called_so_is_refused(code, model, said, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f"{code}\n")
    with pytest.raises(UserError, match=said) as error:
        files.load_config(f"{file}{model}", {})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_experiment_shows_its_whole_recipe(path):
    """What works by default is said all the same: nobody has to know the defaults."""
    said = re.findall(r"^    config\.([\w.]+) = ", path.read_text(), re.M)
    lengths = {"optim.warmup_epochs", "train.epochs"}
    if "train.steps" in said:
        lengths = {"optim.warmup_steps", "train.steps", "train.eval_every_steps"}
    assert {*said} >= lengths | {
        "data.name",
        "data.validation",
        "model.name",
        "loss.name",
        "loss.label_smoothing",
        "optim.name",
        "optim.learning_rate",
        "optim.schedule",
        "optim.weight_decay",
        "optim.clip_norm",
        "optim.ema_decay",
        "train.batch_size",
    }


def test_experiments_are_known_by_name_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = next(path for path in FILES if path.stem == "digits")
    assert files.find("digits") == (digits, [])
    assert files.find("digits:coatnet_0") == (digits, ["coatnet_0"])
    (tmp_path / "digits").mkdir()  # a folder is no experiment
    assert files.find("digits") == (digits, [])
    (tmp_path / "digits").rmdir()
    (tmp_path / "digits").touch()  # but a file of the user's comes first
    assert files.find("digits") == (Path("digits"), [])
    for text, near in {
        "digit": "did you mean --config=digits?",
        "configs/digits.py": "did you mean --config=digits?",
        "nothing-like-it": "or a name of cifar10, cifar100, digits,",
    }.items():
        with pytest.raises(UserError, match=re.escape(near)):
            files.find(text)
    assert files.load_config("galaxy10", {}).data.name == "galaxy10"


def test_a_config_is_frozen_and_changes_into_another_one():
    config = Config.from_flat({"optim.learning_rate": 0.5, "seed": 3})
    other = config.replace({"seed": 4, "optim.clip_norm": 0.0})
    assert (config.seed, other.seed, other.optim.learning_rate) == (3, 4, 0.5)
    assert [*config.flat()] == [*FIELDS]
    assert Config.from_flat(config.flat()) == config == configs.resolve(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 5


def test_a_config_that_was_stored_before_fields_moved_means_the_same():
    model = {"model": {"name": Config().model.name}}
    optim = {"label_smoothing": 0.2, "class_weights": "balanced", "clip_norm": 0.0}
    config = stored.read(
        model | {"seed": 3, "optim": optim, "data": {"validation": 0}}, 2, "runs/a"
    )
    assert config == Config.from_flat(
        {
            "seed": 3,
            "data.validation": 0,
            "loss.label_smoothing": 0.2,
            "loss.class_weights": "balanced",
            "optim.clip_norm": 0.0,
        }
    )
    assert config.optim.name == "adamw"  # there was no other
    assert stored.read(stored.nested(config), stored.SCHEMA, "runs/a") == config
    # A run keeps its layout.
    assert stored.read(stored.nested(config), 2, "runs/a") == config
    folded = model | {"data": {"fold": "2/5"}}
    assert stored.read(folded, 1, "runs/a").data.validation == "2/5"
    assert stored.read(model, 1, "runs/a").data.validation == 0
    with pytest.raises(UserError, match=r"runs/a has config\.optim\.qqq.*: update"):
        stored.read(model | {"optim": {"qqq": 1}}, 2, "runs/a")


def test_default_is_valid_and_survives_flattening():
    config = configs.default()
    configs.resolve(config)
    assert configs.to_config_dict(configs.flatten(config)) == config


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seed", -1, "a whole number from 0"),
        ("dtype", "float16", "auto, float32, bfloat16"),
        ("data.image_size", (8, 8), "each from 16"),
        ("data.image_size", (32,), "(height, width)"),
        ("data.image_size", (32.0, 32.0), "(height, width)"),
        ("augment.mixup", float("nan"), "0, or a number from 1e-30 to 1000"),
        ("augment.cutmix", 1001.0, "0, or a number from 1e-30 to 1000"),
        ("augment.crop_padding", -1, "a whole number from 0"),
        ("augment.crop_scale", 1.5, "a number from 0 to 1"),
        ("augment.symmetry", "mirror", "none, flip, flips, dihedral, rotation"),
        ("augment.policy", "auto", "none, rand_augment, trivial_augment"),
        ("augment.operations", 0, "a whole number from 1"),
        ("augment.magnitude", 31, "a whole number from 0 to 30"),
        ("augment.color_jitter", -0.1, "a number from 0 to 10"),
        ("augment.hue_jitter", 0.6, "a number from 0 to 0.5"),
        ("augment.mixup", 1e-38, "0, or a number from 1e-30 to 1000"),
        ("augment.erasing", float("nan"), "a number from 0 to 1"),
        ("data.validation", "0/5", "the second of five"),
        ("data.validation", "6/5", "the second of five"),
        ("data.validation", "1/1", "the second of five"),
        ("data.validation", "0.1", "the second of five"),
        ("data.validation", 1.0, "a number from 0 to below 1"),
        ("data.validation", -1, "a number from 0 to below 1"),
        ("data.validation", float("nan"), "a number from 0 to below 1"),
        ("data.validation", True, "a number from 0 to below 1"),
        ("data.validation", (2, 5), "a number from 0 to below 1"),
        ("data.group", "(patient", "a regular expression such as"),
        ("data.fraction", 0.0, "above 0 up to 1"),
        ("data.per_class", -1, "a whole number from 0"),
        ("data.test_fraction", 1.0, "from 0 to below 1"),
        ("data.loader", "lazy", "auto, resident, stream"),
        ("data.fit", "cover", "crop, pad, stretch"),
        ("data.on_error", "ignore", "stop, skip"),
        ("data.workers", -1, "a whole number from 0"),
        ("data.workers", 2**10, "a whole number from 0 to below 2**10"),
        ("train.sampling", "even", "uniform, balanced"),
        ("loss.class_weights", "inverse", "none, balanced"),
        ("model.name", "astroformer_9", "astroformer_5"),
        ("model.stack", "C-C-X-T", "of C, B, S, W, T, M"),
        ("model.stack", "CCC", "astroformer_nano has 4"),
        ("model.stack", "C--CC", "stages such as C-C-C-T"),
        ("model.strides", (2, 2, 2, 2), "astroformer_nano takes 5"),
        ("model.strides", (2, 2, 2, 2, 3), "each 1 or 2"),
        ("model.attention", "middle", "pre, post"),
        ("model.padding", "torus", "symmetric, same, circular"),
        ("model.relative_bias", "circular", "table, torus, mlp, none"),
        ("model.downsample", "", "strided, blur, aps"),
        ("model.drop_path", 1.0, "from 0 to below 1"),
        ("optim.learning_rate", float("nan"), "a number from 1e-30 to 1e+30"),
        ("optim.learning_rate", float("inf"), "a number from 1e-30 to 1e+30"),
        ("optim.learning_rate", 0.0, "a number from 1e-30 to 1e+30"),
        ("optim.learning_rate", 1e-50, "a number from 1e-30 to 1e+30"),
        ("optim.weight_decay", 1e308, "0, or a number from 1e-30 to 1e+30"),
        ("optim.weight_decay", -0.1, "0, or a number from 1e-30"),
        ("train.batch_size", -64, "a whole number from 1"),
        ("train.batch_size", 0, "a whole number from 1"),
        ("train.epochs", 0, "a whole number from 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(field, value, said):
    config = configs.to_config_dict(configs.flatten(configs.default()) | {field: value})
    with pytest.raises(UserError) as error:
        configs.resolve(config)
    assert f"config.{field}={value!r}" in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.batch_size": 10, "optim.accumulate": 3}, "does not divide"),
        ({"data.path": "cells"}, "has no effect with config.data.name='digits'"),
        (
            {"train.sampling": "balanced", "loss.class_weights": "balanced"},
            "each of both balances the classes",
        ),
        (
            {"augment.policy": "trivial_augment", "augment.magnitude": 20},
            "take config.augment.policy=rand_augment",
        ),
        ({"train.max_skips": 9}, "take config.train.non_finite=skip"),
        ({"init_checkpoint": "best"}, "has no effect with config.init_from=''"),
        (
            {"model.relative_bias": "none", "model.attention": "post"},
            "has no effect with config.model.relative_bias='none'",
        ),
        (
            {"model.stack": "CCCC", "model.attention": "post"},
            "astroformer_nano with config.model.stack='CCCC', which has no",
        ),
        (
            {"model.name": "wrn_16_4", "model.relative_bias": "mlp"},
            "has no effect on wrn_16_4, which has no relative attention",
        ),
        (
            {"data.name": "digits", "data.test_fraction": 0.5},
            "has no effect with config.data.name='digits'",
        ),
        (
            {"model.name": "wrn_16_4", "model.attention": "post"},
            "has no effect on wrn_16_4, which has no relative attention",
        ),
        ({"data.name": "folder", "data.label": "coarse_label"}, "has no effect with"),
        ({"data.name": "digits", "data.group": r"p\d"}, "has no effect with"),
        ({"data.name": "digits", "data.on_error": "skip"}, "has no effect with"),
        ({"data.loader": "resident", "data.workers": 4}, "take config.data.loader=str"),
        (
            {"data.manual_dir": "archives"},
            "has no effect with config.data.name='digits'",
        ),
        (
            {"model.strides": (1, 1, 1, 1, 1), "model.downsample": "blur"},
            "has no effect with config.model.strides=(1, 1, 1, 1, 1): leave it out, or "
            "give a stride above 1",
        ),
        ({"train.epochs": 5, "optim.warmup_epochs": 5.0}, "=0.5"),
        ({"train.steps": 50, "optim.warmup_steps": 50}, "such as --config.optim"),
        ({"augment.crop_padding": 2, "augment.crop_scale": 0.5}, "two ways to crop"),
        (
            {"data.image_size": (16, 16), "model.strides": (2, 2, 2, 2, 2)},
            "(1, 1, 1, 2, 2) would do",
        ),
    ],
)
def test_fields_that_do_not_go_together(changes, said):
    config = configs.to_config_dict(configs.flatten(configs.default()) | changes)
    with pytest.raises(UserError) as error:
        configs.resolve(config)
    assert said in str(error.value)


def test_lengths_that_the_config_counts_in_steps_are_refused_on_the_command_line():
    pairs = {
        "train.steps": "train.epochs",
        "train.eval_every_steps": "train.eval_every",
        "optim.warmup_steps": "optim.warmup_epochs",
    }
    for deciding, other in pairs.items():
        words = ["--config=few_images", f"--config.{other}=3"]
        with pytest.raises(UserError, match=f"{other}=3.* has no effect .*{deciding}="):
            _ = flags.parse(words, (), takes_config=True).config
        words.append(f"--config.{deciding}=0")
        config = flags.parse(words, (), takes_config=True).config
        assert config[other.partition(".")[0]][other.partition(".")[2]] == 3


@pytest.mark.parametrize(
    ("model", "strides", "way_out"),
    [
        ("vit_tiny", "2,2", "leave it out, or take a hybrid"),
        ("wrn_16_4", "1,1,1,1,1", "or give 4, as many as its own (1, 1, 2, 2)"),
    ],
)
def test_strides_that_a_model_would_pass_over_are_refused_on_the_command_line(
    model, strides, way_out
):
    words = ["--config=digits", f"--config.model.name={model}"]
    words.append(f"--config.model.strides={strides}")
    with pytest.raises(UserError) as error:
        _ = flags.parse(words, (), takes_config=True).config
    assert f"--config.model.strides={strides} has no effect with" in str(error.value)
    assert way_out in str(error.value)


@pytest.mark.parametrize(
    ("fields", "is_seen"),
    [
        ([], False),
        (["crop_padding=4"], True),
        (["crop_padding=4", "crop_scale=0.5"], False),
        (["symmetry=dihedral"], True),
        (["policy=trivial_augment"], True),
    ],
)
def test_a_fill_that_nobody_would_see_is_refused_on_the_command_line(fields, is_seen):
    words = ["--config=folder", "--config.augment.policy=none"]
    words += ["--config.augment.fill=edge"]
    words += [f"--config.augment.{field}" for field in fields]
    seen = contextlib.nullcontext()
    if not is_seen:
        seen = pytest.raises(UserError, match="fill=edge has no effect here, since no")
    with seen:
        assert flags.parse(words, (), takes_config=True).config.augment.fill == "edge"


def test_a_vit_passes_over_the_strides_of_an_experiment():
    changed = {
        "model.name": "vit_femto",
        "model.strides": (2,) * 5,
        "data.image_size": (16, 16),
    }
    flat = configs.flatten(configs.default()) | changed
    resolved = configs.resolve(configs.to_config_dict(flat))
    assert resolved.data.image_size == (16, 16)


def test_the_names_of_symmetries_and_policies_are_those_of_their_tables():
    for field, rows in (("symmetry", SYMMETRIES), ("policy", SPACES)):
        for row in ("none", *rows):
            changed = {f"augment.{field}": row}
            flat = configs.flatten(configs.default()) | changed
            configs.resolve(configs.to_config_dict(flat))
        flat = configs.flatten(configs.default()) | {f"augment.{field}": "other"}
        with pytest.raises(UserError, match=", ".join(rows)):
            configs.resolve(configs.to_config_dict(flat))
    assert f"0 to {MAX_MAGNITUDE}" in FIELDS["augment.magnitude"].rule.allowed


def test_a_config_is_checked_without_jax():
    code = (
        "import sys; from hybrid_jax.config import resolve as config\n"
        "config.resolve(config.default())\n"
        "print('jax' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["False"]


def test_surplus_and_missing_fields_are_named():
    flat = configs.flatten(configs.default())
    with pytest.raises(UserError, match=r"config\.optim\.lr does not exist"):
        configs.resolve(configs.to_config_dict(flat | {"optim.lr": 1.0}))
    del flat["seed"]
    with pytest.raises(UserError, match=r"config\.seed is missing"):
        configs.resolve(configs.to_config_dict(flat))


def test_a_whole_number_serves_where_a_float_is_meant_but_not_the_reverse():
    flat = configs.flatten(configs.default())
    configs.resolve(configs.to_config_dict(flat | {"optim.learning_rate": 1}))
    grid = flat | {"optim.learning_rate": np.logspace(-3, -1, 3)[0]}
    assert (
        type(configs.resolve(configs.to_config_dict(grid)).optim.learning_rate) is float
    )
    with pytest.raises(UserError, match=r"train\.epochs=2\.5"):
        configs.resolve(configs.to_config_dict(flat | {"train.epochs": 2.5}))
    with pytest.raises(UserError, match=r"train\.epochs=True"):
        configs.resolve(configs.to_config_dict(flat | {"train.epochs": True}))


def test_a_frozen_config_is_a_config_too(tmp_path):
    path = tmp_path / "frozen.py"
    path.write_text(
        "from ml_collections import FrozenConfigDict\n"
        "from hybrid_jax.config import default\n"
        "def get_config():\n    return FrozenConfigDict(default())\n"
    )
    assert files.load_config(str(path), {"seed": 3}).seed == 3
