"""The command that converts files of weights, between this project and timm."""

import re

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from hybrid_jax.main import main
from hybrid_jax.models import create_model
from hybrid_jax.runs.weights import read_weights
from hybrid_jax.weights import timm_names
from hybrid_jax.weights.files import write_file
from tests.timm_oracle import import_timm, pair, random_images, to_torch


def convert(arguments):
    return main(["hybrid-jax", "convert", *arguments])


def test_the_command_converts_there_and_back(tmp_path, capsys):
    """timm's file, ours, timm's again: identical tensors, and a network that loads."""
    timm = import_timm()
    import torch
    from safetensors.torch import load_file

    _, network, _ = pair("coatnet_0", 64)
    save_file(
        {key: tensor.numpy() for key, tensor in network.state_dict().items()},
        tmp_path / "theirs.safetensors",
    )
    ours, again = tmp_path / "ours.safetensors", tmp_path / "again.safetensors"
    assert convert([str(tmp_path / "theirs.safetensors"), str(ours)]) == 2
    assert "--model= is no model" in capsys.readouterr().err
    assert (
        convert([f"{tmp_path}/theirs.safetensors", f"{ours}", "--model=coatnet_0"]) == 0
    )
    weights = read_weights(ours)
    assert weights.classes is None
    names = tuple(f"class {n}" for n in range(weights.spec["num_classes"]))
    write_file(ours, weights.arrays, weights.spec, names)
    assert convert([str(ours), str(again)]) == 0
    told = capsys.readouterr().out
    state = load_file(again)
    for key, tensor in network.state_dict().items():
        if not key.endswith(timm_names.DERIVED):
            assert torch.equal(state[key], tensor), key

    # What timm's names hide, the file remembers.
    assert convert([str(again), str(tmp_path / "third.safetensors")]) == 0
    third = read_weights(tmp_path / "third.safetensors")
    assert read_weights(again).classes == third.classes == names
    assert third.spec == read_weights(ours).spec
    for path, array in read_weights(ours).arrays.items():
        np.testing.assert_array_equal(third.arrays[path], array)

    # The two lines that it prints do load it.
    lines = re.findall(r"^ {4}(network.*)$", told, re.M)
    scope = {"timm": timm, "safetensors": __import__("safetensors.torch")}
    exec("\n".join(lines), scope)  # noqa: S102
    loaded = scope["network"].eval()
    images = to_torch(random_images((64, 64)))
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.pth", "a.safetensors"], "there are no weights at none.pth"),
        (["none.pth", "a.npz"], "does not end with .safetensors"),
        (["a.safetensors", "./a.safetensors"], "is the source"),
        (["none.pth"], "the target is missing"),
        (
            ["a.pth", "a.safetensors", "--image-size=0"],
            "--image-size=0 is not allowed: pixels such as 224",
        ),
        (
            ["a.pth", "a.safetensors", "--to=keras"],
            "--to=keras is not allowed: one of timm, hybrid_jax",
        ),
    ],
)
def test_mistakes_in_the_command_end_in_one_line(arguments, said, capsys):
    assert convert(arguments) == 2
    out = capsys.readouterr()
    assert said in out.err
    assert out.err.count("\n") == 1


def test_a_file_that_exists_is_refused_before_the_source_is_read(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    kept, link = tmp_path / "kept.safetensors", tmp_path / "link.safetensors"
    kept.write_bytes(b"mine")
    link.symlink_to("nowhere")
    for target in (kept, link):
        assert convert(["none.pth", target.name]) == 2
        said = capsys.readouterr().err
        assert f"{target.name} exists: give another name, or remove it" in said
    assert kept.read_bytes() == b"mine"


def test_the_command_takes_images_that_are_no_squares(tmp_path, capsys):
    import_timm()
    model, network, variables = pair("astroformer_pico", (128, 64))
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    save_file(state, theirs)
    command = [str(theirs), str(ours), "--model=astroformer_pico"]
    assert convert(command) == 2
    assert "does not fit" in capsys.readouterr().err
    assert convert([*command, "--image-size=128x64"]) == 0
    weights = read_weights(ours)
    assert create_model(**without_channels(weights.spec)) == model
    for path, array in flatten_dict(variables, sep="/").items():
        np.testing.assert_array_equal(weights.arrays[path], array)

    other = tmp_path / "other.safetensors"
    assert convert([str(ours), str(other), "--model=coatnet_0"]) == 2
    assert "is of astroformer_pico, not of --model=coatnet_0" in capsys.readouterr().err


def without_channels(spec):
    return {key: value for key, value in spec.items() if key != "channels"}


def test_the_command_resizes(tmp_path, capsys):
    import_timm()
    _, network, _ = pair("vit_tiny", 64, depth=12)
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    save_file(state, theirs)
    command = [str(theirs), str(ours), "--model=vit_tiny", "--image-size=96"]
    assert convert(command) == 0
    assert "positions resized: " in capsys.readouterr().out
    weights = read_weights(ours)
    patch = weights.spec["patch_size"]
    assert len(weights.arrays["params/position_embedding"]) == 1 + (96 // patch) ** 2
