"""Programs for chips that are not here: a real compiler, where one is installed."""

import json
import os
import subprocess
import sys
from unittest.mock import Mock

import jax
import pytest

from hybrid_jax import data
from hybrid_jax.chips import measure
from hybrid_jax.chips.specs import CHIPS
from hybrid_jax.chips.topology import describe_devices, parse_target
from hybrid_jax.cli import benchmark
from hybrid_jax.cli.common import XLA_FLAGS
from hybrid_jax.config.resolve import resolve
from hybrid_jax.errors import UserError
from hybrid_jax.programs.experiment import Experiment, set_up_process
from tests.commands import hybrid_jax
from tests.experiments import small

FSDP = ["--config.parallel.devices=2", "--config.parallel.fsdp=2"]
CONFIG = (
    "--config=digits:astroformer_femto",
    "--config.data.image_size=32,32",
    "--config.train.batch_size=32",
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h1000", r"--target=h1000 is not known: take v5e, v5p"),
        ("v5e:4", r"--target=v5e:4: write several chips as v5e:2x2"),
        ("h100:2x2", r"--target=h100:2x2: write several chips as h100:8"),
        ("h100:0", r"write several chips as h100:8"),
        ("v5p:2x2x", r"write several chips as v5p:2x2x1"),
    ],
)
def test_what_is_no_target_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_target(text)


@pytest.mark.parametrize("text", ["v5e", "V5E:4x4", "h100", "a100:8", "v5p:2x2x4"])
def test_targets(text):
    target = parse_target(text)
    assert str(target) == text.lower()
    assert target.chip is CHIPS[text.lower().partition(":")[0]]


def test_every_chip_has_its_peak():
    for chip in CHIPS.values():
        assert chip.flops("bfloat16") > 100e12


@pytest.mark.parametrize(
    ("target", "package", "extra"),
    [("v5e", "libtpu", "tpu"), ("h100", "jax_cuda12_plugin", "gpu")],
)
def test_a_compiler_that_is_not_installed_is_named(monkeypatch, target, package, extra):
    def missing(module):
        raise ModuleNotFoundError(name=package.partition(".")[0])

    monkeypatch.setattr("hybrid_jax.extras.importlib.import_module", missing)
    with pytest.raises(UserError, match=rf"--target={target} needs .*\[{extra}\]"):
        describe_devices(parse_target(target))


def compiled(target, *flags):
    """What the command finds, in a process of its own, which has another platform."""
    module = "libtpu" if CHIPS[target.partition(":")[0]].platform == "tpu" else ""
    pytest.importorskip(module or "jax_cuda12_plugin")
    words = ("benchmark", *CONFIG, f"--target={target}", "--json=-", *flags)
    run = subprocess.run(
        [sys.executable, "-m", "hybrid_jax.main", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout), run.stderr


def test_one_kernel_for_norm_and_convolution_moves_fewer_bytes():
    moved = {}
    for kernels in ("xla", "pallas"):
        numbers, _ = compiled("h100", f"--config.train.kernels={kernels}")
        moved[kernels] = sum(row["bytes"] for row in numbers["train"]["parts"])
        kinds = [row["name"] for row in numbers["train"]["kinds"]]
        assert ("kernel of ours" in kinds) == (kernels == "pallas")
    assert moved["pallas"] < 0.9 * moved["xla"]


@pytest.mark.parametrize(("target", "flags"), [("v5e", []), ("h100:4", FSDP)])
def test_a_step_is_compiled_for_chips(target, flags):
    numbers, report = compiled(target, *flags)
    assert numbers["devices"] == (2 if flags else 1)
    for program in (numbers["train"], numbers["eval"]):
        assert program["memory"]["needed"] < program["memory"]["available"]
        assert program["memory"]["largest_batch"] > 1000
        parts = {row["name"].split()[0]: row["bytes"] for row in program["parts"]}
        assert {"stem", "stage1", "stage4", "head"} <= parts.keys()
        assert sum(row["bytes"] for row in program["kinds"]) == program["bytes"]
        bound = program["batch_size"] / program["images_per_second"]
        both = program["seconds_by_memory"], program["seconds_by_arithmetic"]
        assert bound == pytest.approx(max(both))
    backward = [r for r in numbers["train"]["parts"] if r["name"].endswith("backward")]
    assert len(backward) >= 5
    assert "images/s: memory takes" in report
    kinds = {row["name"] for row in numbers["train"]["collectives"]}
    if flags:
        assert "all-reduce" in kinds
        assert kinds & {"all-gather", "reduce-scatter"}
    else:
        assert not kinds


@pytest.fixture
def experiment():
    config = set_up_process(resolve(small(train__batch_size=24, optim__accumulate=2)))
    return Experiment(config, data.load(config.data))


def fitting(most):
    """What compiles steps of so many images and no more, as a TPU's compiler does."""

    def compile_step(experiment):
        train = experiment.config.train
        if max(train.batch_size, train.eval_batch_size) > most:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no room.\nMore")
        return {}

    return compile_step


def test_a_step_that_does_not_fit_is_halved(monkeypatch, experiment):
    monkeypatch.setattr(measure, "_compile", fitting(10))
    found, _ = measure._compile_what_fits(experiment)
    train = found.config.train
    # Halves of 24 that two micro-batches share: 12, and 6.
    assert (train.batch_size, train.eval_batch_size) == (6, 6)


def test_a_step_of_which_nothing_fits_is_refused(monkeypatch, experiment):
    monkeypatch.setattr(measure, "_compile", fitting(0))
    with pytest.raises(
        UserError, match=r"not even a step of 2 .*: RESOURCE_.* room\.$"
    ):
        measure._compile_what_fits(experiment)


def test_what_the_compilers_cannot_do_is_refused():
    run = hybrid_jax("benchmark", *CONFIG, "--target=h100", "--profile=x")
    assert run.returncode == 2
    assert "--profile runs steps, and --target=h100 only compiles them" in run.stderr


def test_pmap_is_refused():
    kind = "--config.parallel.kind=pmap"
    run = hybrid_jax("benchmark", *CONFIG, "--target=h100", kind)
    assert run.returncode == 2
    assert "take --config.parallel.kind=jit" in run.stderr


def test_a_compiler_of_a_chip_gets_the_users_flags_alone(monkeypatch):
    """Ours are for CPUs, and a message that names them would tell the user nothing."""
    monkeypatch.setenv("XLA_FLAGS", f"{XLA_FLAGS} --xla_of_the_user=1")
    monkeypatch.setattr(benchmark, "prepare_process", Mock(side_effect=StopIteration))
    with pytest.raises(StopIteration):
        benchmark._compile_for(None, None, None)
    assert os.environ["XLA_FLAGS"] == "--xla_of_the_user=1"
