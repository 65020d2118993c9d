"""Hand-written operations against their references: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.ops import attention as attention_ops
from hybrid_jax.ops.attention import attention, attention_fused, attention_reference
from hybrid_jax.ops.backend import (
    compiling_for,
    reference_implementations,
    target_devices,
)
from hybrid_jax.ops.batch_norm import (
    batch_norm,
    batch_norm_reference,
    normalize,
)
from hybrid_jax.ops.channel_sums import sums_folded, sums_reference
from hybrid_jax.ops.conv import (
    convolution,
    convolution_product,
    convolution_reference,
    convolution_unstrided,
)
from hybrid_jax.ops.depthwise_conv import (
    depthwise,
    depthwise_fusible,
    depthwise_reference,
    depthwise_shifted,
)
from hybrid_jax.ops.fusion import compiled_apart, written_once
from hybrid_jax.ops.gelu import gelu, gelu_reference
from hybrid_jax.ops.pointwise import (
    gated_pointwise,
    gated_pointwise_by_kernel,
    gated_pointwise_reference,
)
from hybrid_jax.ops.winograd import convolution_winograd
from tests.absent_chip import Device
from tests.ops.compared import arrays, assert_equal, value_and_grads

PADDINGS = ["symmetric", "same", "circular"]


def skip_odd_torus(size, stride, padding):
    if padding == "circular" and any(side % stride for side in size):
        pytest.skip("a torus with an odd side has no half")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 4), (1, 1)])
def test_depthwise(size, stride, padding, dtype):
    skip_odd_torus(size, stride, padding)
    x, kernel = arrays((3, *size, 6), (3, 3, 1, 6), dtype=dtype)
    how = {"stride": stride, "padding": padding}
    ours = value_and_grads(lambda x, k: depthwise_shifted(x, k, **how), x, kernel)
    theirs = value_and_grads(lambda x, k: depthwise_reference(x, k, **how), x, kernel)
    assert_equal(ours, theirs, dtype)
    alone = jax.jit(lambda x, k: depthwise_fusible(x, k, **how))(x, kernel)
    assert_equal([alone], theirs[:1], dtype)
    ours = value_and_grads(lambda x, k: depthwise_fusible(x, k, **how), x, kernel)
    assert_equal(ours, theirs, dtype)


@pytest.mark.parametrize("shape", [(64, 2, 2, 3), (1, 16, 3, 3), (7, 11, 13, 3)])
def test_depthwise_gradient_however_its_products_are_folded(shape):
    x, kernel = arrays(shape, (3, 3, 1, 3))
    ours = value_and_grads(depthwise_shifted, x, kernel)
    theirs = value_and_grads(depthwise_reference, x, kernel)
    assert_equal(ours, theirs, jnp.float32)


def test_depthwise_gradient_of_what_is_not_a_number_is_none():
    x, kernel = arrays((2, 4, 4, 3), (3, 3, 1, 3))
    x = x.at[0, 0, 0, 1].set(jnp.nan)
    gradient = value_and_grads(depthwise_shifted, x, kernel)[2]
    assert np.isnan(gradient[:, :, 0, 1]).any()
    assert np.isfinite(gradient[:, :, 0, 0]).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("size", "taps"), [((8, 8), 3), ((7, 9), 3), ((1, 1), 3), ((6, 5), 7)]
)
def test_convolution(size, taps, stride, padding, dtype):
    skip_odd_torus(size, stride, padding)
    x, kernel = arrays((2, *size, 3), (taps, taps, 3, 5), dtype=dtype)
    how = {"stride": stride, "padding": padding}
    theirs = value_and_grads(lambda x, k: convolution_reference(x, k, **how), x, kernel)
    ours = value_and_grads(lambda x, k: convolution_product(x, k, **how), x, kernel)
    assert_equal(ours, theirs, dtype)
    if stride == 1:
        ours = value_and_grads(
            lambda x, k: convolution_unstrided(x, k, padding), x, kernel
        )
        assert_equal(ours, theirs, dtype)
    if stride == 1 and taps == 3 and dtype == jnp.float32:
        ours = value_and_grads(
            lambda x, k: convolution_winograd(x, k, padding), x, kernel
        )
        assert_equal(ours, theirs, dtype)


def test_winograds_rounding_errors_are_of_the_size_of_the_direct_sums():
    x, kernel = arrays((4, 9, 12, 96), (3, 3, 96, 64))
    with jax.enable_x64(True):
        wide = (jnp.asarray(array, jnp.float64) for array in (x, kernel))
        exact = [np.asarray(a) for a in value_and_grads(convolution_reference, *wide)]
    assert exact[0].dtype == np.float64
    ours, theirs = (
        [
            np.abs(np.asarray(a, np.float64) - b).max()
            for a, b in zip(value_and_grads(form, x, kernel), exact, strict=True)
        ]
        for form in (convolution_winograd, convolution_reference)
    )
    assert (np.array(ours) <= 2 * np.array(theirs)).all()


@pytest.mark.skipif("jax.default_backend() != 'cpu'")
@pytest.mark.parametrize(
    ("shape", "kernel", "dtype", "stride", "winograd"),
    [
        ((2, 16, 16, 32), (3, 3, 32, 16), jnp.float32, 1, True),
        ((2, 16, 16, 32), (3, 3, 32, 16), jnp.bfloat16, 1, False),
        ((2, 16, 16, 32), (5, 5, 32, 16), jnp.float32, 1, False),
        ((2, 16, 16, 16), (3, 3, 16, 16), jnp.float32, 1, False),
        ((1, 16, 16, 32), (3, 3, 32, 16), jnp.float32, 1, False),
        ((8, 16, 16, 32), (3, 3, 32, 16), jnp.float32, 2, False),
    ],
    ids=["large", "bfloat16", "5x5", "narrow", "few tiles", "strided"],
)
def test_which_convolutions_are_winograds_on_a_cpu(
    shape, kernel, dtype, stride, winograd
):
    arguments = jnp.zeros(shape, dtype), jnp.zeros(kernel, dtype)
    lowered = jax.jit(lambda x, k: convolution(x, k, stride)).lower(*arguments)
    assert (lowered.as_text().count("stablehlo.dot_general") > 16) == winograd


@pytest.mark.skipif("jax.default_backend() != 'cpu'")
def test_a_cpu_fuses_nothing_into_what_is_compiled_apart():
    """Neither forward nor backward, and only at the outer border."""
    within = compiled_apart(lambda x: jnp.pad(jnp.sin(x), 1))

    def calls(transformation):
        def loss(x):
            return (3 * within(2 * x)).sum()

        program = jax.jit(transformation(loss)).lower(*arrays((4, 4))).compile()
        return program.as_text().count(" call(")

    assert calls(lambda loss: loss) == 1
    assert calls(jax.grad) == 2
    with reference_implementations():
        assert calls(jax.grad) == 0
    with compiling_for([Device("tpu", "TPU v5e")]):
        assert calls(jax.grad) == 0


@pytest.mark.skipif("jax.default_backend() != 'cpu'")
def test_a_kernels_gradient_on_a_cpu_is_no_convolution():
    x, kernel = arrays((1, 8, 8, 16), (3, 3, 16, 4))
    assert "stablehlo.convolution" in jax.jit(convolution).lower(x, kernel).as_text()
    gradient = jax.jit(jax.grad(lambda k, x: convolution(x, k).sum()))
    assert "stablehlo.convolution" not in gradient.lower(kernel, x).as_text()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("length", [1, 4, 5, 8])
def test_same_padding_is_that_of_xla(length, stride):
    x, kernel = arrays((1, length, length, 2), (3, 3, 2, 2))
    ours = convolution_reference(x, kernel, stride, "same")
    theirs = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "taps"), [((8, 6), 3), ((4, 2), 7)])
def test_circular_padding_is_numpys_wrap(size, taps, stride):
    x, kernel = arrays((1, *size, 2), (taps, taps, 2, 3))
    ours = convolution_reference(x, kernel, stride, "circular")
    half = taps // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)), mode="wrap")
    rows, columns = size[0] // stride, size[1] // stride
    theirs = [
        np.tensordot(padded[0, y : y + taps, x : x + taps], kernel, 3)
        for y in range(0, size[0], stride)
        for x in range(0, size[1], stride)
    ]
    theirs = np.reshape(theirs, (1, rows, columns, 3))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_torus_that_a_stride_does_not_divide_is_refused():
    x, kernel = arrays((1, 7, 8, 2), (3, 3, 2, 2))
    with pytest.raises(
        ValueError, match="a stride of 2 does not divide a torus of 7x8"
    ):
        convolution_reference(x, kernel, 2, "circular")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(3, 8, 6, 5), (2, 1, 1, 4), (1, 7, 3, 2)])
def test_gated_pointwise(shape, dtype):
    batch, *_, channels = shape
    given = arrays(shape, (batch, 1, 1, channels), (channels, 6), dtype=dtype)
    theirs = value_and_grads(gated_pointwise_reference, *given)
    assert_equal(value_and_grads(gated_pointwise_by_kernel, *given), theirs, dtype)
    x, gate, kernel = given
    plain = jnp.einsum("bhwc,cf->bhwf", x * gate, kernel)
    assert_equal([theirs[0]], [plain], dtype)


def traced(fn, *args):
    """The operations of a program, as text."""
    return str(jax.make_jaxpr(lambda *args: fn(*args))(*args))


def test_forms_are_chosen_for_the_devices_that_are_compiled_for():
    x, kernel = arrays((1, 8, 8, 4), (3, 3, 1, 4))
    with compiling_for([Device("tpu")]):
        assert "conv_general_dilated" in traced(depthwise, x, kernel)
    with compiling_for([Device("gpu")]):
        assert "conv_general_dilated" not in traced(depthwise, x, kernel)
        gradient = jax.grad(lambda x, k: depthwise(x, k).sum())
        assert "conv_general_dilated" in traced(gradient, x, kernel)
    assert target_devices() == tuple(jax.devices())


def test_a_gpu_alone_writes_a_map_before_it_is_read():
    x = jnp.zeros(3)
    for device in ("cpu", "tpu", "gpu"):
        with compiling_for([Device(device)]):
            barrier = "optimization_barrier" in traced(written_once, x)
        assert barrier == (device == "gpu")


@pytest.mark.parametrize(
    ("device", "side", "by_kernel"),
    [("cpu", 8, False), ("tpu", 8, True), ("gpu", 8, True), ("gpu", 2, False)],
)
def test_a_gate_weights_the_kernel_where_the_map_is_larger(device, side, by_kernel):
    given = arrays((2, side, side, 3), (2, 1, 1, 3), (3, 5))
    with compiling_for([Device(device)]):
        program = traced(gated_pointwise, *given)
    assert ("[2,3,5]" in program) == by_kernel


def test_reference_implementations_are_convolutions():
    x, kernel = arrays((1, 8, 8, 4), (3, 3, 1, 4))

    def operations():
        return str(jax.make_jaxpr(lambda x, k: depthwise(x, k))(x, kernel))

    assert ("conv_general_dilated" in operations()) == (jax.default_backend() != "cpu")
    with reference_implementations():
        assert "conv_general_dilated" in operations()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gelu(dtype):
    x = jnp.linspace(-6, 6, 1001, dtype=dtype)
    ours, theirs = value_and_grads(gelu, x), value_and_grads(gelu_reference, x)
    assert_equal(ours, theirs, dtype)


def test_gelu_keeps_its_negative_tail_in_bfloat16():
    """Each value and derivative is that of float32, rounded once."""
    x = jnp.linspace(-4, -1, 301, dtype=jnp.bfloat16)
    wide = x.astype(jnp.float32)
    exact = gelu_reference(wide)
    np.testing.assert_allclose(
        gelu(x).astype(jnp.float32), exact, rtol=2**-8, atol=1e-6
    )
    slopes = jax.vmap(jax.grad(gelu))(x).astype(jnp.float32)
    exact = jax.vmap(jax.grad(gelu_reference))(wide)
    np.testing.assert_allclose(slopes, exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("activation", [gelu, jax.nn.silu, jax.nn.relu, lambda x: x])
@pytest.mark.parametrize("shape", [(4, 6, 5, 3), (32, 3)])
def test_batch_norm(shape, activation, dtype):
    x, scale, bias = arrays(shape, (3,), (3,))
    x = (2 * x + jnp.array([0.0, 3.0, -1.0])).astype(dtype)
    how = 1e-3, activation
    ours = value_and_grads(lambda *a: batch_norm(*a, *how)[0], x, scale, bias)
    theirs = value_and_grads(
        lambda *a: batch_norm_reference(*a, *how)[0], x, scale, bias
    )
    assert_equal(ours, theirs, dtype)
    y, mean, variance = batch_norm(x, scale, bias, *how)
    np.testing.assert_allclose(
        mean, x.astype(jnp.float32).mean(range(x.ndim - 1)), rtol=1e-5
    )
    np.testing.assert_allclose(
        variance, x.astype(jnp.float32).var(range(x.ndim - 1)), rtol=1e-4
    )
    given = normalize(x, mean, variance, scale, bias, *how)
    assert_equal([given], [y], dtype)


@pytest.mark.parametrize("shape", [(48, 5), (3, 4, 6, 5), (7, 5)])
def test_sums_however_they_are_folded(shape):
    (x,) = arrays(shape)
    for ours, theirs in zip(sums_folded(x), sums_reference(x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("positions", [6, 9])
def test_attention(positions, biased, dtype):
    """The call of the fused form, which off a GPU another implementation answers."""
    shape = (2, positions, 3, 8)
    q, k, v = arrays(shape, shape, shape, dtype=dtype)
    bias = arrays((3, positions, positions))[0].round(1) if biased else None
    given = (q, k, v, bias)[: 4 if biased else 3]

    def fused(*args):
        return attention_fused(*args, *[None][biased:], implementation="xla")

    def reference(*args):
        return attention_reference(*args, *[None][biased:])

    assert_equal(
        value_and_grads(fused, *given), value_and_grads(reference, *given), dtype
    )


@pytest.mark.parametrize(
    ("device", "dtype", "positions", "fused"),
    [
        (Device("gpu", "9.0"), jnp.bfloat16, 196, True),
        (Device("gpu", "8.0"), jnp.float16, 128, True),
        (Device("gpu", "9.0"), jnp.bfloat16, 49, False),
        (Device("gpu", "9.0"), jnp.float32, 196, False),
        (Device("gpu", "7.5"), jnp.bfloat16, 196, False),
        (Device("gpu", "gfx90a"), jnp.bfloat16, 196, False),
        (Device("tpu"), jnp.bfloat16, 196, False),
    ],
)
def test_attention_is_fused_where_a_gpu_can(
    monkeypatch, device, dtype, positions, fused
):
    monkeypatch.setattr(attention_ops.jax, "default_backend", lambda: device.platform)
    monkeypatch.setattr(attention_ops.jax, "devices", lambda: [device])
    monkeypatch.setattr(attention_ops, "attention_fused", lambda *_: "fused")
    monkeypatch.setattr(attention_ops, "attention_reference", lambda *_: "reference")
    q = jnp.zeros((1, positions, 1, 32), dtype)
    assert attention(q, q, q, None) == ("fused" if fused else "reference")
    with reference_implementations():
        assert attention(q, q, q, None) == "reference"


def shared_input(fn):
    """Sum a function of two inputs, with all other arguments shared by both."""
    return lambda x, *rest: sum(fn(each, *rest) for each in (x, 2 * x))


def vectorized_input(fn):
    """Compute `shared_input` with `vmap`."""

    def summed(x, *rest):
        axes = (0, *[None] * len(rest))
        return jax.vmap(fn, axes)(jnp.stack([x, 2 * x]), *rest).sum(0)

    return summed


OPERATIONS = {
    "gelu": (gelu, gelu_reference, []),
    "convolution": (convolution_unstrided, convolution_reference, [(3, 3, 3, 4)]),
    "winograd": (convolution_winograd, convolution_reference, [(3, 3, 3, 4)]),
    "depthwise": (depthwise_shifted, depthwise_reference, [(3, 3, 1, 3)]),
    "fusible": (depthwise_fusible, depthwise_reference, [(3, 3, 1, 3)]),
    "strided": (
        lambda x, k: depthwise_shifted(x, k, 2, "same"),
        lambda x, k: depthwise_reference(x, k, 2, "same"),
        [(3, 3, 1, 3)],
    ),
    "batch_norm": (
        lambda *a: batch_norm(*a, 1e-3, gelu)[0],
        lambda *a: batch_norm_reference(*a, 1e-3, gelu_reference)[0],
        [(3,), (3,)],
    ),
}


def inputs_of(operation):
    """Return both forms of an operation, its arguments and their tangents."""
    ours, theirs, shapes = OPERATIONS[operation]
    shapes = [(2, 5, 4, 3), *shapes]
    both = arrays(*shapes, *shapes)
    return ours, theirs, tuple(both[: len(shapes)]), tuple(both[len(shapes) :])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_forward_mode(operation):
    ours, theirs, primals, tangents = inputs_of(operation)
    tangent = jax.jit(lambda p, t: jax.jvp(ours, p, t))(primals, tangents)
    assert_equal(tangent, jax.jvp(theirs, primals, tangents), jnp.float32)
    y, transpose = jax.vjp(ours, *primals)
    (dy,) = arrays(y.shape)
    pairs = zip(transpose(dy), tangents, strict=True)
    expected = sum(jnp.vdot(gradient, dx) for gradient, dx in pairs)
    np.testing.assert_allclose(jnp.vdot(dy, tangent[1]), expected, rtol=1e-4)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_forward_mode_under_other_transformations(operation):
    """Per-example gradients, shared arguments, both second derivatives, remat."""
    ours, theirs, primals, tangents = inputs_of(operation)
    order = [*range(len(primals))]

    def found(fn, summed):
        def scalar(*args):
            return jnp.sin(fn(*args)).sum()

        def slope(primals):
            return jax.jvp(jax.checkpoint(scalar), primals, tangents)[1]

        stacked = [jnp.stack([x, 2 * x]) for x in primals]

        def of_sum(*args):
            return jnp.sin(summed(fn)(*args)).sum()

        return [
            jax.vmap(jax.grad(scalar, order))(*stacked),
            jax.grad(of_sum, order)(*primals),
            jax.jvp(jax.grad(scalar, order), primals, tangents)[1],
            jax.grad(slope)(primals),
        ]

    leaves = [
        jax.tree.leaves(jax.jit(lambda fn=fn, summed=summed: found(fn, summed))())
        for fn, summed in [(ours, vectorized_input), (theirs, shared_input)]
    ]
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * np.abs(b).max())
