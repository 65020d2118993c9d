"""Files of weights: what comes back, and what is refused."""

import argparse
import json
import pickle

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from hybrid_jax.errors import UserError
from hybrid_jax.models import create_model
from hybrid_jax.runs.weights import load_weights, read_weights
from hybrid_jax.weights import timm_models
from hybrid_jax.weights.files import shapes_of, write_file
from tests.timm_oracle import import_timm, pair, random_images, random_variables


class Canary:
    """Unpickling it leaves a file behind."""

    path = None

    def __reduce__(self):
        return open, (str(self.path), "w")


def save_torch(path, content):
    torch = pytest.importorskip("torch")
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def model():
    return create_model("astroformer_pico", 5, 64, strides=timm_models.TIMM_STRIDES)


@pytest.fixture(scope="module")
def variables(model):
    return random_variables(model, random_images(model.image_size))


def test_a_file_of_ours_comes_back(model, variables, tmp_path):
    spec = {"name": "astroformer_pico", "channels": 3}
    arrays = flatten_dict(variables, sep="/")
    write_file(tmp_path / "a.safetensors", arrays, spec)
    weights = read_weights(tmp_path / "a.safetensors")
    assert weights.is_native
    assert weights.spec == spec
    other = random_variables(model, random_images(model.image_size), seed=1)
    loaded, notes = load_weights(model, other, weights.path)
    assert notes == []
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    (tmp_path / "other").touch()  # whoever reads other files reads this one
    assert weights.path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_class_names_come_back_and_decide_over_the_classifier(
    model, variables, tmp_path
):
    spec = {"name": "astroformer_pico", "channels": 3}
    path, names = tmp_path / "a.safetensors", ("a", "b", "ç", "d", "e")
    write_file(path, flatten_dict(variables, sep="/"), spec, names)
    assert read_weights(path).classes == names
    zeros = jax.tree.map(np.zeros_like, variables)
    kernel = variables["params"]["head"]["classifier"]["kernel"]
    for classes, expected, notes in (
        (names, kernel, 0),
        (names[::-1], kernel[:, ::-1], 1),
        ([*"abcde"], 0 * kernel, 1),
        (np.array(names[::-1]), kernel[:, ::-1], 1),
        (range(5), 0 * kernel, 1),
    ):
        loaded, said = load_weights(model, zeros, path, classes)
        assert len(said) == notes
        found = loaded["params"]["head"]["classifier"]["kernel"]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("abcde", "1 different name, and the network 5 logits"),
        (["a", "b"], "2 different names"),
        (["a"] * 5, "1 different name"),
        ([0, 1, 2, 3, float("nan")], "1 name of 5 is missing"),
    ],
)
def test_every_logit_has_a_name(model, variables, classes, said, tmp_path):
    path, names = tmp_path / "a.safetensors", ("0", "1", "2", "3", "4")
    spec = {"name": "astroformer_pico", "channels": 3}
    write_file(path, flatten_dict(variables, sep="/"), spec, names)
    _, notes = load_weights(model, variables, path, np.arange(5.0))
    assert notes == []
    with pytest.raises(UserError, match=said):
        load_weights(model, variables, path, classes)


@pytest.mark.parametrize("wrapped", ["plain", "timm's training", "an average"])
def test_pytorchs_files_come_here(wrapped, tmp_path):
    import_timm()
    model, network, variables = pair("astroformer_pico", 64)
    state = network.state_dict()
    other = {key: tensor + 1 for key, tensor in state.items()}
    content = {
        "plain": state,
        "timm's training": {
            "state_dict": {f"module.{key}": value for key, value in state.items()},
            "args": argparse.Namespace(model="astroformer"),
            "epoch": 3,
        },
        "an average": {"state_dict": other, "state_dict_ema": state},
    }[wrapped]
    path = save_torch(tmp_path / "a.pth", content)
    loaded, notes = load_weights(model, jax.tree.map(np.zeros_like, variables), path)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    told = "took 'state_dict_ema' of the file, and left out 'state_dict'"
    assert (told in notes) == (wrapped == "an average")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_becomes_float32(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    tensor = torch.arange(5, dtype=getattr(torch, dtype))
    save({"a": tensor}, tmp_path / "a.safetensors")
    save_torch(tmp_path / "a.pth", {"a": tensor})
    for name in ("a.safetensors", "a.pth"):
        array = read_weights(tmp_path / name).arrays["a"]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.arange(5))


@pytest.mark.parametrize("kind", ["zip", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(kind, tmp_path):
    pytest.importorskip("torch")
    Canary.path = tmp_path / "canary"
    path = tmp_path / "evil.pth"
    if kind == "zip":
        save_torch(path, {"state_dict": {}, "extra": Canary()})
    else:
        path.write_bytes(pickle.dumps({"extra": Canary()}, protocol=2))
    with pytest.raises(UserError, match=r"evil\.pth holds more than weights"):
        read_weights(path)
    assert not Canary.path.exists()
    if kind == "zip":  # the canary is alive: whoever unpickles, wakes it
        import torch

        torch.load(path, weights_only=False)
        assert Canary.path.exists()


def test_damaged_and_missing_files_are_named(model, variables, tmp_path):
    write_file(tmp_path / "a.safetensors", flatten_dict(variables, sep="/"))
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name, said in [
        ("cut.safetensors", "is damaged"),
        ("empty.safetensors", "is damaged"),
        ("none.safetensors", "there are no weights at"),
        ("folder", "is not the folder of a run"),
    ]:
        with pytest.raises(UserError, match=said) as error:
            read_weights(tmp_path / name)
        assert name in str(error.value)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match="not a file of weights"):
        read_weights(tmp_path / "a.txt")


def test_homes_of_unknown_users_are_named(model):
    path = "~nobody-of-that-name/x"
    with pytest.raises(UserError, match=f"there are no weights at {path}"):
        load_weights(model, {}, path)
    with pytest.raises(UserError, match="there is no folder ~nobody-of-that-name"):
        write_file(path, {})


@pytest.mark.parametrize("path", [None, 5, b"x", ""])
def test_what_is_no_path_is_named(model, path):
    said = "is empty: give a file" if path == "" else "is no path: give a file of weig"
    with pytest.raises(UserError, match=f"^path.*{said}"):
        load_weights(model, {}, path)


def test_damaged_pickles_are_named(tmp_path):
    torch = pytest.importorskip("torch")
    path = save_torch(tmp_path / "a.pth", {"a": torch.ones(3)})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"a\.pth is damaged"):
        read_weights(path)
    save_torch(path, [1, 2])
    with pytest.raises(UserError, match="no state dict"):
        read_weights(path)


def test_a_zip_with_other_bytes_than_were_saved_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = save_torch(tmp_path / "a.pth", {"a": torch.arange(1000.0)})
    whole = path.read_bytes()
    at = whole.index(np.arange(500, 510, dtype=np.float32).tobytes())
    damaged = bytearray(whole)
    damaged[at] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"a\.pth is damaged: the checksum") as error:
        read_weights(path)
    assert "\n" not in str(error.value)
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_weights(path).arrays["a"], np.arange(1000))


def test_a_zip_that_was_saved_without_checksums_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        path = save_torch(tmp_path / "a.pth", {"a": torch.arange(9.0)})
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)
    np.testing.assert_array_equal(read_weights(path).arrays["a"], np.arange(9))


@pytest.mark.parametrize("kind", ["page", "pointer", "nothing", "integers"])
def test_what_is_no_checkpoint_is_not_called_hostile(kind, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    if kind == "integers":
        save_torch(path, {1: torch.ones(3), "model": None})
    else:
        path.write_bytes(
            {"page": b"<html>", "pointer": b"version https://git-lfs", "nothing": b""}[
                kind
            ]
        )
    with pytest.raises(UserError, match=r"a\.pth is damaged") as error:
        read_weights(path)
    assert "could run code" not in str(error.value)


def test_parameters_that_were_saved_with_their_gradients(tmp_path):
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.arange(3.0))
    path = save_torch(tmp_path / "a.pth", {"a": parameter, "n": torch.tensor(3)})
    arrays = read_weights(path).arrays
    np.testing.assert_array_equal(arrays["a"], [0, 1, 2])
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}


@pytest.mark.parametrize("metadata", ["[1, 2]", '{"name": "coatnet_0"}', "{"])
@pytest.mark.parametrize("key", ["hybrid_jax", "hybrid_jax.classes"])
def test_metadata_of_somebody_elses_are_refused(key, metadata, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"params/a": np.ones(3, np.float32)}, path, {key: metadata})
    with pytest.raises(UserError, match="is damaged or not a safetensors file"):
        read_weights(path)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": ["a"]},
        {"channels": "3"},
        {"channels": 0},
        {"num_classes": 2.5},
        {"patch_size": "4", "image_size": [32, 32]},
        {"patch_size": 4},
        {"image_size": [32, 32, 32]},
        {"strides": 2},
        "[" * 200_000,
    ],
    ids=lambda spec: str(spec)[:30],
)
def test_metadata_that_describe_no_model_end_in_one_line(spec, tmp_path):
    path = tmp_path / "a.safetensors"
    if isinstance(spec, dict):
        spec = json.dumps({"name": "vit_tiny", "channels": 3} | spec)
    save_file({"params/a": np.ones(3, np.float32)}, path, {"hybrid_jax": spec})
    said = "is damaged or not a safetensors file"
    with pytest.raises(UserError, match=said) as error:
        read_weights(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "before", ["module.", "_orig_mod.module.", "module._orig_mod."]
)
def test_names_of_wrappers_are_left_out(before, tmp_path):
    torch = pytest.importorskip("torch")
    save_torch(tmp_path / "a.pth", {f"{before}a.module.b": torch.ones(3)})
    save_file({f"{before}a.module.b": np.ones(3)}, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        assert [*read_weights(tmp_path / name).arrays] == ["a.module.b"]


def test_two_names_of_one_array_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    names = ("a.b", "module.a.b")
    save_torch(tmp_path / "a.pth", {name: torch.ones(3) for name in names})
    save_file({name: np.ones(3) for name in names}, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        said = rf"{name} holds both (module\.)?a\.b and (module\.)?a\.b, which are one"
        with pytest.raises(UserError, match=said) as error:
            read_weights(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "taken", "note"),
    [
        ("model model_ema", "model_ema", "'model_ema' of the file, and left out 'mod"),
        ("state_dict ema_state_dict", "state_dict", "and left out 'ema_state_dict'"),
        ("swa state_dict other", "state_dict", "and left out 'swa', 'other'"),
        ("model", "model", ""),
        ("other", "", "took the tensors outside, and left out 'other'"),
    ],
)
def test_which_weights_of_several_were_taken_is_told(content, taken, note, tmp_path):
    torch = pytest.importorskip("torch")
    saved = {
        name: {"a": torch.full((3,), float(n))}
        for n, name in enumerate(content.split())
    }
    values = {name: state["a"].numpy() for name, state in saved.items()}
    if not taken:
        saved["a"] = torch.full((3,), 9.0)
    saved["optimizer"] = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}
    weights = read_weights(save_torch(tmp_path / "a.pth", saved | {"epoch": 3}))
    np.testing.assert_array_equal(weights.arrays["a"], values.get(taken, [9, 9, 9]))
    assert len(weights.notes) == bool(note)
    assert note in "".join(weights.notes)


@pytest.mark.parametrize(
    "empty", [{"state_dict_ema": {}}, {"model_ema": {"decay": 0.9}}, {"state_dict": {}}]
)
def test_a_state_dict_without_tensors_is_passed_over(empty, tmp_path):
    torch = pytest.importorskip("torch")
    path = save_torch(tmp_path / "a.pth", empty | {"model": {"a": torch.ones(3)}})
    assert [*read_weights(path).arrays] == ["a"]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones(3, np.int8), r"holds int8 in 1 array \(a\), which is no weight: give"),
        (np.ones(3, bool), r"holds bool in 1 array \(a\)"),
        (np.ones(3, np.complex64), r"holds complex64 in 1 array \(a\)"),
        (np.array([1, np.nan]), r"holds NaN or infinite values in 1 array \(a\): it"),
        (np.array([1, np.inf], np.float16), r"holds NaN or infinite values in 1 array"),
        (np.array([1, 1e300]), r"holds NaN or infinite values in 1 array"),
    ],
    ids=str,
)
def test_what_cannot_be_weights_is_refused_by_name(array, said, tmp_path):
    torch = pytest.importorskip("torch")
    arrays = {"a": array, "b": np.ones(3), "norm.num_batches_tracked": np.array(7)}
    if array.dtype.kind != "c":  # safetensors holds none
        save_file(arrays, tmp_path / "a.safetensors")
    save_torch(tmp_path / "a.pth", {n: torch.tensor(x) for n, x in arrays.items()})
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UserError, match=rf"{path.name} {said}"):
            read_weights(path)
    del arrays["a"]
    save_file(arrays, tmp_path / "a.safetensors")
    assert read_weights(tmp_path / "a.safetensors").arrays.keys() == arrays.keys()


def test_float8_is_named(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    path = tmp_path / "a.safetensors"
    save({"a": torch.ones(3).to(torch.float8_e4m3fn)}, path)
    with pytest.raises(UserError, match="in float8, which cannot be read: convert it"):
        read_weights(path)


def test_other_strides_are_told(tmp_path):
    import_timm()
    _, network, _ = pair("astroformer_pico", 64)
    path = tmp_path / "a.safetensors"
    save_file({k: v.numpy() for k, v in network.state_dict().items()}, path)
    model = create_model("astroformer_pico", 10, 32)
    variables = jax.eval_shape(model.init, jax.random.key(0), random_images((32, 32)))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables)
    _, notes = load_weights(model, variables, path)
    assert notes == [
        "bias tables resized: 2x2 to 4x4",
        "strides are (2, 2, 2, 2, 2) there and (1, 1, 2, 2, 2) here",
    ]
    on_torus = create_model("astroformer_pico", 10, 32, padding="circular")
    _, notes = load_weights(on_torus, variables, path)
    assert notes[2:] == ["padding is symmetric there and circular here"]
    as_tensorflow = create_model("astroformer_pico", 10, 32, padding="same")
    _, notes = load_weights(as_tensorflow, variables, path)
    assert notes[2:] == ["padding is symmetric there and same here"]
    post = create_model("astroformer_pico", 10, 32, attention="post")
    _, notes = load_weights(post, variables, path)
    assert notes[2:] == ["attention is pre there and post here"]


def test_weights_of_another_network_are_refused(model, variables, tmp_path):
    other = create_model("cbam_pico", 5, 64)
    shapes = shapes_of(
        jax.eval_shape(other.init, jax.random.key(0), random_images((64, 64)))
    )
    arrays = {path: np.zeros(shape, np.float32) for path, shape in shapes.items()}
    write_file(tmp_path / "cbam.safetensors", arrays)
    with pytest.raises(UserError, match=r"missing: .*squeeze_excite.*surplus: .*block"):
        load_weights(model, variables, tmp_path / "cbam.safetensors")


def test_timms_weights_for_blocks_that_timm_lacks_are_refused(tmp_path):
    model, path = create_model("wrn_16_1", 5, 32), tmp_path / "a.safetensors"
    save_file({"stem.conv1.weight": np.ones((16, 3, 3, 3), np.float32)}, path)
    variables = jax.eval_shape(model.init, jax.random.key(0), random_images((32, 32)))
    with pytest.raises(UserError, match="does not fit the network: timm has no array"):
        load_weights(model, variables, path)


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(_, path, **__):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(tmp_path / "a.safetensors"))

    monkeypatch.setattr("hybrid_jax.weights.files.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "a.safetensors", {"a": np.zeros(3, np.float32)})
    assert list(tmp_path.iterdir()) == []
