"""The command that converts files of weights, between this project and timm."""

import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from hybrid_jax.errors import UserError
from hybrid_jax.main import main
from hybrid_jax.models import create_model
from hybrid_jax.runs.convert_weights import convert_weights
from hybrid_jax.runs.weights import load_weights, read_weights
from hybrid_jax.weights import timm_names
from hybrid_jax.weights.files import write_file
from tests.timm_oracle import (
    import_timm,
    pair,
    random_arrays,
    random_images,
    shapes_of,
    to_torch,
)


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
        (["", "a.safetensors"], "source is empty: give a file of weights, or the fold"),
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


def vit(image_size=16):
    """A small ViT's arrays, and what a file says of it."""
    spec = {"name": "vit_tiny", "depth": 1, "patch_size": 4, "image_size": image_size}
    spec |= {"num_classes": 5}
    arrays = random_arrays(shapes_of(create_model(**spec)))
    return arrays, spec | {"channels": 3}


KERNEL, BIAS = "params/head/classifier/kernel", "params/head/classifier/bias"


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        ((KERNEL, BIAS), "has 3 outputs, and its metadata say 5: restore it"),
        ((KERNEL,), "describes: params/head/classifier/kernel (192, 3) instead of"),
        ((BIAS,), "has 3 outputs, and its metadata say 5: restore it"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--image-size=32"]])
def test_a_classifier_that_does_not_fit_is_never_left_out(
    cut, said, flags, tmp_path, capsys
):
    arrays, spec = vit()
    cut_arrays = {path: arrays[path][..., :3] for path in cut}
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_file(source, arrays | cut_arrays, spec)
    assert convert([str(source), str(target), *flags]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "a.safetensors" in err
    assert err.count("\n") == 1
    assert not target.exists()


def test_what_metadata_do_not_say_of_the_classes_the_classifier_does(tmp_path, capsys):
    arrays, spec = vit()
    del spec["num_classes"]
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_file(source, arrays, spec)
    command = [str(source), str(target), "--to=hybrid_jax"]
    assert convert(command) == 0
    weights = read_weights(target)
    assert weights.spec["num_classes"] == 5
    assert weights.arrays.keys() == arrays.keys()
    count = sum(array.size for array in weights.arrays.values())
    assert f"{count:,} parameters" in capsys.readouterr().out

    target.unlink()
    write_file(source, arrays, spec, classes=["a", "b"])
    assert convert(command) == 2
    assert "has 5 outputs, and its metadata say 2" in capsys.readouterr().err
    rest = {path: array for path, array in arrays.items() if path != BIAS}
    write_file(source, rest, spec)
    assert convert(command) == 2
    assert "has no classifier: give whole weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("params/position_embedding", "position_embedding (10, 192) instead of (17,"),
        ("params/patch_embedding/kernel", "kernel (48, 192) instead of (16, 192)"),
    ],
)
def test_arrays_that_contradict_the_metadata_are_refused(path, said, tmp_path, capsys):
    arrays, spec = vit()
    if path.endswith("position_embedding"):
        spec["image_size"], arrays = 16, vit(12)[0]
    else:
        spec["channels"] = 1
    write_file(tmp_path / "a.safetensors", arrays, spec)
    command = [f"{tmp_path}/a.safetensors", f"{tmp_path}/b.safetensors"]
    assert convert(command) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "b.safetensors").exists()


OBLONG = {"strides": (2, 2, 2, 2, 2), "num_classes": 3, "image_size": (64, 128)}


def write_oblong(folder, name="astroformer_pico", of_run=True, **fields):
    """Write a file of each set of names for a network whose maps are no squares."""
    spec = {"name": name} | OBLONG | fields
    model = create_model(**spec)
    arrays = random_arrays(shapes_of(model))
    spec = spec | {"channels": 3} if of_run else None
    files = folder / "native.safetensors", folder / "timm.safetensors"
    for path, kept in zip(
        files, (arrays, timm_names.to_timm(model, arrays)), strict=True
    ):
        write_file(path, kept, spec)
    return files


@pytest.mark.parametrize("size", ["128x64", "64x64"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"relative_bias": "torus"},
        {"name": "maxvit_tiny", "stack": "C-C-M-M"},
        {"name": "coatnet_0"},
    ],
    ids=str,
)
def test_tables_of_oblong_maps_are_the_same_under_both_names(fields, size, tmp_path):
    if "name" in fields:
        fields = fields | {"widths": (32,) * 4, "depths": (1,) * 4}
        fields |= {"stem_widths": (8, 8)}
    native, timm = write_oblong(tmp_path, **fields)
    found = []
    for path in (native, timm):
        target = tmp_path / f"of_{path.name}"
        side = tuple(map(int, size.split("x")))
        notes = convert_weights(str(path), str(target), None, side, "hybrid_jax")
        told = [note.split("; ")[0] for note in notes[:-1]]  # of a torus, as a table
        found.append((read_weights(target).arrays, told))
    (expected, told), (arrays, said) = found
    assert told == said
    assert arrays.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_allclose(arrays[path], array, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("name", ["wrn_16_1", "sasa_pico"])
def test_a_model_that_timm_lacks_is_not_called_damaged(name, tmp_path, capsys):
    _, timm = write_oblong(tmp_path, of_run=False)
    command = [str(timm), str(tmp_path / "a.safetensors"), f"--model={name}"]
    assert convert(command) == 2
    err = capsys.readouterr().err
    assert f"timm.safetensors has timm's names, but timm has no {name} (timm has" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("size", [(128, 64), (64, 64)])
def test_tables_of_oblong_maps_are_loaded_the_same(size, tmp_path):
    model = create_model("astroformer_pico", **OBLONG | {"image_size": size})
    variables = unflatten_dict(random_arrays(shapes_of(model), seed=1), sep="/")
    native, timm = (
        load_weights(model, variables, path) for path in write_oblong(tmp_path)
    )
    assert native[1] == timm[1]
    assert "bias tables resized: 2x4 to " in native[1][0]
    jax.tree.map(np.testing.assert_array_equal, native[0], timm[0])


def test_oblong_tables_of_an_unknown_size_are_told_or_refused(tmp_path):
    _, path = write_oblong(tmp_path, of_run=False)
    for size in ((64, 128), (128, 64)):  # nothing tells which of them is right
        model = create_model("astroformer_pico", **OBLONG | {"image_size": size})
        variables = unflatten_dict(random_arrays(shapes_of(model), seed=1), sep="/")
        _, notes = load_weights(model, variables, path)
        assert notes[0].startswith("the file does not tell its image size, and its")
    model = create_model("astroformer_pico", **OBLONG | {"image_size": 64})
    variables = unflatten_dict(random_arrays(shapes_of(model), seed=1), sep="/")
    said = r"21 offsets do not fit the image size in the file; if it names"
    with pytest.raises(UserError, match=said) as error:
        load_weights(model, variables, path)
    assert "\n" not in str(error.value)


def test_a_network_on_a_torus_comes_back_as_it_was(tmp_path, capsys):
    spec = {"name": "astroformer_pico", "image_size": 64, "num_classes": 3}
    spec |= {"strides": (2, 2, 2, 2, 2), "relative_bias": "torus"}
    arrays = random_arrays(shapes_of(create_model(**spec)))
    files = [str(tmp_path / f"{n}.safetensors") for n in range(3)]
    write_file(files[0], arrays, spec | {"channels": 3})
    assert convert(files[:2]) == 0
    state = read_weights(files[1]).arrays
    written = sum(
        x.size for key, x in state.items() if not re.search("running_(mean|var)$", key)
    )
    assert f"{written:,} parameters" in capsys.readouterr().out
    assert convert(files[1:]) == 0
    assert "folded" not in capsys.readouterr().out
    back = read_weights(files[2]).arrays
    for path, array in arrays.items():
        np.testing.assert_array_equal(back[path], array)


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
