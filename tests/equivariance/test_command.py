"""`hybrid-jax equivariance` as a user types it: a model, runs, and mistakes."""

import csv
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import hybrid_jax
from hybrid_jax.cli.equivariance import _output
from hybrid_jax.equivariance import networks, report
from hybrid_jax.equivariance.measure import Measured, Settings
from tests import small_hybrid
from tests.commands import hybrid_jax as command
from tests.experiments import flags


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("equivariance") / "digits"
    ran = command(*flags(), f"--workdir={workdir}")
    assert ran.returncode == 0, ran.stderr
    return workdir


def test_adaptive_strides_are_exact_in_double_precision(tmp_path):
    small_hybrid.add_row()
    fields = {"padding": "circular", "relative_bias": "torus", "downsample": "aps"}
    ran = command(
        "equivariance",
        "--model=small_hybrid",
        "--config.model.strides=2,2,1",
        "--config.data.image_size=16,16",
        *[f"--config.model.{name}={value}" for name, value in fields.items()],
        *("--images=2", "--every-shift=1", "--precision=float64"),
        folder=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert not jax.config.jax_enable_x64
    folder = tmp_path / "equivariance" / "small_hybrid"
    (row,) = json.loads((folder / "equivariance.json").read_text())["rows"]
    (measured,) = row["runs"]
    assert measured["every_shift"]["error"] < 1e-10
    assert all(error < 1e-10 for error in measured["errors"]["logits"].values())
    assert measured["errors"]["stem"]["1"] < 1e-10  # up to the phase
    assert measured["lie_derivative"] > 1e-6  # a camera is another matter
    assert measured["symmetry_errors"]["turned by 90"] > 1e-6
    assert "accuracy" not in measured
    assert f"{row['cost']['parameters']:,}" in ran.stdout
    assert (folder / "equivariance.png").stat().st_size > 1000
    assert "<svg" in (folder / "equivariance.svg").read_text()


def test_the_folder_of_results_has_the_name_of_the_run(tmp_path, monkeypatch):
    inside = tmp_path / "cells" / "checkpoints"
    inside.mkdir(parents=True)
    values = {"output": "", "model": ""}
    for place, workdir in ((inside, ".."), (inside.parent, "."), (tmp_path, "cells/")):
        monkeypatch.chdir(place)
        assert _output(values, [workdir]) == Path("equivariance/cells")


def test_runs_that_differ_in_seeds_are_a_row(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    assert config["seed"] == 0
    (other / "config.json").write_text(json.dumps(config | {"seed": 1}))
    out = tmp_path / "out"
    ran = command(
        "equivariance",
        f"--workdir={run},{other}",
        f"--output={out}",
        *("--weights=trained", "--images=2", "--every-shift=0"),
    )
    assert ran.returncode == 0, ran.stderr
    (row,) = json.loads((out / "equivariance.json").read_text())["rows"]
    first, second = row["runs"]
    expected = hybrid_jax.load_run(run).evaluate("test")["accuracy"]
    assert first["accuracy"]["as they are"] == pytest.approx(expected)
    assert first["split"] == "test" and "360 test images" in ran.stdout
    assert first | {"name": ""} == second | {"name": ""}  # of equal weights
    path = "accuracy/as they are"
    assert row["mean"][path] == pytest.approx(expected)
    assert row["interval_95"][path] is None  # equal runs tell nothing of scatter
    lines = [*csv.DictReader((out / "equivariance.csv").open())]
    assert [line["run"] for line in lines] == [str(run), str(other)]
    assert float(lines[0][path]) == pytest.approx(expected)
    assert f"{100 * expected:.2f} %" in ran.stdout
    assert "± 0.00" not in ran.stdout


def test_a_run_is_no_second_seed_of_itself(run):
    ran = command("equivariance", f"--workdir={run},{run}/")
    assert ran.returncode == 2
    assert f"{run}/ is given twice" in " ".join(ran.stderr.split())


def test_runs_of_other_settings_are_other_rows(run, tmp_path):
    """Even where their folders have the same name."""
    other = shutil.copytree(run, tmp_path / "elsewhere" / run.name)
    config = json.loads((other / "config.json").read_text())
    config["optim"]["learning_rate"] /= 2
    (other / "config.json").write_text(json.dumps(config))
    found = networks.runs_of([run, other], "", {}, ("trained",), np.float32)
    assert [each.row.rpartition(" ")[2] for each in found.subjects] == [
        f"({run})",
        f"({other})",
    ]


def test_runs_of_other_data_are_other_rows(run, tmp_path):
    """Even where they differ in their seeds alone."""
    other = shutil.copytree(run, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"seed": 1}))
    data = json.loads((other / "data.json").read_text())

    def rows():
        found = networks.runs_of([run, other], "", {}, ("trained",), np.float32)
        return len({each.row for each in found.subjects})

    assert rows() == 1
    (other / "data.json").write_text(json.dumps(data | {"files": "0f"}))
    assert rows() == 2
    (other / "data.json").write_text(json.dumps(data))
    config["data"]["exclude"] = "listed.txt"
    (other / "config.json").write_text(json.dumps(config))
    assert rows() == 2


def test_rows_have_means_with_intervals():
    measured = [
        Measured("net", f"run {i}", "trained", {"errors": {"logits": {"1": error}}})
        for i, error in enumerate([0.1, 0.2, 0.3])
    ]
    costs = {"net": {"parameters": 5}}
    (row,) = report.rows_of(measured, costs)
    assert row.numbers["errors/logits/1"] == [0.1, 0.2, 0.3]
    half = 4.302653 * 0.1 / 3**0.5  # Student's t with two degrees of freedom
    assert report._scientific([0.1, 0.2, 0.3]) == f"2.0e-01 ± {half:.0e}"


def test_a_model_is_compared_with_its_variants():
    found = networks.variants_of("astroformer_pico", {}, 1, np.float32, seed=0)
    assert [subject.row for subject in found.subjects] == [
        "astroformer_pico",
        "astroformer_pico, circular, torus",
        "astroformer_pico, circular, torus, blur",
        "astroformer_pico, circular, torus, aps",
    ]
    assert not found.notes
    for name in ("vit_tiny", "maxvit_tiny"):
        found = networks.variants_of(name, {"image_size": 224}, 1, np.float32, seed=0)
        assert [subject.row for subject in found.subjects] == [name]
        assert found.notes
        assert all("is not measured as" in note for note in found.notes)


@pytest.mark.parametrize(
    ("size", "asked", "count"),
    [(32, None, 4), (64, None, 1), (65, None, 0), (65, 2, 2)],
)
def test_how_many_images_are_shifted_everywhere(size, asked, count):
    assert Settings(every_shift=asked).shifted_images((size, size)) == count


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --model=NAME or --workdir=DIR"),
        (["--model=astroformer_pico", "--workdir=a"], "one of them"),
        (["--model=astroformer_pica"], "did you mean 'astroformer_pico'?"),
        (["--model=astroformer_pico", "--checkpoint=best"], "--checkpoint is for runs"),
        (["--model=astroformer_pico", "--config=digits"], "--config is of no use here"),
        (
            ["--model=astroformer_pico", "--config.optim.learning_rate=1"],
            "--config.optim.learning_rate has no effect on a model",
        ),
        (["--model=astroformer_pico", "--config.data.image_size=8,8"], "8"),
        (["--workdir=nowhere"], "holds no run"),
        (["--model=vit_tiny", "--output=configs"], "is not empty"),
        (["--model=astroformer_pico", "--output=/proc/out"], "cannot be written"),
        (["--model=vit_tiny", "--config.model.downsample=aps"], "is for hybrids only"),
    ],
)
def test_mistakes_end_with_a_line(arguments, said):
    ran = command("equivariance", *arguments)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1
