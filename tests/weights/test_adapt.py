"""Weights at other resolutions, classes and channels."""

import re

import numpy as np
import pytest

from hybrid_jax.models import create_model
from hybrid_jax.models.attention import relative_position_index, torus_position_index
from hybrid_jax.weights.adapt import (
    Source,
    adapt_arrays,
    adapt_rgb,
    resize_positions,
)
from hybrid_jax.weights.bias_tables import fold_to_torus, resize_table, unfold_torus
from hybrid_jax.weights.timm_names import timm_leaf
from tests.timm_oracle import import_timm, shapes_of

HYBRID = create_model("astroformer_pico", 3, 32)
VIT = create_model("vit_tiny", 3, 16, patch_size=4)
CLASSIFIER = "params/head/classifier/kernel"


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("size", [(13, 13), (27, 27), (7, 27)])
def test_a_table_resized_is_pytorchs_bilinear_one(size):
    import_timm()
    import torch

    table = random(13, 13, 3)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(table.transpose(2, 0, 1))[None],
        size,
        mode="bilinear",
        antialias=True,
    )[0].numpy()
    ours = resize_table(table, (*size, 3))
    np.testing.assert_allclose(ours, theirs.transpose(1, 2, 0), atol=1e-6)


@pytest.mark.parametrize("side", [4, 7, 14])
def test_a_resized_table_keeps_no_offset_in_the_middle(side):
    """A bias that grows with the distance still has its least value at distance 0."""
    offsets = np.abs(np.arange(-6, 7))
    table = (offsets[:, None] + offsets[None, :])[..., None].astype(np.float32)
    resized = resize_table(table, (2 * side - 1, 2 * side - 1, 1))[..., 0]
    assert np.unravel_index(resized.argmin(), resized.shape) == (side - 1, side - 1)
    np.testing.assert_allclose(resized, resized[::-1, ::-1], atol=1e-5)


def bias(table, index):
    """The bias of every pair of positions."""
    return table.reshape(-1, table.shape[-1])[index]


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 2)])
def test_a_torus_unfolded_gives_every_pair_of_positions_its_bias(size):
    torus = random(*size, 2)
    unfolded = bias(unfold_torus(torus), relative_position_index(*size))
    np.testing.assert_array_equal(unfolded, bias(torus, torus_position_index(*size)))
    np.testing.assert_allclose(fold_to_torus(unfold_torus(torus)), torus, atol=1e-6)


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_a_table_folded_to_a_torus_is_the_least_squares_over_pairs(size):
    table = random(2 * size[0] - 1, 2 * size[1] - 1, 1)
    wanted = bias(table, relative_position_index(*size)).reshape(-1)
    columns = torus_position_index(*size).reshape(-1)
    one_hot = np.eye(size[0] * size[1])[columns]
    expected, *_ = np.linalg.lstsq(one_hot, wanted, rcond=None)
    folded = fold_to_torus(table)
    np.testing.assert_allclose(folded.reshape(-1), expected, atol=1e-6)


TABLES = {  # from and to a map of 7x7: its table, and that of a 4x4 map, are as large
    "torus to a smaller torus": ((7, 7), True, 4, "torus", ["resized: 7x7 to 4x4"]),
    "torus to the map": ((7, 7), True, 7, "table", ["unfolded from a torus, exactly"]),
    "map to its torus": ((13, 13), False, 7, "torus", ["folded to a torus"]),
    "map to a larger torus": (
        (7, 7),
        False,
        7,
        "torus",
        ["resized: 4x4 to 7x7", "folded to a torus"],
    ),
    "torus to itself": ((7, 7), True, 7, "torus", []),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_of_maps_and_tori_are_told_apart(case):
    sides, from_torus, map_side, kind, said = TABLES[case]
    model = create_model(
        "astroformer_pico",
        3,
        8 * map_side,
        strides=(2, 2, 2, 1, 1),
        relative_bias=kind,
    )
    (path,) = [p for p in shapes_of(model) if p.endswith("bias_table")]
    table = random(*sides, 4)
    shapes = {path: shapes_of(model)[path]}
    source = Source(on_torus=from_torus)
    adapted = adapt_arrays(model, {path: table}, shapes, source)
    assert adapted.arrays[path].shape == shapes[path]
    assert len(adapted.notes) == bool(said)
    assert all(words in adapted.notes[0] for words in said)


@pytest.mark.parametrize("patches", [(8, 8), (3, 3), (6, 9)])
def test_positions_are_resized_as_by_timm(patches):
    import_timm()
    import torch
    from timm.layers import resample_abs_pos_embed

    positions = random(1 + 36, 5)
    theirs = resample_abs_pos_embed(torch.from_numpy(positions)[None], patches)[0]
    ours = resize_positions(positions, (6, 6), patches)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_kernels_are_adapted_to_channels_as_by_timm(channels):
    import_timm()
    import torch
    from timm.models._manipulate import adapt_input_conv

    kernel = random(3, 3, 3, 8)
    theirs = adapt_input_conv(
        channels, torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    )
    theirs = theirs.numpy().transpose(2, 3, 1, 0)
    ours = adapt_rgb(kernel, (3, 3, channels, 8), 9)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    flat = adapt_rgb(kernel.reshape(27, 8), (9 * channels, 8), 9)
    np.testing.assert_array_equal(flat, ours.reshape(-1, 8))


def test_all_that_does_not_fit_is_listed_at_once():
    shapes = {f"params/stage1_block{n}/expand/kernel": (4, 8) for n in (1, 2, 3)}
    shapes |= {"params/stem/norm/scale": (4,), "params/head/norm/bias": (4,)}
    arrays = {
        "params/stem/norm/scale": random(5),
        "params/stem/other": random(2),
        "params/head/norm/bias": random(4),
    }
    with pytest.raises(ValueError) as error:
        adapt_arrays(HYBRID, arrays, shapes)
    assert str(error.value) == (
        "3 missing: params/stage1_block{1,2,3}/expand/kernel; "
        "1 surplus: params/stem/other; "
        "1 misshapen: params/stem/norm/scale (5,) instead of (4,)"
    )


def test_names_and_shapes_of_the_file_are_shown():
    path = "params/stem/conv1/kernel"
    leaves = {path: timm_leaf(HYBRID, path, 4)}
    with pytest.raises(ValueError, match=r"1 missing: stem\.conv1\.weight$"):
        adapt_arrays(HYBRID, {}, {path: (3, 3, 3, 8)}, Source(leaves=leaves))
    said = re.escape("stem.conv1.weight (8, 3, 5, 5) instead of (8, 3, 3, 3)")
    with pytest.raises(ValueError, match=said):
        arrays = {path: random(5, 5, 3, 8)}
        adapt_arrays(HYBRID, arrays, {path: (3, 3, 3, 8)}, Source(leaves=leaves))


def test_a_first_kernel_of_other_channels_says_which_are_adapted():
    path = "params/stem/conv1/kernel"
    said = re.escape("(3, 3, 1, 8) instead of (3, 3, 3, 8) (made for images of 1 ch")
    with pytest.raises(ValueError, match=said):
        adapt_arrays(HYBRID, {path: random(3, 3, 1, 8)}, {path: (3, 3, 3, 8)})


def test_positions_that_form_no_square_are_taken_for_those_of_the_network():
    model = create_model("vit_tiny", 3, (16, 32), patch_size=4, depth=1)
    shapes = shapes_of(model)
    arrays = {path: random(*shape) for path, shape in shapes.items()}
    adapted = adapt_arrays(model, arrays, shapes)
    assert adapted.notes == []
    key = "params/position_embedding"
    np.testing.assert_array_equal(adapted.arrays[key], arrays[key])
    arrays[key] = random(1 + 3 * 5, 192)
    with pytest.raises(ValueError, match=r"1 misshapen: params/position_embedding"):
        adapt_arrays(model, arrays, shapes)


def test_positions_of_as_many_patches_in_another_shape_are_resized():
    """4 by 9 patches are 36, and so are 6 by 6."""
    model = create_model("vit_tiny", 3, (16, 36), patch_size=4)
    path, positions = "params/position_embedding", random(1 + 36, 192)
    same = adapt_arrays(
        model, {path: positions}, {path: (37, 192)}, Source(patches=(4, 9))
    )
    assert same.notes == []
    square = adapt_arrays(model, {path: positions}, {path: (37, 192)})
    assert square.notes == ["positions resized: 6x6 to 4x9 patches"]
    assert not np.array_equal(square.arrays[path], positions)


def test_what_was_changed_is_told():
    arrays = {
        CLASSIFIER: random(8, 1000),
        "params/stage4_block1/attention/bias_table": random(13, 13, 2),
        "params/stage4_block2/attention/bias_table": random(13, 13, 2),
        "params/stem/conv1/kernel": random(3, 3, 3, 4),
        "params/stem/norm/scale": random(4),
    }
    shapes = {path: array.shape for path, array in arrays.items()} | {
        CLASSIFIER: (8, 10),
        "params/stage4_block1/attention/bias_table": (7, 7, 2),
        "params/stage4_block2/attention/bias_table": (7, 7, 2),
        "params/stem/conv1/kernel": (3, 3, 1, 4),
    }
    fitted = adapt_arrays(HYBRID, arrays, shapes)
    assert fitted.notes == [
        "new classifier: 1000 classes to 10",
        "bias tables resized: 7x7 to 4x4",
        "first kernel adapted: 3 channels to 1",
    ]
    assert CLASSIFIER not in fitted.arrays
    assert {p: a.shape for p, a in fitted.arrays.items()} == {
        path: shape for path, shape in shapes.items() if path != CLASSIFIER
    }
    scale = "params/stem/norm/scale"
    np.testing.assert_array_equal(fitted.arrays[scale], arrays[scale])


BIAS = "params/head/classifier/bias"
HEAD = {CLASSIFIER: random(8, 3), BIAS: np.float32([0, 1, 2])}


def fit_head(theirs, ours):
    shapes = {path: array.shape for path, array in HEAD.items()}
    return adapt_arrays(HYBRID, HEAD, shapes, Source(classes=theirs), ours)


@pytest.mark.parametrize(
    ("theirs", "ours", "notes"),
    [
        (("a", "b", "c"), ["a", "b", "c"], []),
        (("a", "b", "c"), None, []),
        (None, None, []),
        (
            None,
            ("a", "b", "c"),
            ["class names unknown: its classifier of 3 classes is kept"],
        ),
    ],
)
def test_a_classifier_is_kept_unless_names_say_otherwise(theirs, ours, notes):
    fitted = fit_head(theirs, ours)
    assert fitted.notes == notes
    for path, array in HEAD.items():
        np.testing.assert_array_equal(fitted.arrays[path], array)


def test_a_classifier_of_the_same_classes_in_another_order_keeps_its_logits():
    theirs, ours = ("a", "b", "c"), ("c", "a", "b")
    fitted = fit_head(theirs, ours)
    assert fitted.notes == [
        "classifier reordered: the same classes were in another order"
    ]
    x = random(5, 8)
    before, after = (
        dict(zip(names, (x @ h[CLASSIFIER] + h[BIAS]).T, strict=True))
        for names, h in ((theirs, HEAD), (ours, fitted.arrays))
    )
    for name in theirs:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (("a", "b", "d"), "1 of the 3 classes are not in the file, such as 'c'"),
        (("x", "y", "z"), "3 of the 3 classes are not in the file, such as 'a'"),
        (("a", "b", "b"), "1 of the 3 classes"),
    ],
)
def test_a_classifier_of_other_names_is_not_taken_over(theirs, said):
    fitted = fit_head(theirs, ("a", "b", "c"))
    assert fitted.arrays == {}
    assert fitted.notes[0].startswith("new classifier: ")
    assert said in fitted.notes[0]
    assert len(fitted.notes) == 1


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("params/head/classifier/kernel", (8, 10), (9, 10)),
        ("params/head/hidden/kernel", (8, 10), (8, 12)),
        ("params/stage4_block1/attention/bias_table", (13, 13, 2), (13, 13, 4)),
        ("params/stem/conv1/kernel", (3, 3, 4, 8), (3, 3, 1, 8)),
        ("params/stem/conv1/kernel", (5, 5, 3, 8), (3, 3, 3, 8)),
        ("params/patch_embedding/kernel", (2 * 2 * 3, 8), (4 * 4 * 3, 8)),
        ("params/patch_embedding/kernel", (8 * 8 * 3, 8), (4 * 4 * 3, 8)),
        ("params/position_embedding", (1 + 35, 8), (1 + 16, 8)),
        ("params/stem/norm/scale", (4,), (1, 4)),
    ],
)
def test_what_no_change_can_fit(path, old, new):
    with pytest.raises(ValueError, match="1 misshapen"):
        model = HYBRID if "st" in path or "head" in path else VIT
        adapt_arrays(model, {path: random(*old)}, {path: new})
