"""A trained run in each format, read back by what others read it with."""

import copy
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from csv import DictReader

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from hybrid_jax.classifier import Classifier
from hybrid_jax.errors import UserError
from hybrid_jax.export import about, hub, model_card, onnx, stablehlo
from hybrid_jax.export.formats import FORMATS
from hybrid_jax.export.program import create_program
from hybrid_jax.runs.load_run import load_run
from hybrid_jax.weights.files import read_file
from tests import hub_server, small_hybrid
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


# As a user does it where the hub can be reached; the address is set by its variables.
DOWNLOAD = """
import sys
import numpy
from tests import small_hybrid
small_hybrid.add_row()
from hybrid_jax import Classifier
classifier = Classifier.from_pretrained("user/cells", revision="main")
images = numpy.frombuffer(sys.stdin.buffer.read(), "uint8").reshape(-1, 64, 48, 3)
numpy.save(sys.argv[1], classifier.predict_proba(images))
try:
    Classifier.from_pretrained("user/sells")
except ValueError as error:
    print(error)
"""


def write_images(place, height=70, width=90, more=10):
    """Parts of two real photographs as JPEG files, a class each, of three heights."""
    photographs = load_sample_images().images
    for label, pixels in zip(("é [1]", "plain"), photographs, strict=True):
        (place / label).mkdir(parents=True)
        for row in range(12):
            down, right = 100 * (row // 4), 150 * (row % 4)
            box = (right, down, right + width, down + height + more * (row % 3))
            part = Image.fromarray(pixels).crop(box)
            part.save(place / label / f"{row}.jpg", quality=95)


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


def has_onnx():
    """Return whether the extra is installed."""
    return all(map(importlib.util.find_spec, ("jax2onnx", "onnxruntime")))


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


@pytest.mark.parametrize("views", [False, True])
def test_every_way_gives_the_same_probabilities(trained, tmp_path, views):
    """By command, from JPEG files: predict, evaluate, and exports, reloaded."""
    run, new = load_run(trained / "run", views=views), tmp_path / "new"
    write_images(new, *SIZE, more=0)
    flags = [f"--workdir={trained / 'run'}", f"--views={str(views).lower()}"]
    files = sorted(new.glob("*/*.jpg"))
    expected = {p.path: p.probabilities for p in run.predict_files(files)}
    csv = f"--output={tmp_path / 'predicted.csv'}"
    assert hybrid_jax("predict", *flags, str(new), csv).returncode == 0
    output = f"--output={tmp_path / 'judged'}"
    assert hybrid_jax("evaluate", *flags, f"--data={new}", output).returncode == 0
    for table in ("predicted.csv", "judged/predictions.csv"):
        with (tmp_path / table).open(encoding="utf-8") as file:
            rows = {row["path"]: row for row in DictReader(file)}
        assert rows.keys() == expected.keys()
        for path, row in rows.items():
            found = [float(row[name]) for name in run.classes]
            np.testing.assert_allclose(found, expected[path], atol=1e-5)
    pixels = np.stack([np.asarray(Image.open(path)) for path in files])
    formats = ["stablehlo", *(["onnx"] if has_onnx() else [])]
    for name in formats if views else [*formats, "hub"]:
        row, target = FORMATS[name], tmp_path / name
        row.write(run, target, 1.0)
        found = row.load(target, run).predict(pixels)
        np.testing.assert_allclose(found, [*expected.values()], atol=1e-5)
    for folder in () if views else (trained / "run", tmp_path / "hub"):
        found = Classifier.from_pretrained(folder).predict_proba([*map(str, files)])
        np.testing.assert_allclose(found, [*expected.values()], atol=1e-5)


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
    assert "| accuracy |" in card
    assert "top-5" not in card  # of two classes
    assert str(trained) not in card
    title = load_run(trained / "run").config.data.title
    assert f"Trained on {model_card.code(title)}." in card


def tell_whether_ctrl_c_is_blocked(program, path, texts, sender):
    sender.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_ctrl_c_is_for_the_command_alone_while_onnx_is_written(monkeypatch):
    monkeypatch.setattr(onnx, "_convert_and_tell", tell_whether_ctrl_c_is_blocked)
    assert onnx._convert_apart(None, None, {}) == "True"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(
    ("size", "target", "method", "off"),
    [
        (SIZE, None, "bicubic", 1e-5),
        ((32, 24), None, "bilinear", 5e-3),
        ((96, 72), None, "bilinear", 5e-3),
        ((128, 96), SIZE, "bilinear", 2e-2),
    ],
)
def test_a_card_resizes_as_the_run_does(trained, size, target, method, off, tmp_path):
    run = load_run(trained / "run")
    run.form = dataclasses.replace(run.form, size=size, target=target)
    config = hub._config(run)
    assert config["pretrained_cfg"]["interpolation"] == method
    card = model_card.model_card(run, config, 1.0)
    assert ("bilinearly" in card) == (method == "bilinear")
    assert ("probabilities then nearly agree" in card) == (method == "bilinear")
    assert ("probabilities then agree to 1e-5" in card) == (method == "bicubic")
    inside = about._images(run)["images_of_another_size"]
    is_exact = inside["as_hybrid_jax_does"] is True
    assert is_exact == (target is None)
    assert ("BILINEAR" in inside["pillow"]) == ("bilinear" in inside["how"]) != is_exact

    file = tmp_path / "new.png"
    Image.fromarray(load_sample_images().images[0][:150, :200]).save(file)
    lines = card.partition("```python")[2].splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("image = "))
    last = lines.index("with torch.no_grad():")
    scope = {}
    code = [line.replace("image.png", str(file)) for line in lines[first:last]]
    exec("\n".join(["import PIL.Image, PIL.ImageOps", *code]), scope)  # noqa: S102
    found = run.predict(np.asarray(scope["image"])[None])
    assert scope["image"].size == SIZE[::-1]
    (expected,) = run.predict_files([file])
    np.testing.assert_allclose(found[0], expected.probabilities, atol=off)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a b", "`a b`"),
        ("`x`", "`` `x` ``"),
        ("a``\n<b>", "``` a`` <b> ```"),
        ("\udce9", "`\\xe9`"),
    ],
)
def test_a_card_shows_any_name_as_it_is(name, written):
    assert model_card.code(name) == written


def test_hub_is_loaded_by_the_estimator(trained, images, tmp_path):
    """From a folder or a repository, without paths of the machine that wrote it."""
    folder = tmp_path / "uploaded"
    hub.write(load_run(trained / "run"), folder, 1.0)
    pixels, expected = images
    found = Classifier.from_pretrained(folder).predict_proba(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    written = (folder / "classifier.json").read_text()
    assert str(trained) not in written
    assert os.getcwd() not in written
    (folder / "run_me.py").touch()
    with hub_server.serve("user/cells", folder) as (address, asked):
        place = {"HF_ENDPOINT": address, "HF_HUB_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", DOWNLOAD, str(tmp_path / "found.npy")],
            env=os.environ | place,
            input=pixels.tobytes(),
            capture_output=True,
        )
    assert b"sells is not a folder here, and cannot be downloaded from" in done.stdout
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), found)
    assert not [path for path in asked if "run_me" in path]
    with pytest.raises(ValueError, match="is a folder, which has no revisions"):
        Classifier.from_pretrained(folder, revision="main")
    with pytest.raises(ValueError, match="is neither a folder nor a repository"):
        Classifier.from_pretrained("nowhere")
    (folder / "classifier.json").unlink()
    with pytest.raises(ValueError, match=r"without classifier\.json"):
        Classifier.from_pretrained(folder)


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


def test_a_folder_among_the_images_would_become_a_class(trained):
    done = export(trained, "hub", "my images/hub")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "lies among the images of config.data.path" in done.stderr
    assert not (trained / "my images/hub").exists()


def test_what_timm_has_not_is_refused(trained):
    run = load_run(trained / "run")
    for told, changes in {
        "no block S": {"stack": ("S", "T")},
        "halves at every stage": {"strides": (2, 1, 2)},
        "halves a map of 15x12": {"image_size": (60, 48)},
        "padding is symmetric": {"padding": "same"},
    }.items():
        fields = {"image_size": SIZE, "strides": (2, 2, 2)} | changes
        model = small_hybrid.create(2, **fields)
        run.network = run.network.replace(model=model)
        with pytest.raises(UserError, match=told):
            hub.write(run, trained / "refused", 1.0)
    assert not (trained / "refused").exists()


def test_a_network_that_timm_cannot_run_is_told(tmp_path, monkeypatch):
    timm = import_timm()
    import torch

    class Broken(torch.nn.Module):
        def forward(self, x):
            raise RuntimeError("sizes 13 and 12\nmore")

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: Broken())
    apply = hub._in_timm(tmp_path)
    with pytest.raises(UserError, match=r"cannot run .* \(sizes 13 and 12\), so"):
        apply(np.zeros((1, 4, 4, 3), np.float32))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"format": "stablehol"}, "did you mean 'stablehlo'?"),
        ({"format": None}, "--format is missing"),
        ({"output": None}, "--output is missing"),
        ({"output": ""}, "--output is empty: give it a value"),
        ({"output": "no such/folder"}, "a folder that does not exist: make it"),
        ({"output": "gs://bucket/x"}, "mount a bucket"),
        ({"output": "taken"}, "taken exists"),
        ({"output": "/proc/x"}, "/proc/x cannot be written"),
        ({"workdir": "gs://bucket/x"}, "mount a bucket"),
        ({"workdir": "nowhere"}, "nowhere holds no run"),
        ({"format": "onnx"}, "does not end with .onnx"),
        ({"views": "true"}, "--format=hub has no place for averages over views"),
        ({"format": "onnx", "output": "x.onnx"}, "pip install 'hybrid_jax[onnx]'"),
    ],
    ids=str,
)
def test_mistakes(changed, told, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "PACKAGES", ("no_such_package",))
    (tmp_path / "taken").mkdir()
    flags = {"workdir": "w", "format": "hub", "output": "out"} | changed
    given = [f"--{k}={value}" for k, value in flags.items() if value is not None]
    done = hybrid_jax("export", *given, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert told in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
