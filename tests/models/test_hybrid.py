from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.models import create_model
from hybrid_jax.models.attention import RelativeAttention
from hybrid_jax.models.downsample import average_pool
from hybrid_jax.models.features import extract_features
from hybrid_jax.models.registry import block_plan, parse_stack
from hybrid_jax.models.window_partition import block_partition, grid_partition
from hybrid_jax.runtime import jit_once
from tests import small_hybrid
from tests.timm_oracle import random_variables


def count(name, num_classes, size=224):
    model = create_model(name, num_classes, size)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("astroformer_0", 22.77),
        ("astroformer_1", 37.39),
        ("astroformer_2", 66.37),
        ("astroformer_3", 148.89),
        ("astroformer_4", 241.08),
        ("astroformer_5", 593.55),
    ],
)
def test_parameter_counts_of_the_released_astroformers(name, millions):
    assert round(count(name, 10) / 1e6, 2) == millions


def assert_every_parameter_trains(model, channels):
    """One step of gradients: finite, none dead, and all batch statistics moved."""
    shape = (4, *model.image_size, channels)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    variables = random_variables(model, images)
    statistics = variables.get("batch_stats", {})

    def loss(params):
        logits, updated = model.apply(
            {"params": params, "batch_stats": statistics},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        return (logits**2).mean(), (logits, updated)

    grads, (logits, updated) = jit_once(jax.grad(loss, has_aux=True))(
        variables["params"]
    )
    assert logits.shape == (4, model.num_classes)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    dead = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(grads)
        if not np.abs(g).max() > 0
    ]
    assert dead == []
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)), statistics, updated.get("batch_stats", {})
    )
    assert all(jax.tree.leaves(moved))


def test_the_smallest_image_trains():
    model = create_model("astroformer_pico", 3, 16, depths=(1, 1, 1, 1))
    assert_every_parameter_trains(model, channels=1)


@pytest.mark.parametrize("size", [(17, 23), (48, 16)], ids=str)
def test_any_size_from_16_px_trains(size):
    """A convolution and a transformer, each of which halves its map."""
    model = small_hybrid.create(3, size, strides=(1, 2, 2))
    assert_every_parameter_trains(model, channels=1)


def test_a_vit_trains_at_any_size():
    model = create_model("vit_tiny", 3, (27, 35), depth=2)
    assert_every_parameter_trains(model, channels=1)


@pytest.mark.parametrize("stack", ["B-B", "S-S"])
def test_every_convolutional_block_trains_at_any_size(stack):
    """Of CBAM and of local attention, both of which halve an odd map."""
    model = small_hybrid.create(3, (27, 35), stack=stack, strides=(2, 2, 2))
    assert_every_parameter_trains(model, channels=1)


def test_local_attention_trains_on_maps_that_it_need_not_fill_up():
    """The smallest ones of all, where a position sees the whole map."""
    model = small_hybrid.create(3, 16, stack="S-S")
    assert_every_parameter_trains(model, channels=1)


@pytest.mark.parametrize("attention", ["pre", "post"])
def test_maxvit_trains_on_maps_that_its_windows_do_not_divide(attention):
    model = create_model(
        "maxvit_tiny",
        3,
        (27, 35),
        stack="M-C",
        widths=(32, 32),
        depths=(1, 1),
        stem_widths=(8, 8),
        head_hidden=16,
        attention=attention,
    )
    (height, width), last = model.map_sizes[1], model.map_sizes[-1]
    assert height % last[0] or width % last[1]
    assert_every_parameter_trains(model, channels=1)


def test_filling_positions_are_attended_to_by_none():
    """What fills up a map to whole windows has no influence on what is real."""
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 32)).astype(np.float32)
    for partition in (block_partition, grid_partition):
        windows = partition(x, (4, 4))
        assert windows.mask.shape == (windows.x.shape[0], 16)
        np.testing.assert_array_equal(windows.merge(windows.x), x)
        module = RelativeAttention(32)
        variables = random_variables(module, windows.x)
        other = jnp.where(windows.mask.reshape(-1, 4, 4)[..., None], windows.x, 1e3)
        np.testing.assert_array_equal(
            windows.merge(module.apply(variables, windows.x, mask=windows.mask)),
            windows.merge(module.apply(variables, other, mask=windows.mask)),
        )


def test_blocks_are_neighbours_and_grids_are_spread():
    x = np.arange(36.0).reshape(1, 6, 6, 1)
    np.testing.assert_array_equal(
        block_partition(x, (3, 2)).x[0, ..., 0], [[0, 1], [6, 7], [12, 13]]
    )
    np.testing.assert_array_equal(
        grid_partition(x, (3, 2)).x[0, ..., 0], [[0, 3], [12, 15], [24, 27]]
    )


def test_stack_is_what_is_built():
    model = create_model("astroformer_pico", 3, 32, stack="C-T-C-T")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    has_attention = {
        name.split("_")[0]: "attention" in block
        for name, block in shapes["params"].items()
        if name.startswith("stage")
    }
    assert has_attention == dict(stage1=False, stage2=True, stage3=False, stage4=True)


@pytest.mark.parametrize(
    ("stack", "letters"),
    [
        ("CCCT", "C C CCC T"),
        ("C-C-CT-T", "C C CCT T"),
        ("C-C-CTB-T", "C C CTB T"),
        ("C-C-S-BM", "C C SSS BM"),
    ],
)
def test_a_stage_may_mix_letters(stack, letters):
    depths = (1, 1, 3, len(letters.split()[-1]))
    plan = block_plan(parse_stack(stack), (32, 64, 96, 128), depths)
    stages = [[b.letter for b in plan if b.stage == stage] for stage in (1, 2, 3, 4)]
    assert " ".join(map("".join, stages)) == letters


def test_a_stage_may_mix_widths():
    model = create_model("coatnet_6")
    third = [(b.letter, b.width) for b in model.plan if b.stage == 3]
    assert third == [("C", 768)] * 8 + [("T", 1536)] * 42
    plain = create_model("coatnet_6", stack="C-C-C-T")
    third = [(b.letter, b.width) for b in plain.plan if b.stage == 3]
    assert third == [("C", 768)] * 8 + [("C", 1536)] * 42


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ("C-C-X-T", "give letters of"),
        ("C-C-CTB-T", "do not match widths"),
        ("C--C-T", "give letters of"),
    ],
)
def test_stages_that_cannot_be_built(stack, said):
    with pytest.raises(ValueError, match=said):
        create_model("coatnet_6", stack=stack)


@pytest.mark.parametrize(
    "overrides",
    [
        {"stack": "CCT"},
        {"stack": ""},
        {"strides": (2, 2, 2)},
        {"strides": (2, 2, 2, 2, 4)},
        {"attention": "both"},
    ],
    ids=str,
)
def test_overrides_that_do_not_go_together(overrides):
    with pytest.raises(ValueError, match=r"stages|all 1 or 2|not one of pre"):
        create_model("coatnet_0", 3, 64, **overrides)


def test_patches_that_are_larger_than_the_image():
    with pytest.raises(ValueError, match="patches of 64 px do not fit"):
        create_model("vit_tiny", 3, 32, patch_size=64)


def test_a_stage_too_narrow_for_a_head_is_refused():
    with pytest.raises(ValueError, match="stage 1 is 16 channels wide"):
        create_model("astroformer_pico", 3, 32, stack="T-C-C-T")
    model = create_model("astroformer_nano", 3, 32, stack="T-T-T-T")
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    jax.eval_shape(model.init, jax.random.key(0), images)


def test_drop_path_and_dropout_act_in_training_alone():
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 1)).astype(np.float32)
    plain = small_hybrid.create(3, 16)
    dropping = small_hybrid.create(3, 16, drop_path=0.5, dropout=0.5)
    variables = random_variables(plain, images)
    programs = {
        model: jit_once(partial(model.apply, train=True, mutable=["batch_stats"]))
        for model in (plain, dropping)
    }

    def train(model, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return programs[model](variables, images, rngs=rngs)[0]

    np.testing.assert_array_equal(
        jit_once(plain.apply)(variables, images),
        jit_once(dropping.apply)(variables, images),
    )
    assert np.abs(train(dropping, 0) - train(dropping, 1)).max() > 1e-3
    np.testing.assert_array_equal(train(plain, 0), train(plain, 1))


def test_bfloat16_keeps_parameters_and_logits_in_float32():
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    exact = small_hybrid.create(3, 16)
    rough = small_hybrid.create(3, 16, dtype=jnp.bfloat16)
    variables = jit_once(rough.init)(jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = jit_once(rough.apply)(variables, images)
    assert logits.dtype == jnp.float32
    assert (logits != logits.astype(jnp.bfloat16)).any()  # not rounded on the way
    expected = np.asarray(jit_once(exact.apply)(variables, images))
    np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("cbam_pico", {}),
        ("sasa_pico", {}),
        ("maxvit_tiny", {"widths": (32, 32, 32, 32), "depths": (1, 1, 1, 1)}),
        ("coatnet_3_rw", {"widths": (32, 32, 32, 32), "depths": (1, 1, 1, 1)}),
        ("coatnet_rmlp_1_rw", {"widths": (32, 32, 32, 32), "depths": (1, 1, 1, 1)}),
        ("vit_tiny", {"depth": 1}),
    ],
)
def test_every_block_computes_in_the_precision_asked_for(name, overrides):
    model = create_model(name, 3, 32, dtype=jnp.bfloat16, **overrides)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    features = jax.eval_shape(partial(extract_features, model), variables, images)
    assert {x.dtype for x in features.maps} == {jnp.dtype("bfloat16")}
    logits = jax.eval_shape(model.apply, variables, images)
    assert logits.dtype == jnp.float32


def test_average_pool_of_odd_maps_counts_only_what_is_there():
    x = np.arange(15.0).reshape(1, 3, 5, 1)
    expected = [
        [(0 + 1 + 5 + 6) / 4, (2 + 3 + 7 + 8) / 4, (4 + 9) / 2],
        [10.5, 12.5, 14],
    ]
    np.testing.assert_allclose(average_pool(jnp.asarray(x))[0, :, :, 0], expected)


def test_unknown_model_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"did you mean 'astroformer_1'.*coatnet_\*"):
        create_model("astroformer-1")


@pytest.mark.parametrize("train", [False, True])
def test_forward_mode_of_a_network(train):
    """The tangent of the logits, against finite differences and reverse mode."""
    model = small_hybrid.create(5, 16)
    rng = np.random.default_rng(0)
    images, change = rng.normal(size=(2, 4, 16, 16, 3)).astype(np.float32)
    variables = random_variables(model, images)

    @jax.jit
    def logits(images):
        mutable = ["batch_stats"] if train else []
        return model.apply(variables, images, train=train, mutable=mutable)[0]

    y, tangent = jax.jit(lambda x, dx: jax.jvp(logits, (x,), (dx,)))(images, change)
    step = 1e-2
    ahead, behind = (logits(images + sign * step * change) for sign in (1, -1))
    slope = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(tangent, slope, atol=2e-2 * np.abs(slope).max())
    weights = rng.normal(size=y.shape).astype(np.float32)
    gradient = jit_once(jax.grad(lambda x: (logits(x) * weights).sum()))(images)
    expected = np.vdot(gradient, change)
    np.testing.assert_allclose(np.vdot(weights, tangent), expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("classes", "size", "said"),
    [
        (0, 32, "num_classes=0: give a whole number from 1"),
        (-1, 32, "num_classes=-1: give"),
        (2.5, 32, "num_classes=2.5: give"),
        (True, 32, "num_classes=True: give"),
        (10, 10**9, r"image_size=1000000000: .*, below 2\*\*15"),
        (10, 32.5, r"image_size=32.5: give a side in pixels, or \(height, width\)"),
        (10, (32, 32, 3), r"image_size=\(32, 32, 3\): give"),
        (10, 0, "image_size=0: give"),
        (10, (32, -32), r"image_size=\(32, -32\): give"),
    ],
)
@pytest.mark.parametrize("name", ["astroformer_pico", "vit_tiny"])
def test_sizes_that_are_none_are_named(name, classes, size, said):
    with pytest.raises(ValueError, match=said):
        create_model(name, classes, image_size=size)


@pytest.mark.parametrize("name", ["astroformer_pico", "vit_tiny"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "float7"),
        ("dtype", "int32"),
        ("drop_path", float("nan")),
        ("drop_path", 1),
        ("dropout", -0.1),
        ("dropout", "0.1"),
    ],
)
def test_rates_and_types_that_are_none_are_named(name, field, value):
    with pytest.raises(ValueError, match=f"{field}={value!r}: give"):
        create_model(name, 10, 32, **{field: value})
    for good in {"dtype": ("bfloat16", np.float16)}.get(field, (0, np.float32(0.5))):
        assert getattr(create_model(name, 10, 32, **{field: good}), field) == good
