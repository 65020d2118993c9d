import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.models import create_model, list_models
from hybrid_jax.models.blocks import BLOCKS
from hybrid_jax.models.layers import average_pool
from hybrid_jax.models.table import LETTERS

# Parameters at 224 px, 1000 classes.
PARAMETERS = {
    "astroformer_pico": 428_568,
    "astroformer_nano": 2_435_328,
    "astroformer_0": 23_533_592,
    "astroformer_1": 38_149_448,
    "astroformer_2": 67_381_864,
    "astroformer_3": 150_408_616,
    "astroformer_4": 242_604_904,
    "astroformer_5": 595_579_688,
    "coatnet_0": 25_036_820,
    "coatnet_1": 42_225_776,
    "coatnet_2": 74_684_744,
    "coatnet_3": 166_966_264,
    "coatnet_4": 275_425_288,
}


def count(name, num_classes, size=224):
    model = create_model(name, num_classes, size)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


def test_parameter_counts_of_every_model():
    assert {name: count(name, 1000) for name in list_models()} == PARAMETERS


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


@pytest.mark.parametrize(
    "size", [(16, 16), (17, 23), (28, 28), (48, 16), (33, 64)], ids=str
)
def test_any_size_from_16_px_trains(size):
    model = create_model("astroformer_pico", 3, size)
    images = np.random.default_rng(0).normal(size=(4, *size, 1)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)

    def loss(params):
        logits, updated = model.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        return (logits**2).mean(), (logits, updated)

    grads, (logits, updated) = jax.jit(jax.grad(loss, has_aux=True))(
        variables["params"]
    )
    assert logits.shape == (4, 3)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    dead = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(grads)
        if not np.abs(g).max() > 0
    ]
    assert dead == []
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)),
        variables["batch_stats"],
        updated["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))


def test_letters_are_the_blocks():
    assert LETTERS.keys() == BLOCKS.keys()


def test_stack_is_what_is_built():
    model = create_model("astroformer_pico", 3, 32, stack="C-T-C-T")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    has_attention = {
        name.split("_")[0]: "attention" in block
        for name, block in shapes["params"].items()
        if name.startswith("stage")
    }
    assert has_attention == dict(stage1=False, stage2=True, stage3=False, stage4=True)


def test_a_stage_too_narrow_for_a_head_is_refused():
    with pytest.raises(ValueError, match="stage 1 is 16 channels wide"):
        create_model("astroformer_pico", 3, 32, stack="T-C-C-T")
    model = create_model("astroformer_nano", 3, 32, stack="T-T-T-T")
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    jax.eval_shape(model.init, jax.random.key(0), images)


def test_drop_path_and_dropout_act_in_training_alone():
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 1)).astype(np.float32)
    plain = create_model("astroformer_pico", 3, 16)
    dropping = create_model("astroformer_pico", 3, 16, drop_path=0.5, dropout=0.5)
    variables = jax.jit(plain.init)(jax.random.key(0), images)

    def train(model, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs=rngs
        )[0]

    np.testing.assert_array_equal(
        plain.apply(variables, images), dropping.apply(variables, images)
    )
    assert np.abs(train(dropping, 0) - train(dropping, 1)).max() > 1e-3
    np.testing.assert_array_equal(train(plain, 0), train(plain, 1))


def test_bfloat16_keeps_parameters_and_logits_in_float32():
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    exact = create_model("astroformer_pico", 3, 16)
    rough = create_model("astroformer_pico", 3, 16, dtype=jnp.bfloat16)
    variables = jax.jit(rough.init)(jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = rough.apply(variables, images)
    assert logits.dtype == jnp.float32
    assert (logits != logits.astype(jnp.bfloat16)).any()  # not rounded on the way
    expected = np.asarray(exact.apply(variables, images))
    np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())


def test_average_pool_of_odd_maps_counts_only_what_is_there():
    x = np.arange(15.0).reshape(1, 3, 5, 1)
    expected = [
        [(0 + 1 + 5 + 6) / 4, (2 + 3 + 7 + 8) / 4, (4 + 9) / 2],
        [10.5, 12.5, 14],
    ]
    np.testing.assert_allclose(average_pool(jnp.asarray(x))[0, :, :, 0], expected)


def test_unknown_model_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"did you mean 'astroformer_1'.*coatnet_4"):
        create_model("astroformer-1")
