"""A trained run in each format, read back by what others read it with."""

import copy
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hybrid_jax.engine.load_run import load_run
from hybrid_jax.errors import UserError
from hybrid_jax.export import hub, onnx, stablehlo
from hybrid_jax.export.formats import FORMATS
from hybrid_jax.export.program import create_program
from hybrid_jax.weights.files import read_file
from tests import small_hybrid
from tests.commands import hybrid_jax
from tests.timm_oracle import import_timm

SIZE, CHANNELS = (64, 48), 3
COUNTS = (1, 3, 5)
# What StableHLO needs, and nothing of this project or of flax.
RUN_BY_JAX = """
import sys
sys.modules["hybrid_jax"] = sys.modules["flax"] = None
import jax.export, numpy
folder, images, output = sys.argv[1:]
content = open(f"{folder}/model.stablehlo", "rb").read()
program = jax.export.deserialize(bytearray(content))
images = numpy.load(images)
found = {str(n): numpy.asarray(program.call(images[:n])) for n in (1, 3, 5)}
numpy.savez(output, **found)
"""


def write_images(place):
    """Two classes of color images, all wider or taller than the network's."""
    draw = np.random.default_rng(0)
    for label in ("é [1]", "plain"):
        (place / label).mkdir(parents=True)
        for row in range(12):
            pixels = draw.integers(0, 256, (9, 12 + row % 2, 3), np.uint8)
            image = Image.fromarray(pixels).resize((90, 70 + 10 * (row % 3)))
            image.save(place / label / f"{row}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a small hybrid with timm's strides, on images of several shapes."""
    place = tmp_path_factory.mktemp("export")
    write_images(place / "my images")
    small_hybrid.add_row()
    done = hybrid_jax(
        "--config=configs/folder.py:small_hybrid",
        f"--config.data.path={place / 'my images'}",
        f"--config.data.dir={place / 'kept'}",
        "--config.data.image_size=64,48",
        "--config.data.fit=pad",
        "--config.model.strides=2,2,2",
        "--config.train.epochs=2",
        "--config.train.report=false",
        "--config.optim.warmup_epochs=1",
        "--config.train.batch_size=8",
        f"--workdir={place / 'run'}",
    )
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def images(trained):
    """Images of the program's size, and the run's own probabilities of them."""
    pixels = np.random.default_rng(1).integers(0, 256, (5, *SIZE, CHANNELS), np.uint8)
    return pixels, load_run(trained / "run").predict(pixels)


def export(trained, format, name, *args):
    return hybrid_jax(
        "export",
        f"--workdir={trained / 'run'}",
        f"--format={format}",
        f"--output={trained / name}",
        *args,
    )


def test_stablehlo_runs_with_jax_alone(trained, images):
    done = export(trained, "stablehlo", "as [1] program")
    assert done.returncode == 0, done.stderr
    assert "images of the run" in done.stdout
    folder = trained / "as [1] program"
    pixels, expected = images
    np.save(trained / "images.npy", pixels)
    command = [folder, trained / "images.npy", trained / "found.npz"]
    subprocess.run([sys.executable, "-c", RUN_BY_JAX, *command], check=True)
    found = np.load(trained / "found.npz")
    for count in COUNTS:
        np.testing.assert_allclose(found[str(count)], expected[:count], atol=1e-5)
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert about["classes"] == ["plain", "é [1]"]
    assert (about["height"], about["width"], about["channels"]) == (*SIZE, CHANNELS)
    assert about["platforms"] == ["cpu", "cuda", "tpu"]
    assert about["images_of_another_size"]["fit"] == "pad"
    assert "test" in about["results"]
    again = export(trained, "stablehlo", "as [1] program")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "as [1] program exists" in again.stderr


def test_onnx_runs_in_onnxruntime(trained, images):
    pytest.importorskip("jax2onnx", reason="needs pip install '.[onnx]'")
    runtime = pytest.importorskip("onnxruntime")
    done = export(trained, "onnx", "é.onnx")
    assert done.returncode == 0, done.stderr
    session = runtime.InferenceSession(trained / "é.onnx")
    pixels, expected = images
    for count in COUNTS:
        (found,) = session.run(None, {"images": pixels[:count]})
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["plain", "é [1]"]
    assert about["image_size"] == "64x48"


def test_hub_is_loaded_by_timm(trained, images):
    timm = import_timm()
    import torch

    done = export(trained, "hub", "for_timm")
    assert done.returncode == 0, done.stderr
    network = timm.create_model(f"local-dir:{trained / 'for_timm'}", pretrained=True)
    config = network.eval().pretrained_cfg
    pixels, expected = images
    scaled = (pixels / 255 - config["mean"]) / config["std"]
    floats = torch.from_numpy(scaled.transpose(0, 3, 1, 2)).float()
    for count in COUNTS:
        with torch.no_grad():
            found = network(floats[:count]).softmax(-1).numpy()
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)
    assert config["label_names"] == ["plain", "é [1]"]
    assert tuple(config["input_size"]) == (CHANNELS, *SIZE)
    card = (trained / "for_timm" / "README.md").read_text(encoding="utf-8")
    assert "accuracy" in card
    assert str(trained) not in card


def test_a_temperature_is_inside(trained, images):
    """What is written divides logits, in timm's format by its weights."""
    import_timm()
    run = load_run(trained / "run")
    pixels, expected = images
    found = np.asarray(create_program(run, temperature=2.0)(pixels))
    tempered = np.sqrt(expected) / np.sqrt(expected).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, tempered, atol=1e-5)
    hub.write(run, trained / "cooled", 2.0)
    in_timm = hub.load(trained / "cooled", run)
    assert in_timm.name == "timm"
    np.testing.assert_allclose(in_timm.predict(pixels), tempered, atol=1e-5)
    weights = read_file(trained / "cooled" / "model.safetensors")
    assert weights.spec["name"] == "small_hybrid"


def test_the_command_puts_the_temperature_of_validation_inside(trained, images):
    run, target = load_run(trained / "run"), trained / "calibrated"
    words = ["--format=stablehlo", "--calibrated", f"--output={target}"]
    ran = hybrid_jax("export", f"--workdir={trained / 'run'}", *words)
    assert ran.returncode == 0, ran.stderr
    about = json.loads((target / "model.json").read_text())
    assert about["temperature"] == run.temperature
    pixels, _ = images
    expected = run.predict(pixels, temperature=run.temperature)
    found = stablehlo.load(target, run).predict(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_stored_images_that_the_network_sees_smaller_are_resized_inside(trained):
    """Its two products are `jax.image.resize`, as evaluation has it."""
    run = load_run(trained / "run")
    run.form = dataclasses.replace(run.form, size=(128, 96), target=None)
    pixels = np.random.default_rng(2).integers(0, 256, (2, 128, 96, 3), np.uint8)
    found = np.asarray(create_program(run)(pixels))
    np.testing.assert_allclose(found, run.predict(pixels), atol=1e-5)


def test_what_differs_from_the_run_is_not_kept(trained, monkeypatch):
    def write(run, path, temperature):
        network = run.network.replace(mean=run.network.mean + 1)
        changed = copy.copy(run)
        changed.network = network
        stablehlo.write(changed, path, temperature)

    monkeypatch.setitem(
        FORMATS, "stablehlo", FORMATS["stablehlo"]._replace(write=write)
    )
    done = export(trained, "stablehlo", "wrong")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "differs from the run by" in done.stderr
    assert not [*trained.glob("*wrong*"), *trained.glob(".hybrid_jax-export-*")]


def test_what_timm_has_not_is_refused(trained):
    run = load_run(trained / "run")
    for told, changes in {
        "no block S": {"stack": ("S", "T")},
        "halves images at every stage": {"strides": (2, 1, 2)},
    }.items():
        model = small_hybrid.create(2, SIZE, **{"strides": (2, 2, 2)} | changes)
        run.network = run.network.replace(model=model)
        with pytest.raises(UserError, match=told):
            hub.write(run, trained / "refused", 1.0)
    assert not (trained / "refused").exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"format": "stablehol"}, "did you mean 'stablehlo'?"),
        ({"format": ""}, "--format is missing"),
        ({"output": ""}, "--output is missing"),
        ({"output": "no such/folder"}, "a folder that does not exist: make it"),
        ({"output": "gs://bucket/x"}, "mount a bucket"),
        ({"output": "taken"}, "taken exists"),
        ({"output": "/proc/x"}, "/proc/x cannot be written"),
        ({"workdir": "gs://bucket/x"}, "mount a bucket"),
        ({"workdir": "nowhere"}, "nowhere holds no run"),
        ({"format": "onnx"}, "does not end with .onnx"),
        ({"format": "onnx", "output": "x.onnx"}, "pip install 'hybrid_jax[onnx]'"),
    ],
    ids=str,
)
def test_mistakes(changed, told, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "PACKAGES", ("no_such_package",))
    (tmp_path / "taken").mkdir()
    flags = {"workdir": "w", "format": "hub", "output": "out"} | changed
    given = [f"--{name}={value}" for name, value in flags.items()]
    done = hybrid_jax("export", *given, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert told in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
