"""The benchmark command as users run it, and its counts against those by hand."""

import gzip
import json
import math
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.profiler import ProfileData

from hybrid_jax.config.schema import OptimConfig
from hybrid_jax.main import main
from hybrid_jax.models import create_model
from hybrid_jax.models.cost import cost
from hybrid_jax.parallel.mesh import create_devices
from hybrid_jax.profiling.data_sheets import data_sheet_flops
from hybrid_jax.profiling.flops import count_flops, count_step_flops
from hybrid_jax.profiling.hlo import Instruction, parse_instructions
from hybrid_jax.profiling.trace import Event, exclusive_times, read_events
from hybrid_jax.programs.programs import initialization_program
from tests.training.test_step import make_task

CONFIG = f"--config={Path(__file__).parents[2] / 'configs' / 'digits.py'}"


def command(*args):
    return main(["hybrid-jax", "benchmark", *map(str, args)])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The numbers of one run of the command, and the folder of its profile."""
    folder = tmp_path_factory.mktemp("benchmark")
    code = command(
        f"{CONFIG}:astroformer_pico",
        "--config.augment.mixup=0",
        "--config.train.batch_size=8",
        "--config.train.eval_batch_size=100",
        "--seconds=0.1",
        f"--json={folder / 'speed.json'}",
        f"--profile={folder / 'profile'}",
    )
    assert code == 0
    return json.loads((folder / "speed.json").read_text()), folder / "profile"


def test_rates_agree_with_each_other(measured):
    numbers, _ = measured
    assert (numbers["train"]["images_per_step"], numbers["batch_size"]) == (8, 8)
    assert numbers["eval"]["images_per_step"] == 360 / 4  # the last batch is not full
    for rate in (numbers["train"], numbers["eval"]):
        low, high = rate["ms_per_step_range"]
        assert 0 < low <= rate["ms_per_step"] <= high
        assert rate["calls"] >= 3
        images = rate["images_per_second"] * rate["ms_per_step"] / 1e3
        assert images == pytest.approx(rate["images_per_step"])


def test_use_of_the_device_follows_from_the_rate(measured):
    numbers, _ = measured
    use, seconds = numbers["flops"], numbers["train"]["ms_per_step"] / 1e3
    assert use["mfu"] == pytest.approx(
        use["per_step"] / (seconds * use["peak_per_second"])
    )
    assert use["peak_source"] == "measured"  # as on every CPU


def test_a_step_costs_three_times_what_the_network_does(measured):
    numbers, _ = measured
    model = create_model(
        "astroformer_pico", 10, image_size=(16, 16), strides=(2, 1, 1, 2, 1)
    )
    counted = cost(model, channels=1)
    assert numbers["parameters"] == counted.parameters
    # All products but those with the images have two gradients.
    forward = 2 * 8 * counted.macs
    assert 2.8 * forward < numbers["flops"]["per_step"] <= 3 * forward


def test_memory_and_start_up_are_reported(measured):
    numbers, _ = measured
    memory, seconds = numbers["memory"], numbers["start_up_seconds"]
    assert memory["of"] == "process"
    assert memory["peak_bytes"] > 4 * 3 * numbers["parameters"]  # Adam's moments too
    assert memory["planned_bytes"]["arguments"] > 4 * 3 * numbers["parameters"]
    parts = [seconds[name] for name in ("traced", "compiled", "first_step")]
    assert min(parts) > 0
    assert seconds["ready"] > max(parts)


def test_a_profile_can_be_opened_and_adds_up(measured):
    numbers, folder = measured
    profile = numbers["profile"]
    assert folder in Path(profile["folder"]).parents
    (trace,) = folder.rglob("*.xplane.pb")
    assert any(True for _ in ProfileData.from_file(str(trace)).planes)
    (perfetto,) = folder.rglob("perfetto_trace.json.gz")
    assert json.loads(gzip.decompress(perfetto.read_bytes()))["traceEvents"]

    parts = {row["part"]: row for row in profile["parts"]}
    stages = [f"stage{i}" for i in range(1, 5)]
    assert list(parts) == ["stem", *stages, "head", "other"]
    assert sum(row["share"] for row in parts.values()) == pytest.approx(1)
    both = sum(row["forward"] + row["backward"] for row in parts.values())
    assert both == pytest.approx(profile["busy_ms_per_step"])
    assert all(
        parts[stage]["forward"] > 0 < parts[stage]["backward"] for stage in stages
    )

    rows = profile["operations"]
    costs = [row["ms_per_step"] for row in rows]
    assert len(rows) == 10
    assert costs == sorted(costs, reverse=True)
    assert 0 < sum(row["share"] for row in rows) < 1
    assert not {"while", "call", "conditional"} & {row["kind"] for row in rows}


@pytest.mark.parametrize("scan", ["on", "off"])
def test_flops_do_not_depend_on_scan_and_remat(scan):
    """Recomputation in the backward pass is no work of the model."""
    model = create_model("astroformer_pico", 5, 32, depths=(1, 1, 4, 1))

    def counted(model, **optim):
        task = make_task().replace(model=model, image_size=model.image_size)
        shapes = initialization_program(create_devices(count=1), task, 1).shapes
        return count_step_flops(task, shapes, 2, 1, OptimConfig(**optim))

    plain = counted(model)
    assert counted(model.clone(scan=scan, remat="full")) == plain
    assert counted(model, sam_rho=0.05) == 2 * plain


def test_flops_of_a_dense_layer_and_convolutions():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(6, (3, 3), strides=2, name="first")(x)  # 8x8x3 to 4x4x6
            x = nn.Conv(10, (2, 2), strides=2, name="second")(x)  # to 2x2x10
            x = nn.Conv(10, (3, 3), feature_group_count=10, name="depthwise")(x)
            return nn.Dense(7, name="dense")(x.reshape(len(x), -1))

    net, images = Net(), jax.ShapeDtypeStruct((5, 8, 8, 3), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), images)
    macs = {
        "first": 4 * 4 * 6 * 3 * 9,
        "second": 2 * 2 * 10 * 6 * 4,
        "depthwise": 2 * 2 * 10 * 9,
        "dense": 40 * 7,
    }
    assert count_flops(net.apply, params, images) == 2 * 5 * sum(macs.values())
    # No gradient of the images is asked for; the zeros of a strided one do not count.
    macs = 3 * sum(macs.values()) - macs["first"]
    gradient = jax.grad(lambda params, x: net.apply(params, x).sum())
    assert count_flops(gradient, params, images) == 2 * 5 * macs


def test_instants_are_split_among_what_runs_then():
    times, idle = exclusive_times(
        [Event(0, 10, "a"), Event(4, 8, "b"), Event(12, 14, "a"), Event(14, 15, "c")]
    )
    assert idle == 2
    assert times == {"a": 4 + 2 + 2 + 2, "b": 2, "c": 1}
    assert exclusive_times([]) == ({}, 0)


def test_origins_are_read_from_a_program():
    step, block = "jit(train_steps)/while/body", "stage2_block1/expand"
    forward = f"{step}/jvp(HybridNet)/{block}/exp"
    # Of a hand-written gradient, in a method of the module.
    backward = f"{step}/transpose(jvp(HybridNet))/{block}/transpose(transpose("
    backward += "jvp(HybridNet)))/stage2_block1/stage2_block1._mix/expand/jvp()/exp"
    text = f"""\
HloModule jit_train_steps

%fused (p: f32[2]) -> f32[2] {{
  %p = f32[2]{{0}} parameter(0)
  %exp.1 = f32[2]{{0}} exponential(%p), metadata={{op_name="{forward}"}}
}}

ENTRY %main (x: f32[2]) -> (f32[2], f32[2]) {{
  %x = f32[2]{{0:T(128)}} parameter(0)
  %fusion.1 = f32[2]{{0:T(128)}} fusion(%x), kind=kLoop, calls=%fused
  %dot.7 = f32[2]{{0}} dot(%x, %x), metadata={{op_name="{backward}"}}
  ROOT %both = (f32[2]{{0:T(128)}}, /*index=1*/f32[2]{{0}}) tuple(%fusion.1, %dot.7)
}}
"""
    found = parse_instructions(text)
    assert set(found) == {"p", "exp.1", "x", "fusion.1", "dot.7", "both"}
    assert found["both"].kind == "tuple"
    assert found["both"].operands == ("fusion.1", "dot.7")
    assert found["fusion.1"].called == ("fused",)
    assert (found["both"].part, found["both"].direction) == ("other", "forward")
    for name, direction in (("fusion.1", "forward"), ("dot.7", "backward")):
        instruction = found[name]
        assert instruction.direction == direction
        assert instruction.part == "stage2"
        assert instruction.module_path == "stage2_block1/expand/exp"


def plane(name, **rows):
    """Return a plane of a trace; an event is a name, or a pair of name and `hlo_op`."""

    def event(at, called):
        name, *op = called if isinstance(called, tuple) else (called,)
        stats = [("hlo_op", op[0])] if op else []
        return SimpleNamespace(name=name, start_ns=at, duration_ns=1, stats=stats)

    lines = [
        SimpleNamespace(
            name=row.replace("_", " "), events=[event(*of) for of in enumerate(events)]
        )
        for row, events in rows.items()
    ]
    return SimpleNamespace(name=name, lines=lines)


@pytest.mark.parametrize(
    ("planes", "names"),
    [
        ([plane("/host:CPU", tf_XLAEigen=["dot.1", "while.2", "Record"])], ["dot.1"]),
        (
            [
                plane("/host:CPU", python=["dot.1"]),
                plane(
                    "/device:GPU:0",
                    Stream_1=[("void gemm<4>(int)", "dot.1"), "void copy<2>(int)"],
                    Steps=["dot.1"],
                ),
            ],
            ["dot.1", "void copy<2>(int)"],
        ),
        (
            [
                plane(
                    "/device:TPU:0",
                    XLA_Modules=["jit_train_steps"],
                    XLA_Ops=["%while.2 = (s32[]) while(%x)", "%dot.1 = f32[2] dot(%x)"],
                )
            ],
            ["dot.1"],
        ),
    ],
    ids=["cpu", "gpu", "tpu"],
)
def test_operations_of_every_platform(planes, names):
    known = {"dot.1": Instruction("dot", ""), "while.2": Instruction("while", "")}
    found = read_events(SimpleNamespace(planes=planes), known)
    assert [event.name for event in found] == names


def test_json_has_the_standard_output_to_itself(measured, monkeypatch, capsys):
    numbers, _ = measured
    monkeypatch.setattr(
        "hybrid_jax.profiling.measure.measure_experiment", lambda *_: numbers
    )
    assert command(CONFIG, "--json=-") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == numbers
    for said in ("train", "MFU", "(measured)", "planned", "stage4"):
        assert said in err
    untested = {name: value for name, value in numbers.items() if name != "eval"}
    monkeypatch.setattr(
        "hybrid_jax.profiling.measure.measure_experiment", lambda *_: untested
    )
    assert command(CONFIG, "--json=-") == 0
    assert json.loads(capsys.readouterr().out) == untested


def test_peaks_are_those_of_whole_devices():
    assert data_sheet_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert data_sheet_flops("NVIDIA A100-SXM4-80GB", "float32") == 19.5e12
    assert data_sheet_flops("NVIDIA A100 80GB PCIe", "float32") == 19.5e12
    assert data_sheet_flops("TPU v5 lite", "bfloat16") == 197e12
    assert data_sheet_flops("TPU v5", "bfloat16") == 459e12
    for slice_or_other in ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA L400", "cpu"):
        assert data_sheet_flops(slice_or_other, "bfloat16") is None
    assert data_sheet_flops("Tesla T4", "bfloat16") is None
    assert math.isclose(data_sheet_flops("Tesla T4", "float32"), 8.1e12)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "--config is missing"),
        ([CONFIG, "--second=3"], "second"),
        ([CONFIG, "--seconds=soon"], "seconds"),
        ([CONFIG, "--seconds=0"], "seconds"),
        ([CONFIG, "--json=nowhere/at/all.json"], "--json=nowhere/at/all.json lies in"),
        ([CONFIG, "--json=setup.py"], "--json=setup.py exists"),
        ([CONFIG, "--config.train.batch=3"], "batch"),
        ([CONFIG, "--config.train.batch_size=0"], "config.train.batch_size=0"),
        ((CONFIG, "--profile=setup.py/x"), "setup.py is a file: give a folder"),
    ],
)
def test_mistakes_are_reported_in_one_line(args, said, capsys):
    assert command(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err
