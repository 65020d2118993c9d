"""Costs against counts of PyTorch's layers, and against numbers known beforehand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.main import main
from hybrid_jax.models import create_model
from hybrid_jax.models.catalog import END, START
from hybrid_jax.models.cost import cost, macs_by_part
from hybrid_jax.models.summary import summary
from tests.models.test_parity import SMALL
from tests.timm_oracle import import_timm, pair, random_images, to_torch


def timms_macs(network, images):
    """Multiply-accumulates of layers and of attention's two products, as they run."""
    import torch
    from torch import nn

    counts = []

    def of_layer(layer, inputs, y):
        counts.append(y.numel() * layer.weight[0].numel())

    def of_attention(module, inputs, y):
        x = inputs[0]
        sequence = isinstance(module.qkv, nn.Linear)
        positions = x[0, ..., 0].numel() if sequence else x[0, 0].numel()
        width = module.qkv.weight.shape[0] // 3
        counts.append(2 * len(x) * positions**2 * width)

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(of_layer)
        elif hasattr(module, "qkv"):
            module.register_forward_hook(of_attention)
    with torch.no_grad():
        network(images)
    return sum(counts)


@pytest.mark.parametrize(
    ("name", "image_size", "overrides"),
    [
        ("astroformer_0", (64, 64), SMALL),
        ("coatnet_rmlp_1_rw", (96, 96), SMALL),
        ("cbam_0", (64, 64), SMALL),
        ("maxvit_tiny", (96, 64), SMALL),
        ("vit_tiny", (48, 32), {"depth": 2}),
    ],
)
def test_cost_equals_timms(name, image_size, overrides):
    import_timm()
    model, network, _ = pair(name, image_size, **overrides)
    images = to_torch(random_images(image_size, batch=1))
    counted = cost(model)
    assert counted.macs == timms_macs(network, images)
    assert counted.parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "giga_macs"),
    [
        ("astroformer_0", 3.99),
        ("astroformer_1", 6.81),
        ("astroformer_2", 13.34),
        ("astroformer_3", 29.88),
        ("astroformer_4", 48.54),
        ("astroformer_5", 108.24),
    ],
)
def test_costs_of_the_astroformers(name, giga_macs):
    assert round(cost(create_model(name, num_classes=10)).macs / 1e9, 2) == giga_macs


def test_a_program_by_hand():
    """`[2, 3] @ [3, 4]` in a loop of five, and a convolution of two groups."""

    def program(a, b, x, kernel):
        def step(y, _):
            return y, jax.jit(jnp.matmul)(a, b)

        with jax.named_scope("outer"):
            jax.lax.scan(step, 0.0, length=5)
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(2, 2),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=2,
        )

    shapes = (2, 3), (3, 4), (1, 8, 6, 4), (3, 3, 2, 10)
    jaxpr = jax.make_jaxpr(program)(*map(jnp.zeros, shapes)).jaxpr
    assert macs_by_part(jaxpr, ["outer"]) == {
        "outer": 5 * 2 * 3 * 4,
        "": 4 * 3 * 10 * 3 * 3 * 2,
    }


@pytest.mark.parametrize(
    ("model", "channels", "error", "said"),
    [
        (
            "astroformer_pico",
            3,
            TypeError,
            "not 'astroformer_pico': hybrid_jax.create_",
        ),
        (None, 0, ValueError, "channels=0: give"),
        (None, 1.5, ValueError, "channels=1.5: give"),
    ],
)
def test_what_has_no_cost_is_named(model, channels, error, said):
    with pytest.raises(error, match=said):
        cost(model or create_model("astroformer_pico", 3, 32), channels)


def test_channels_may_be_a_number_of_numpy():
    model = create_model("astroformer_pico", 3, 32)
    assert cost(model, np.int64(1)).macs == cost(model, 1).macs < cost(model).macs


def test_parts_add_up_and_have_the_shapes_of_the_maps():
    model = create_model("astroformer_pico", 3, (32, 48))
    counted = cost(model, channels=1)
    parts = {part.name: part for part in counted.parts}
    assert [*parts] == [
        "stem",
        *(f"stage{b.stage}_block{b.number}" for b in model.plan),
        "head",
    ]
    last = {b.stage: f"stage{b.stage}_block{b.number}" for b in model.plan if b.last}
    assert [parts[name].shape for name in ["stem", *last.values()]] == [
        (*size, width)
        for size, width in zip(model.map_sizes, (16, 16, 32, 64, 128), strict=True)
    ]
    assert parts["head"].macs == 128 * 128 + 128 * 3
    assert parts["stem"].macs == 32 * 48 * 9 * (1 * 16 + 16 * 16)
    assert counted.parameters == sum(
        x.size for x in jax.tree.leaves(counted.variables["params"])
    )


def test_counting_leaves_no_reference_implementations_behind():
    """Who traces the model afterwards gets the operations of the platform."""
    model = create_model("astroformer_pico", 3, 32)
    images = jnp.zeros((1, 32, 32, 3))

    def programs():
        init = jax.jit(model.init).trace(jax.random.key(0), images)
        apply = jax.jit(model.apply).trace(init.out_info, images)
        return str(init.jaxpr), str(apply.jaxpr)

    before = programs()
    summary(model)
    assert programs() == before


def test_summary_of_a_network_that_no_machine_here_could_hold():
    text = summary(create_model("coatnet_7"))
    total = next(line for line in text.splitlines() if line.startswith("total"))
    assert total.split()[1:] == ["2,443,466,728", "462.189"]
    # XLA counts additions by themselves, and what is no product.
    flops = float(re.search(r"([\d.]+) GFLOPs", text).group(1))
    assert 2 < flops / 462.189 < 2.05


def test_without_the_cpu_there_is_a_summary_without_flops(monkeypatch):
    def no_cpu(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", no_cpu)
    text = summary(create_model("astroformer_pico", 3, 32))
    assert text.endswith("no FLOPs, since JAX_PLATFORMS has no cpu")


def run(capsys, *args):
    code = main(["hybrid-jax", "models", *map(str, args)])
    return code, capsys.readouterr()


def test_command_shows_a_model(capsys):
    sizes = ["--image-size", "32x48", "--num-classes", 7]
    code, out = run(capsys, "vit_tiny", "--parameters", *sizes)
    assert code == 0
    model = create_model("vit_tiny", 7, (32, 48))
    assert out.out == summary(model, parameters=True) + "\n"
    assert "| head/classifier/bias " in out.out
    lines = [line.split() for line in out.out.splitlines()]
    assert ["class_token", "192", "192", "0.000"] in lines
    assert ["block12", "97x1x192", "444,864", "0.047"] in lines


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["coatnet-1"], "did you mean 'coatnet_1'"),
        (["astroformer_0", "--image-size=8"], "an image of 8x8 px is too small"),
        (
            ["astroformer_0", "--image-size=8x"],
            "--image-size=8x is not allowed: pixels such as 224",
        ),
        (
            ["astroformer_0", "--num-classes=0"],
            "--num-classes=0 is not allowed: a whole number from 1",
        ),
        (["astroformer_0", "--write=x"], "leave out the name"),
        (["--parameters"], "the name of a model is missing"),
        (["--image-size=32"], "the name of a model is missing"),
        (["--write=nowhere.md"], "No such file or directory: nowhere.md"),
        (["--write=."], "Is a directory"),
        (["--wibble"], "--wibble does not exist"),
    ],
    ids=" ".join,
)
def test_mistakes(args, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out = run(capsys, *args)
    assert code == 2
    assert out.err.count("\n") == 1
    assert said in out.err
    assert not out.out
    assert not list(tmp_path.iterdir())


def test_table_replaces_what_is_between_the_marks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hybrid_jax.models.catalog.tables", lambda: "| new |")
    path = tmp_path / "page.md"
    path.write_text(f"before\n{START}\n| old |\n{END}\nafter\n")
    assert run(capsys, f"--write={path}")[0] == 0
    assert path.read_text() == f"before\n{START}\n| new |\n{END}\nafter\n"

    path.write_text(f"{END}\n{START}\nthe wrong way round\n")
    code, out = run(capsys, f"--write={path}")
    assert code == 2
    assert f"has no {START} followed by {END}" in out.err
    assert "the wrong way round" in path.read_text()
