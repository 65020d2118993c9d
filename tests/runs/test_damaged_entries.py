"""Files of a run folder whose entries have other types or values than were written."""

import json
import shutil

import pytest

import hybrid_jax
from hybrid_jax.errors import UserError
from hybrid_jax.main import main
from hybrid_jax.runs import temperature
from hybrid_jax.runs.convert_weights import convert_weights
from tests.experiments import flags


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    assert main(["hybrid-jax", *flags(), f"--workdir={workdir}"]) == 0
    return workdir


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def change(path, name, value):
    """Change an entry of a JSON file, by its name with dots."""
    content = json.loads(path.read_text())
    *groups, last = name.split(".")
    inside = content
    for group in groups:
        inside = inside[group]
    inside[last] = value
    path.write_text(json.dumps(content))


TEN = list("0123456789")
DATA = [
    ("classes", TEN[:9], "9 different class names given for 10 logits"),
    ("classes", [*TEN, "x"], "11 different class names given for 10 logits"),
    ("classes", [*TEN[:9], "0"], "9 different class names"),
    ("classes", [], "0 different class names"),
    ("classes", "0123456789", "no list of texts"),
    ("classes", None, "no list of texts"),
    ("classes", [*range(10)], "no list of texts"),
    ("pixels", None, "does not say how images are decoded"),
    ("pixels", [], "does not say how images are decoded"),
    ("pixels.size", [1.5, 16], r"size is \(1.5, 16\)"),
    ("pixels.size", "ab", "size is 'ab'"),
    ("pixels.size", [0, 16], r"size is \(0, 16\)"),
    ("pixels.channels", 4, "channels is 4"),
    ("pixels.bits", "x", "bits is 'x'"),
    ("pixels.bits", 7, "bits is 7"),
    ("pixels.target", [16], r"target is \(16,\)"),
    ("pixels.fit", "zz", "fit is 'zz'"),
    ("pixels.background", "nocolor", "background is 'nocolor'"),
    ("mean and deviation", "x", "has no mean and deviation of 1 channels"),
    ("mean and deviation", [1.0, float("nan")], "has no mean and deviation"),
]


@pytest.mark.parametrize(("name", "value", "said"), DATA, ids=str)
def test_data_of_wrong_types_are_refused(copy, name, value, said):
    change(copy / "data.json", name, value)
    with pytest.raises(UserError, match=rf"data\.json .*{said}.*: restore it"):
        hybrid_jax.load_run(copy)


RESULTS = [
    *(("checkpoint", value) for value in (None, 1.5, -1, True, "best", [29], {})),
    *(("test", value) for value in ([], None, {"accuracy": "x"}, {"accuracy": 0.5})),
    *(("validation", value) for value in (None, {"class_accuracy": []})),
    *(("test.accuracy", value) for value in ("x", 7, -0.5, float("nan"), [0.5])),
    ("test.class_accuracy", 0.5),
    ("test.of_mine", [0.5, "x"]),
    ("step", "x"),
    ("seconds", None),
    ("weights", "worst"),
]


@pytest.mark.parametrize(("name", "value"), RESULTS, ids=str)
def test_results_of_wrong_types_are_refused(copy, name, value, capsys):
    change(copy / "results.json", name, value)
    entry = name.partition(".")[0]
    said = rf"results\.json has an unreadable entry '{entry}': delete it: `hybrid-jax"
    with pytest.raises(UserError, match=said):
        hybrid_jax.load_run(copy)
    assert main(["hybrid-jax", "train", f"--workdir={copy}"]) == 2
    assert "unreadable entry" in capsys.readouterr().err


def test_a_metric_of_mine_may_be_one_a_class(copy):
    change(copy / "results.json", "test.of_mine", [0.5, None])
    assert hybrid_jax.load_run(copy).results["test"]["of_mine"] == [0.5, None]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("config.json", "names no model: restore it"),
        ("model.json", r"model\.json describes no model of this program"),
    ],
)
def test_an_empty_description_is_named(copy, file, said):
    (copy / file).write_text("{}")
    with pytest.raises(UserError, match=said):
        hybrid_jax.load_run(copy)


def test_an_empty_line_of_metrics_is_skipped_like_a_damaged_one(copy):
    before = hybrid_jax.load_run(copy)
    with (copy / "metrics.jsonl").open("a") as file:
        file.write("{}\n[1]\n")
    run = hybrid_jax.load_run(copy)
    assert run.history == before.history
    assert temperature.find_metrics(run) == temperature.find_metrics(before)


def test_a_damaged_checkpoint_is_not_called_absent(copy):
    step = json.loads((copy / "results.json").read_text())["checkpoint"]
    path = max((copy / "checkpoints" / str(step)).rglob("d/*"))
    path.write_bytes(path.read_bytes()[:-3])
    said = rf"checkpoint .*/checkpoints/{step} is damaged \(.*bytes\): restore it"
    with pytest.raises(UserError, match=said):
        hybrid_jax.load_run(copy)


def test_weights_without_a_description_of_the_data_say_so(copy, tmp_path):
    (copy / "data.json").unlink()
    notes = convert_weights(str(copy), str(tmp_path / "w.safetensors"))
    assert any("class names and pixel format are left out" in note for note in notes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"checkpoint": []}, r"checkpoint=\[\] is empty"),
        ({"views": "no"}, "views='no' is not allowed"),
        ({"workdir": None}, "workdir=None is no path"),
    ],
    ids=str,
)
def test_arguments_that_could_mean_anything_are_refused(trained, arguments, said):
    with pytest.raises(UserError, match=said):
        hybrid_jax.load_run(**{"workdir": trained} | arguments)
