"""Steps that are too large are told before they run, with what would fit."""

import json
from types import SimpleNamespace

import pytest

from hybrid_jax.config.schema import Config
from hybrid_jax.data.loader import create_loader
from hybrid_jax.data.memory_budget import device_memory
from hybrid_jax.main import main
from hybrid_jax.programs import experiment, memory_fit
from hybrid_jax.runs.folder import RunFolder
from tests.small_hybrid import CONFIG

MB = 10**6
STATE, IMAGE = 100 * MB, MB  # bytes of a program, of each image at a time


class Plans:
    """Programs that take so many bytes; which were compiled."""

    def __init__(self, batch):
        self.batch, self.compiled = batch, []

    def __call__(self, micro_batches):
        self.compiled.append(self.batch // micro_batches)
        return self.plan(self.batch // micro_batches)

    @staticmethod
    def plan(images):
        plan = SimpleNamespace(
            argument_size_in_bytes=STATE,
            output_size_in_bytes=STATE,
            alias_size_in_bytes=STATE,  # the state is used up
            temp_size_in_bytes=images * IMAGE + 10 * MB,
        )
        return SimpleNamespace(memory_analysis=lambda: plan)


def config(batch=256, **fields):
    return Config.from_flat({"train.batch_size": batch} | fields)


def on(devices):
    """So many devices, of as many hosts."""
    return SimpleNamespace(count=devices, local_count=1)


@pytest.fixture
def room(monkeypatch):
    """Sets the memory, so many megabytes for a step that is looked for."""

    def allow(megabytes):
        bytes_there = int(megabytes * MB / memory_fit.SHARE) + 1
        monkeypatch.setattr(memory_fit, "device_memory", lambda: bytes_there)

    return allow


@pytest.mark.parametrize(
    ("megabytes", "batch", "images"),
    [
        (366, 256, 256),
        (365, 256, 128),
        (238, 256, 128),
        (237, 256, 64),
        (111, 256, 1),
        (209, 96, 96),  # whole, it need be no power of two
        (205, 96, 32),  # 64 would not divide it
    ],
)
def test_the_largest_power_of_two_that_fits_is_found(room, megabytes, batch, images):
    room(megabytes)
    plans = Plans(batch)
    assert batch // memory_fit.fewest_micro_batches(batch, 1, plans, on(1)) == images
    assert plans.compiled[0] == batch


def test_what_cannot_fit_is_not_compiled(room):
    room(130)
    plans = Plans(1024)
    assert memory_fit.fewest_micro_batches(1024, 1, plans, on(1)) == 1024 // 16
    assert plans.compiled == [1024, 16]


def test_every_device_has_a_part_of_a_micro_batch(room):
    room(118)
    assert memory_fit.fewest_micro_batches(256, 1, Plans(256), on(8)) == 256 // 8
    room(117)
    assert memory_fit.fewest_micro_batches(256, 1, Plans(256), on(8)) is None


def test_devices_need_be_no_power_of_two(room):
    room(130)
    assert memory_fit.fewest_micro_batches(96, 1, Plans(96), on(3)) == 96 // 12


def test_it_begins_with_the_micro_batches_that_were_asked_for(room):
    room(1000)
    plans = Plans(256)
    assert memory_fit.fewest_micro_batches(256, 4, plans, on(1)) == 4
    assert plans.compiled == [64]


def test_a_step_that_is_too_large_is_refused_with_the_ways_out(room):
    room(300)
    said = str(memory_fit.too_large(config(), on(1), 366 * MB, 2, resumed=False))
    assert said.startswith("a step takes 366 MB of a device's 334 MB: 128 images at a ")
    for way in (
        "train.micro_batch=auto",
        "train.batch_size",
        "optim.accumulate",
        "train.remat=full",
        "dtype=bfloat16",
        "smaller model",
    ):
        assert way in said
    tried = config(**{"train.remat": "full", "dtype": "bfloat16"})
    said = str(memory_fit.too_large(tried, on(1), 366 * MB, None, resumed=False))
    assert "not even a micro-batch of 1 fits" in said
    assert "remat" not in said
    assert "bfloat16" not in said


def test_there_is_memory():
    assert 10**8 < device_memory() < 10**15


COMMAND = [
    "hybrid-jax",
    f"--config={CONFIG}",
    "--config.data.per_class=10",
    "--config.data.loader=stream",  # leaves images out of the device's memory
    "--config.train.epochs=2",
]


def test_a_run_takes_what_fits_and_keeps_to_it(monkeypatch, tmp_path, capsys):
    """Of the real program: 64 images take 15 MB, 32 of them 8."""
    monkeypatch.setattr(memory_fit, "device_memory", lambda: 12 * MB)
    command = [*COMMAND, f"--workdir={tmp_path / 'run'}"]
    assert main([*command, "--config.train.micro_batch=off"]) == 2
    said = capsys.readouterr().err
    assert "MB of a device's 12 MB: 32 images at a time would fit" in said
    assert not RunFolder(tmp_path / "run").has_checkpoints()

    assert main(command) == 0
    said = capsys.readouterr().out
    assert "32 of the 64 images of a step fit at a time" in said
    folder = RunFolder(tmp_path / "run")
    assert (folder.read_micro_batches(), folder.read_config().optim.accumulate) == (
        2,
        1,
    )
    monkeypatch.undo()  # a larger machine continues with the same steps
    assert main(command) == 0
    assert "is complete" in capsys.readouterr().out
    assert folder.read_micro_batches() == 2


def test_a_run_with_fewer_images_at_a_time_goes_back_to_its_start(
    monkeypatch, tmp_path, capsys
):
    """Its initial state is needed again, and its images are loaded once."""
    loaders = []

    def create(*arguments):
        loaders.append(create_loader(*arguments))
        return loaders[-1]

    monkeypatch.setattr(memory_fit, "device_memory", lambda: 12 * MB)
    monkeypatch.setattr(experiment, "create_loader", create)
    fault = ["--config.train.non_finite=skip", "--config.debug.inject=nan@2"]
    assert main([*COMMAND, *fault, f"--workdir={tmp_path / 'run'}"]) == 0
    assert "going back to step 0" in capsys.readouterr().out
    assert len(loaders) == 1


def test_few_images_at_a_time_are_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(memory_fit, "FEW_IMAGES", 65)
    assert main([*COMMAND, f"--workdir={tmp_path / 'run'}"]) == 0
    assert "Batch norms see 64 images at a time" in capsys.readouterr().out


def test_a_benchmark_measures_the_steps_of_a_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(memory_fit, "device_memory", lambda: 12 * MB)
    file = tmp_path / "speed.json"
    command = ["hybrid-jax", "benchmark", *COMMAND[1:], "--seconds=0.1"]
    assert main([*command, f"--json={file}"]) == 0
    numbers = json.loads(file.read_text())
    assert (numbers["batch_size"], numbers["micro_batches"]) == (64, 2)
    assert "in batches of 64, 32 at a time" in capsys.readouterr().out

    assert main([*command, "--config.train.micro_batch=off"]) == 2
    said = capsys.readouterr().err
    assert "32 images at a time would fit: set --config.train.micro_batch=auto" in said
