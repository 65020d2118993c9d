"""Starting from weights, keeping some of them, and letting others learn slower."""

import dataclasses
import json
import re
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from hybrid_jax.config import resolve as configs
from hybrid_jax.config.schema import OptimConfig
from hybrid_jax.engine.fit import fit
from hybrid_jax.errors import UserError
from hybrid_jax.evaluation.evaluate import evaluate
from hybrid_jax.models import create_model
from hybrid_jax.programs.checks import check_frozen
from hybrid_jax.runs.weights import load_weights, read_weights
from hybrid_jax.runtime import jit_once
from hybrid_jax.training import optimizers
from hybrid_jax.training.freezing import frozen_mask
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.state import create_state
from hybrid_jax.training.step import Task, train_step
from hybrid_jax.weights.files import fit_weights
from tests import small_hybrid
from tests.timm_oracle import random_variables

FROZEN = ("^stem/", "block1/attention")


def adamw(learning_rate, freeze=(), **fields):
    config = OptimConfig(**fields)
    rate = optax.constant_schedule(learning_rate)
    return optimizers.create_optimizer(optimizers.adamw, rate, config, freeze)


def make_task(freeze=(), optimizer=None, **model):
    optimizer = optimizer or adamw(1e-2, freeze, weight_decay=0.5)
    return Task(
        model=small_hybrid.create(3, 16, **model),
        create_optimizer=lambda rates: optimizer,
        rates=optimizers.Rates(0.0, 0.0),  # it has its own
        image_size=(16, 16),
        mean=jnp.float32([127.0]),
        std=jnp.float32([64.0]),
        freeze=freeze,
    )


def create(task):
    return create_state(task.model, task.optimizer, 0, (16, 16, 1), False, task.freeze)


def make_state(task):
    return jit_once(partial(create, task))()


def step(task, state):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 16, 16, 1), np.uint8)
    labels = jnp.asarray(rng.integers(0, 3, 8))
    return jit_once(lambda s: train_step(task, s, images, labels)[0])(state)


def test_frozen_parameters_stay_bit_by_bit_and_all_others_move():
    task = make_task(FROZEN)
    before = make_state(task)
    after = step(task, before)
    old, new = (flatten_dict(unpack(s.params), sep="/") for s in (before, after))
    kept = {path for path in old if np.array_equal(old[path], new[path])}
    assert kept == {p for p in old if any(re.search(f, p) for f in FROZEN)}
    assert {path.split("/")[0] for path in kept} == {"stem", "stage2_block1"}


def test_a_pattern_may_say_what_is_trained():
    """The vectors of a block are packed, under a name that no pattern can mean."""
    only = r"^(?!.*(norm|head))"
    task = make_task((only,))
    before = make_state(task)
    after = step(task, before)
    old, new = (flatten_dict(unpack(s.params), sep="/") for s in (before, after))
    moved = {path for path in old if not np.array_equal(old[path], new[path])}
    assert moved == {path for path in old if not re.search(only, path)}
    assert any("norm" in path for path in moved)


def test_frozen_parameters_have_no_moments():
    sizes = []
    for freeze in ((), FROZEN):
        state = jax.eval_shape(partial(create, make_task(freeze)))
        still = jax.tree.leaves(frozen_mask(state.params, freeze))
        params = jax.tree.leaves(state.params)
        trained = sum(p.size for p, s in zip(params, still, strict=True) if not s)
        moments = sum(x.size for x in jax.tree.leaves(state.opt_state) if x.ndim)
        assert moments == 2 * trained
        sizes.append(moments)
    assert sizes[1] < sizes[0]


def test_freezing_leaves_the_gradients_of_the_rest_as_they_are():
    free = make_task((), optax.sgd(0.1))
    held = dataclasses.replace(free, freeze=("stage1", "head"))
    start = make_state(free)
    states = start, step(free, start), step(held, make_state(held))
    old, a, b = (flatten_dict(unpack(s.params), sep="/") for s in states)
    for path in old:
        expected = old[path] if re.search("stage1|head", path) else a[path]
        np.testing.assert_allclose(b[path], expected, atol=1e-6, err_msg=path)


@pytest.mark.parametrize(
    ("name", "overrides", "layers"),
    [
        (
            "astroformer_pico",
            {},
            {
                "stem": 0,
                "stage1_block1": 1,
                "stage2_block1": 2,
                "stage3_block1": 3,
                "stage3_block2": 4,
                "stage4_block1": 5,
                "head": 6,
            },
        ),
        (
            "vit_tiny",
            {"depth": 11},
            {
                "patch_embedding": 0,
                "class_token": 0,
                "position_embedding": 0,
                "head": 12,
                "block2": 2,
                "block10": 10,
                "block11": 11,
            },
        ),
    ],
)
def test_layers_are_counted_from_the_image_to_the_head(name, overrides, layers):
    model = create_model(name, 3, 16, **overrides)
    images = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    factors = optimizers.layer_factors(params, 0.5)
    assert jax.tree.structure(factors) == jax.tree.structure(params)
    for module, layer in layers.items():
        values = set(jax.tree.leaves(factors[module]))
        assert values == {0.5 ** (layers["head"] - layer)}, module


def test_the_layer_factor_scales_the_whole_update():
    """Adam's first update is the learning rate itself, weight decay beside it."""
    start, rng, updates = make_state(make_task()), np.random.default_rng(0), {}
    grads = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32), start.params
    )
    for decay in (1.0, 0.5):
        optimizer = adamw(1e-3, weight_decay=0.1, clip_norm=0.0, layer_decay=decay)

        def update(params, grads, optimizer=optimizer):
            return optimizer.update(grads, optimizer.init(params), params)[0]

        updates[decay] = jit_once(update)(start.params, grads)
    factors = optimizers.layer_factors(updates[1.0], 0.5)
    jax.tree.map(
        lambda slow, full, factor: np.testing.assert_allclose(
            slow, factor * full, atol=2e-7
        ),
        updates[0.5],
        updates[1.0],
        factors,
    )


def test_patterns_that_freeze_nothing_or_everything_are_refused():
    def check(*freeze):
        check_frozen(freeze, jax.eval_shape(partial(create, make_task(freeze))).params)

    check("stem")
    with pytest.raises(UserError, match=r"'stemm'.*begin with .*stem"):
        check("stem", "stemm")
    with pytest.raises(UserError, match="no parameter path contains 'vectors'"):
        check("vectors")
    with pytest.raises(UserError, match="leaves no parameter"):
        check("stem", "st", "head")


def digits_config(**changes):
    small_hybrid.add_row()
    config = configs.default()
    config.data.name = "digits"
    config.data.image_size = (16, 16)
    config.model.name = "small_hybrid"
    config.model.strides = (2, 2, 1)
    config.train.epochs = 1
    config.train.batch_size = 128
    config.optim.warmup_epochs = 0.2
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "pretrained"
    fit(digits_config(), workdir=workdir)
    return workdir


def rename_classes(workdir, change):
    described = json.loads((workdir / "data.json").read_text())
    described["classes"] = change(described["classes"])
    (workdir / "data.json").write_text(json.dumps(described))


def test_a_run_knows_its_classes_by_name(pretrained, tmp_path):
    digits = tuple("0123456789")
    assert read_weights(pretrained).classes == digits
    other = shutil.copytree(pretrained, tmp_path / "other")
    rename_classes(other, lambda names: [f"galaxy {name}" for name in names])
    arrays = read_weights(other).arrays
    shapes = {path: array.shape for path, array in arrays.items()}
    model = small_hybrid.create(10, 16)
    for workdir, missing in ((pretrained, set()), (other, {"kernel", "bias"})):
        fitted = fit_weights(model, read_weights(workdir), shapes, digits)
        lost = shapes.keys() - fitted.arrays.keys()
        assert lost == {f"params/head/classifier/{leaf}" for leaf in missing}


def test_a_run_starts_from_anothers_weights_and_resumes(pretrained, tmp_path):
    """What is frozen is at the end what the other run left; the rest has moved."""
    frozen = ("stem", "stage")
    changes = {"train.epochs": 2, "optim.layer_decay": 0.5}
    pretrained = shutil.copytree(pretrained, tmp_path / "pretrained")
    rename_classes(pretrained, lambda names: names[::-1])
    config = digits_config(init_from=str(pretrained), freeze=frozen, **changes)
    workdir = tmp_path / "tuned"
    fit(config, workdir=workdir)
    theirs, ours = read_weights(pretrained).arrays, read_weights(workdir).arrays
    assert theirs.keys() == ours.keys()
    for path in theirs:
        if path.startswith("params/"):
            same = np.array_equal(theirs[path], ours[path])
            assert same == any(name in path for name in frozen), path
    log = (workdir / "log.txt").read_text()
    assert f"Starting from {pretrained}; classifier reordered: " in log
    assert "parameters are frozen" in log

    # Again from the first of the two checkpoints.
    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest)
    fit(config, workdir=workdir)
    again = read_weights(workdir).arrays
    for path in ours:
        np.testing.assert_array_equal(again[path], ours[path], err_msg=path)
    evaluate(str(workdir))


def test_another_resolution_and_other_classes_start_from_a_run_too(pretrained):
    model = small_hybrid.create(4, 24)
    variables = random_variables(model, np.zeros((1, 24, 24, 1), np.float32))
    loaded, notes = load_weights(model, variables, pretrained)
    assert notes == [
        "new classifier: 10 classes to 4",
        "bias tables resized: 4x4 to 6x6",
    ]
    theirs, ours = read_weights(pretrained).arrays, flatten_dict(loaded, sep="/")
    stem = "params/stem/conv1/kernel"
    np.testing.assert_array_equal(theirs[stem], ours[stem])
    classifier = flatten_dict(variables, sep="/")["params/head/classifier/kernel"]
    np.testing.assert_array_equal(ours["params/head/classifier/kernel"], classifier)


def test_weights_that_do_not_fit_stop_a_run_before_it_begins(pretrained, tmp_path):
    other = {"model.name": "cbam_pico", "model.strides": (2, 2, 1, 2, 1)}
    config = digits_config(init_from=str(pretrained), **other)
    with pytest.raises(
        UserError,
        match=r"holds weights of \w+, which do not fit the network: .*missing",
    ):
        fit(config, workdir=tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))
    # So that the corrected command may use the same folder.
    fit(digits_config(), workdir=tmp_path / "run")


def test_a_network_without_batch_norms_trains(tmp_path):
    model = create_model("vit_tiny", 3, 16, depth=1)
    task = dataclasses.replace(make_task(), model=model)
    before = make_state(task)
    assert before.batch_stats == {}
    after = step(task, before)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before.params, after.params)
    assert all(jax.tree.leaves(moved))
