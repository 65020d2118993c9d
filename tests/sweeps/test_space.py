"""What a search varies, as it is typed."""

import optuna
import pytest

from hybrid_jax.cli.common import Call
from hybrid_jax.cli.sweep import _winners_command, parse
from hybrid_jax.errors import UserError
from hybrid_jax.sweeps.space import Dimension, parse_dimension
from hybrid_jax.sweeps.table import Row
from hybrid_jax.sweeps.trial import Result
from tests.commands import ROOT

DIGITS = f"--config={ROOT / 'configs' / 'digits.py'}"


@pytest.mark.parametrize(
    ("name", "text", "dimension"),
    [
        ("optim.learning_rate", "1e-4:1e-1:log", ((), 1e-4, 1e-1, True)),
        ("optim.learning_rate", "1:2", ((), 1.0, 2.0, False)),
        ("train.batch_size", "10:50", ((), 10, 50, False)),
        ("train.batch_size", "10, 25,50", ((10, 25, 50),)),
        ("data.validation", "0.1:0.3", ((), 0.1, 0.3, False)),
        ("data.validation", "0.1,1/5", ((0.1, "1/5"),)),
        (
            "model.name",
            "astroformer_pico,vit_tiny",
            (("astroformer_pico", "vit_tiny"),),
        ),
        ("model.stack", ";C-C-T-T", (("", "C-C-T-T"),)),
        ("model.strides", "2,1,1,2,1;", (((2, 1, 1, 2, 1), ()),)),
        ("data.image_size", "(16, 16);24,24", (((16, 16), (24, 24)),)),
    ],
)
def test_ranges_and_choices(name, text, dimension):
    parsed = parse_dimension(name, text)
    assert parsed == Dimension(name, *dimension)
    assert parse_dimension(name, parsed.text) == parsed
    value = parsed.suggest(optuna.create_study().ask())
    if parsed.choices:
        assert value in parsed.choices
    else:
        assert parsed.low <= value <= parsed.high
        assert type(value) is type(parsed.low)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--sweep.optim.lerning_rate=1:2"], "did you mean config.optim.learning_rate"),
        (["--sweep.lr=1:2"], "did you mean config.optim.learning_rate"),
        (["--sweep.optim=1:2"], "config.optim is a group of fields"),
        (["--sweep.model.name=astroformer_pcio,vit_tiny"], "'astroformer_pico'"),
        (["--sweep.optim.learning_rate=2:1"], "2.0 is not below 1.0"),
        (["--sweep.optim.learning_rate=1:1"], "1.0 is not below 1.0"),
        (["--sweep.optim.learning_rate=nan:1"], "learning_rate=nan is not allowed"),
        (["--sweep.optim.learning_rate=1:inf"], "learning_rate=inf is not allowed"),
        (["--sweep.optim.learning_rate=1:2:lgo"], "write LOW:HIGH or LOW:HIGH:log"),
        (["--sweep.optim.weight_decay=0:1:log"], "begins above 0"),
        (["--sweep.optim.learning_rate=1,,2"], "learning_rate='' is not allowed"),
        (["--sweep.train.batch_size=1.5,2"], "a whole number from 1"),
        (["--sweep.train.batch_size=5,5"], "has 5 twice"),
        (["--sweep.train.batch_size=5"], "is one value"),
        (["--sweep.model.strides=2,1,1,2,1"], "separated by semicolons"),
        (["--sweep.seed=0,1"], "--seeds=N"),
        (["--sweep.data.test=true,false"], "the test split chooses nothing"),
        (["--sweep.data.split_seed=0,1"], "on the same images and labels; --folds=K"),
        (["--sweep.data.test_fraction=0.1:0.5"], "Set it with --config.data.test_frac"),
        (["--sweep.data.path=a,b"], "trials are compared on the same images"),
        (["--sweep.data.name=digits,cifar10"], "compared on the same images"),
        (["--sweep.data.label=label,coarse_label"], "compared on the same images"),
        (["--sweep.debug.inject=nan@3,"], "it breaks a run on purpose"),
        (["--sweep.train.eval_every=1,2"], "how often the best checkpoint is chosen"),
        (["--sweep.train.log_every=1:9"], "log_every=1:9 is not allowed: no result"),
        (["--sweep.compilation_cache=true,false"], "no result depends on it. Set it"),
        (["--sweep.data.validation=0,0.1"], "leaves nothing to choose by"),
        (["--sweep.data.validation=0.1,0.2", "--folds=3"], "give one of them"),
        (["--sweep.train.epochs=6,7", "--config.data.validation=0"], "to choose by"),
        (["--sweep.train.epochs=6,7", "--folds=1"], "leaves nothing to train on"),
        (["--sweep.optim.momentum=0:0.9", "--sampler=grid"], "a grid takes choices"),
        (["--sweep.train.epochs=6,7", "--sampler=tpa"], "one of tpe, random, grid"),
        (["--sweep.train.epochs=6,7", "--workdir=gs://b/s"], "mount a bucket"),
        ([], "nothing is varied"),
        (["--folds=3", "--trials=2"], "all trials would be equal"),
    ],
    ids=str,
)
def test_mistakes(flags, told):
    with pytest.raises(UserError) as refused:
        parse([DIGITS, *flags])
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--sweep.train.epochs=10,20", "--config.train.steps=2"],
            "--sweep.train.epochs=10,20 has no effect with config.train.steps=2: leave "
            "it out, or take config.train.steps=0",
        ),
        (
            ["--sweep.optim.warmup_epochs=1:3", "--config.optim.warmup_steps=5"],
            "warmup_epochs=1:3 has no effect with config.optim.warmup_steps=5",
        ),
        (
            ["--sweep.train.epochs=10,20", "--sweep.train.steps=2:5"],
            "epochs=10,20 has no effect with --sweep.train.steps=2:5",
        ),
        (
            ["--config.train.epochs=10", "--sweep.train.steps=2,5"],
            "--config.train.epochs=10 has no effect with --sweep.train.steps=2,5",
        ),
        (
            ["--sweep.optim.momentum=0:0.9"],
            "has no effect with config.optim.name='adamw': leave it out, or take "
            "config.optim.name=sgd",
        ),
        (
            ["--sweep.optim.momentum=0:0.9", "--sweep.optim.name=adamw,lamb"],
            "has no effect with --sweep.optim.name=adamw,lamb",
        ),
        (["--sweep.augment.magnitude=5,9"], "config.augment.policy="),
        (["--sweep.model.patch_size=4,8"], "config.model.name='astroformer_pico'"),
        (
            ["--sweep.model.strides=2,1,1,2,1;", "--config.model.name=vit_tiny"],
            "has no effect with config.model.name='vit_tiny'",
        ),
        (
            [
                "--sweep.model.relative_bias=,torus",
                "--sweep.model.name=wrn_16_1,vit_tiny",
            ],
            "--sweep.model.relative_bias=,torus has no effect on a model that has no "
            "relative attention",
        ),
    ],
    ids=str,
)
def test_a_field_without_effect_in_any_trial_is_refused(flags, told):
    with pytest.raises(UserError) as refused:
        parse([DIGITS, *flags])
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "flags",
    [
        ["--sweep.train.epochs=10,20", "--sweep.train.steps=0,5"],
        ["--config.train.epochs=10", "--sweep.train.steps=0:5"],
        ["--sweep.optim.momentum=0:0.9", "--sweep.optim.name=adamw,sgd"],
        ["--sweep.model.attention=pre,post", "--sweep.model.name=wrn_16_1,coatnet_0"],
        ["--sweep.model.attention=pre,post", "--sweep.model.stack=C-C-C-C,C-C-C-T"],
    ],
    ids=str,
)
def test_a_field_with_effect_in_some_trials_is_allowed(flags):
    assert parse([DIGITS, *flags])


def test_a_trial_whose_epochs_mean_nothing_is_refused():
    flags = ["--sweep.train.epochs=10,20", "--sweep.train.steps=0,5"]
    search = parse([DIGITS, *flags]).search
    assert not search.why_refused({"train.epochs": 10, "train.steps": 0})
    why = search.why_refused({"train.epochs": 10, "train.steps": 5})
    assert why.startswith("--config.train.epochs=10 has no effect here, since config.t")


def test_the_winners_command_gives_no_epochs_beside_its_steps():
    flags = [DIGITS, "--config.train.epochs=10", "--config.train.batch_size=20"]
    arguments = parse([*flags, "--sweep.train.steps=0,5"])
    call = Call(("hybrid-jax",), "sweep", [])
    for steps, is_counted in ((0, True), (5, False)):
        row = Row(3, {"train.steps": steps}, Result("complete", [0.5], 1.0))
        line = _winners_command(call, arguments, row)
        assert ("--config.train.epochs=10" in line) == is_counted
        assert f"--config.train.batch_size=20 --config.train.steps={steps}" in line


def test_the_winners_command_gives_no_strides_that_it_passes_over():
    flags = [DIGITS, "--config.model.strides=2,1,1,2,1"]
    arguments = parse([*flags, "--sweep.model.name=astroformer_pico,vit_tiny"])
    call = Call(("hybrid-jax",), "sweep", [])
    for name, is_given in (("astroformer_pico", True), ("vit_tiny", False)):
        row = Row(3, {"model.name": name}, Result("complete", [0.5], 1.0))
        line = _winners_command(call, arguments, row)
        assert ("--config.model.strides=" in line) == is_given


def test_a_grid_has_every_combination_once():
    flags = ["--sweep.train.epochs=6:8", "--sweep.model.name=vit_tiny,vit_small"]
    arguments = parse([DIGITS, "--sampler=grid", *flags])
    points = [tuple(point.values()) for point in arguments.search.grid()]
    assert arguments.trials == len(points) == len({*points}) == 6


@pytest.mark.parametrize(
    ("flags", "trials", "note"),
    [
        (["--sweep.train.epochs=6:8"], 3, ""),
        (["--sweep.train.epochs=6:8", "--trials=2"], 2, ""),
        (["--sweep.train.epochs=6:8", "--trials=3"], 3, ""),
        (
            ["--sweep.train.epochs=6:8", "--trials=4"],
            3,
            "--trials=4: the varied fields have 3 combinations, and each is tried "
            "once; --seeds=N repeats each with N seeds",
        ),
        (["--sweep.train.epochs=6:60"], 20, ""),
        (["--sweep.train.epochs=6:60", "--sampler=grid"], 55, ""),
        (["--sweep.optim.weight_decay=0:1"], 20, ""),
        (["--sweep.optim.weight_decay=0:1", "--trials=99"], 99, ""),
        (["--folds=3"], 1, ""),
    ],
    ids=str,
)
def test_there_are_no_more_trials_than_combinations(flags, trials, note):
    arguments = parse([DIGITS, *flags])
    assert (arguments.trials, arguments.notes) == (trials, [note] if note else [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.fraction", "0.5,1"),
        ("data.per_class", "20,50"),
        ("data.validation", "0.1:0.3"),
    ],
)
def test_a_field_that_selects_validation_images_is_named(name, text):
    (note,) = parse([DIGITS, f"--sweep.{name}={text}"]).notes
    assert note.startswith(f"The validation images depend on --sweep.{name}, unless")
    flags = [f"--sweep.{name}={text}", "--sweep.data.image_size=16,16;24,24"]
    assert parse([DIGITS, *flags]).notes == [note]


def test_a_grid_is_counted_before_it_is_made():
    flags = ["--sweep.train.batch_size=1:9999", "--sweep.train.patience=0:9999"]
    with pytest.raises(UserError, match=r"a grid of 99,990,000 trials is too large"):
        parse([DIGITS, "--sampler=grid", *flags])


def test_seeds_that_are_too_large_are_refused_before_any_run():
    flags = [DIGITS, "--sweep.train.epochs=6:8", "--config.seed=2147483646"]
    assert parse([*flags, "--seeds=2"])
    with pytest.raises(UserError, match=r"config.seed=2147483646 and --seeds=3 lead"):
        parse([*flags, "--seeds=3"])
    assert parse([*flags, "--retrain=2"])
    with pytest.raises(UserError, match=r"config.seed=2147483646 and --retrain=3 lead"):
        parse([*flags, "--retrain=3"])


def test_the_test_split_is_no_part_of_any_trial():
    flags = ["--sweep.train.epochs=6,7", "--seeds=2", "--folds=3", "--config.seed=5"]
    parts = parse([DIGITS, *flags]).search.parts({"train.epochs": 7})
    assert [*parts][:3] == ["fold-1-seed-5", "fold-1-seed-6", "fold-2-seed-5"]
    assert not any(config.data.test for config in parts.values())
    tried = {(c.data.validation, c.seed, c.train.epochs) for c in parts.values()}
    assert tried == {(f"{k}/3", seed, 7) for k in (1, 2, 3) for seed in (5, 6)}


def test_a_field_that_trials_set_themselves_is_named():
    """It is not refused: the config without trials must be right, too."""
    notes = parse(
        [
            DIGITS,
            "--sweep.train.batch_size=10,20",
            "--config.train.batch_size=40",
            "--config.data.validation=0.2",
            "--folds=3",
        ]
    ).notes
    checks = "is used only for the checks before the first trial; the trials use"
    assert notes[-2:] == [
        f"--config.train.batch_size=40 {checks} --sweep.train.batch_size=10,20",
        f"--config.data.validation=0.2 {checks} --folds=3",
    ]
