"""The comparisons of `benchmarks/`: how they interleave, and what they make of it."""

import importlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def interleaved(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import interleaved

    return interleaved


def counting(start):
    """A contender that measures `start`, and one more in each round."""
    numbers = iter(range(start, start + 100))
    return lambda: float(next(numbers))


def lacking():
    raise ImportError("no such package")


def test_contenders_alternate_and_the_warm_up_does_not_count(interleaved, capfd):
    contenders = {
        "one": partial(counting, 0),
        "none": lacking,
        "ten": partial(counting, 10),
    }
    measured = interleaved.measure_interleaved(contenders, rounds=3)
    assert measured == {"one": [1, 2, 3], "ten": [11, 12, 13]}
    assert "left out: none (no such package)" in capfd.readouterr().out


def test_ratios_are_to_the_best_of_the_peers(interleaved):
    measured = {"a": [4.0, 2.0, 3.0], "b": [6.0, 6.0, 9.0], "ours": [1.5, 1.0, 2.0]}
    rows = list(interleaved.summary_rows(measured, ("a", "b", "absent"), 10))
    assert rows == [
        ("a", "30.0", "20.0 to 40.0", "1.00x"),
        ("b", "60.0", "60.0 to 90.0", "0.50x"),
        ("ours", "15.0", "10.0 to 20.0", "2.00x"),
    ]


def failing():
    raise RuntimeError("out of paper")


def test_a_contender_that_dies_is_named(interleaved, capfd):
    with pytest.raises(SystemExit, match="the third ended early"):
        interleaved.measure_interleaved(
            {"one": partial(counting, 0), "the third": failing}, rounds=1
        )
    assert "out of paper" in capfd.readouterr().err


def failing_later():
    """A contender that measures once, and then dies."""
    numbers = iter([7.0])
    return lambda: next(numbers)


def test_the_others_go_on_without_contenders_that_die(interleaved, capfd):
    died = []
    measured = interleaved.measure_interleaved(
        {"one": partial(counting, 0), "two": failing, "three": failing_later},
        rounds=3,
        died=died,
    )
    assert measured == {"one": [1, 2, 3]}
    assert died == ["two", "three"]
    out = capfd.readouterr().out
    assert "left out: two ended early" in out
    assert "left out: three ended early" in out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train_step", ["timm", "--without"]),
        ("inference", ["timm", "--without"]),
        ("memory", ["timm", "--without"]),
        ("compile_time", ["timm", "--without"]),
        ("attention", ["--rounds"]),
        ("augmentation", ["--rounds"]),
        ("epoch", ["--rounds"]),
        ("scaling", ["--rounds"]),
        ("chips", ["--models", "--folder"]),
        ("bound", ["--models"]),
    ],
)
def test_commands_say_what_they_do(name, words):
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for word in words:
        assert word in done.stdout


def test_gpu_script_refuses_to_run_without_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    done = subprocess.run(
        ["bash", BENCHMARKS / "gpu.sh", tmp_path / "results"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "jax sees no GPU here" in done.stderr
    assert not (tmp_path / "results").exists()


def test_gpu_script_names_its_parts(tmp_path):
    done = subprocess.run(
        ["bash", BENCHMARKS / "gpu.sh", tmp_path, "epoch", "sleep"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "no part 'sleep'" in done.stderr
    assert "train_step_1" in done.stderr


@pytest.fixture
def alone(monkeypatch):
    """Import a script by its name, as if it were run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_a_table_of_chips_is_made_of_what_was_compiled(
    alone, monkeypatch, tmp_path, capsys
):
    numbers = {"memory": {"largest_batch": 1234}, "images_per_second": 4585.4}
    (tmp_path / "v5e_wide.json").write_text(json.dumps({"train": numbers}))
    arguments = ["--models", "wide", "no_such", "--chips", "v5e"]
    monkeypatch.setattr("sys.argv", ["chips.py", *arguments, f"--folder={tmp_path}"])
    with pytest.raises(SystemExit, match="1 did not compile"):
        alone("chips").main()
    header, rule, wide, missing = capsys.readouterr().out.splitlines()
    assert (header, rule) == ("| model | v5e |", "|---|---|")
    assert wide == "| wide | 1,234; 4,585 |"
    assert "no_such" in missing.split("|")[2]


def test_a_measured_step_stands_beside_its_bound(alone):
    step = {"bytes": 46.8e9, "seconds_by_memory": 0.014, "seconds_by_arithmetic": 0.002}
    measured = {"train": {"ms_per_step": 21.0}}
    row = alone("bound").row({"train": step}, measured)
    assert row == ("46.8", "14.0", "21.0", "1.50x")
