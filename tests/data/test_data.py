"""Data sets by name: the real ones, and what can go wrong."""

import dataclasses
import gzip
import io
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import lazy_images
from hybrid_jax.data.builders import fashion_mnist
from hybrid_jax.data.channel_stats import channel_statistics
from hybrid_jax.data.image_io import encode_png
from hybrid_jax.data.sources import tfds as tfds_source
from hybrid_jax.data.sources import tfds_builder
from hybrid_jax.errors import UserError, escape


def test_digits_are_scikit_learns(digits):
    scans = load_digits()
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.train.images.dtype == np.uint8
    assert digits.train.images.shape[1:] == (8, 8, 1)
    ours = np.concatenate([digits.train.images, digits.test.images])[..., 0]
    labels = np.concatenate([digits.train.labels, digits.test.labels])
    theirs = np.rint(scans.images * 255 / 16).astype(np.uint8)

    def as_set(images, labels):
        pairs = zip(images, labels, strict=True)
        return sorted((image.tobytes(), int(label)) for image, label in pairs)

    assert as_set(ours, labels) == as_set(theirs, scans.target)
    shares = np.bincount(digits.test.labels) / np.bincount(labels)
    assert np.abs(shares - 0.2).max() < 0.01
    assert digits.classes == tuple("0123456789")


def test_statistics_are_those_of_the_training_pixels(digits):
    mean, std = digits.statistics
    np.testing.assert_allclose(mean, digits.train.images.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(std, digits.train.images.std((0, 1, 2)), rtol=1e-5)


def test_statistics_of_many_images_are_of_all_parts_of_them():
    """Images are often in the order of their classes."""
    levels = np.repeat(np.uint8([0, 200]), 10_000).reshape(-1, 1, 1, 1)
    mean, std = channel_statistics(levels, "made")
    np.testing.assert_allclose([*mean, *std], 100, atol=0.1)


def test_the_second_load_reads_the_decoded_arrays(digits, monkeypatch):
    monkeypatch.setattr(lazy_images.LazyImages, "decode_all", None)
    again = data.load(DataConfig("digits", validation=0))
    np.testing.assert_array_equal(again.train.images, digits.train.images)
    np.testing.assert_array_equal(again.test.labels, digits.test.labels)


def test_a_set_is_prepared_once_in_a_folder_of_any_name(tmp_path, monkeypatch, capsys):
    place = tmp_path / os.fsdecode(b"td[1] *? %# caf\xe9 .")
    first = data.load(DataConfig("digits", str(place), validation=0))
    assert (
        f"preparing digits in {escape(place)}/digits/1.0.0, on"
        in capsys.readouterr().err
    )
    pixels = first.train.images.copy()
    monkeypatch.setattr(tfds_builder, "_prepare", None)
    again = data.load(DataConfig("digits", str(place), loader="stream", validation=0))
    np.testing.assert_array_equal(again.train.images[np.arange(1437)], pixels)
    (decoded,) = (place / "digits" / "1.0.0").glob("decoded-train-*")
    (decoded / "images.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError) as error:  # of the user's folder, not of a link
        _ = data.load(DataConfig("digits", str(place), validation=0)).train.images
    assert str(error.value).startswith(f"{decoded} is damaged")


def test_damaged_decoded_arrays_are_named(tmp_path):
    _ = data.load(DataConfig("digits", str(tmp_path), validation=0)).train.images
    (folder,) = tmp_path.glob("digits/1.0.0/decoded-train-*")
    (folder / "images.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"decoded-train-\S+ is damaged .*: delete it"):
        _ = data.load(DataConfig("digits", str(tmp_path), validation=0)).train.images


def test_tensorflow_is_not_imported_even_where_it_is_installed(tmp_path):
    code = (
        "import sys; from hybrid_jax import data\n"
        "from hybrid_jax.config.schema import DataConfig\n"
        "splits = data.load(DataConfig('digits', sys.argv[1], validation=0))\n"
        "count = len(splits.train)\n"
        "print(count, 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1437 False"


def test_unknown_names_are_refused_with_the_valid_ones(tmp_path):
    with pytest.raises(UserError, match=r"did you mean 'digits'.*fashion_mnist"):
        data.load(DataConfig("digitz", str(tmp_path), validation=0))


def test_a_set_that_only_tensorflow_prepares_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_builder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"mnist is not in .*pip install tensorflow"):
        data.load(DataConfig("mnist", str(tmp_path), validation=0))


def write_small_builder(
    folder, sizes, splits=("train", "test"), labels=(0, 1), names=("cat", "dog")
):
    """A prepared TFDS set of random images, in the form that TFDS writes."""
    rng = np.random.default_rng(0)
    with tfds.core.registered.skip_registration():

        class Small(tfds.core.GeneratorBasedBuilder):
            name = "small"
            VERSION = tfds.core.Version("1.0.0")
            url_infos = None

            def _info(self):
                features = {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=names),
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples() for split in splits}

            def _generate_examples(self):
                for i, size in enumerate(sizes):
                    pixels = rng.integers(0, 256, (size, size, 3), np.uint8)
                    yield i, {"image": encode_png(pixels), "label": labels[i % 2]}

    builder = Small(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(file_format="array_record")


@pytest.mark.parametrize("held", [("validation",), ("validation", "test"), ("test",)])
def test_any_prepared_tfds_set_is_read_with_the_splits_that_it_has(held, tmp_path):
    write_small_builder(tmp_path, [20] * 20, ("train", *held))
    splits = data.load(DataConfig("small", str(tmp_path)))
    assert splits.classes == ("cat", "dog")
    expected = dict.fromkeys(("train", *held), 20)
    if "validation" not in held:
        expected |= {"train": 18, "validation": 2}
    assert {name: len(split.images) for name, split in splits.items()} == expected
    assert {name: split.labels.mean() for name, split in splits.items()} == (
        dict.fromkeys(expected, 0.5)
    )
    assert any("no test split" in note for note in splits.notes) != ("test" in held)
    alone = data.load(DataConfig("small", str(tmp_path), validation=0))
    assert [*alone] == ["train", *(name for name in held if name == "test")]
    note = "20 images of the validation split left out (config.data.validation=0)"
    assert (note in alone.notes) == ("validation" in held)
    names = splits.train.names
    assert len(names) == len({*names}) == expected["train"]
    listed = tmp_path / "listed.txt"
    listed.write_text("\n".join(names[::2]))  # names of tables are taken by lists
    fewer = data.load(DataConfig("small", str(tmp_path), exclude=str(listed)))
    assert not {*fewer.train.names} & {*names[::2]}
    listed.write_text(f"train/3\n{held[0]}/0\n")
    for validation in (0, 0.1):  # what is listed is there, though it may be unused
        data.load(
            DataConfig(
                "small", str(tmp_path), validation=validation, exclude=str(listed)
            )
        )


def test_a_class_without_any_image_and_other_splits_are_named(tmp_path):
    splits = ("train", "test", "extra")
    write_small_builder(tmp_path, [20] * 20, splits, names=("cat", "dog", "owl"))
    notes = data.load(DataConfig("small", str(tmp_path))).notes
    assert "1 of 3 classes has no image: 'owl'" in notes
    assert "20 images of the split extra left out" in notes


def test_class_names_that_are_lost_or_given_twice_are_not_passed_over(tmp_path):
    write_small_builder(tmp_path, [20] * 20)
    file = tmp_path / "small" / "1.0.0" / "label.labels.txt"
    config = DataConfig("small", str(tmp_path))
    assert not any("numbered" in note for note in data.load(config).notes)
    file.write_text("cat\ncat\n")
    with pytest.raises(UserError, match=r"is damaged \(it names two classes 'cat'\)"):
        data.load(config)
    file.unlink()
    (note,) = (note for note in data.load(config).notes if "numbered" in note)
    assert (
        note == "classes are numbered: small has no names of them in label.labels.txt"
    )


def test_images_that_vary_in_size_are_scanned_once(tmp_path, monkeypatch):
    """Again where the records or the reader are other ones."""
    scanned = []

    def scan_images(records, title):
        scanned.append(title)
        return lazy_images.scan_images(records, title)

    monkeypatch.setattr(tfds_source, "scan_images", scan_images)

    def load():
        scanned.clear()
        splits = data.load(
            DataConfig("small", str(tmp_path), image_size=(16, 16), validation=0)
        )
        return splits.train.shape, list(scanned)

    write_small_builder(tmp_path, [20, 24, 20])
    shape = (3, 24, 24, 3)
    both = ["small train", "small test"]
    assert load() == (shape, both)
    assert load() == (shape, [])
    record = next(tmp_path.rglob("*train*record*"))
    os.utime(record, ns=(1, 1))
    assert load() == (shape, ["small train"])
    monkeypatch.setattr(tfds_source, "READER_VERSION", "another reader")
    assert load() == (shape, both)
    (memory,) = tmp_path.rglob("facts.json")
    memory.write_text('{"train": [1')
    assert load() == (shape, both)
    assert load() == (shape, [])


def test_images_of_several_sizes_need_a_size_to_be_brought_to(tmp_path):
    write_small_builder(tmp_path, [20, 20, 24])
    with pytest.raises(UserError, match=r"2 sizes, from 20x20 to 24x24: choose one"):
        data.load(DataConfig("small", str(tmp_path), validation=0))
    splits = data.load(
        DataConfig("small", str(tmp_path), image_size=(16, 18), validation=0)
    )
    assert splits.train.images.shape == (3, 24, 24, 3)


def test_the_label_may_be_another_feature(tmp_path):
    write_small_builder(tmp_path, [20] * 4)
    with pytest.raises(UserError, match=r"label='labl' .* did you mean 'label'"):
        data.load(DataConfig("small", str(tmp_path), label="labl", validation=0))


def test_archives_are_taken_from_another_folder(small_fashion, server, monkeypatch):
    root, _ = publish(monkeypatch, small_fashion, server)
    mine = small_fashion[0] / "my archives"
    root.rename(mine)
    place = str(small_fashion[0] / "data")
    with pytest.raises(UserError, match=r"manual_dir='nowhere' is no folder"):
        data.load(
            DataConfig("fashion_mnist", place, manual_dir="nowhere", validation=0)
        )
    splits = data.load(
        DataConfig("fashion_mnist", place, manual_dir=str(mine), validation=0)
    )
    assert (len(splits.train), len(splits.test)) == (30, 20)


def test_a_set_without_a_test_split_is_refused(tmp_path):
    write_small_builder(tmp_path, [20] * 4, ("train",))
    with pytest.raises(UserError, match="train and test"):
        data.load(DataConfig("small", str(tmp_path), validation=0))


def test_a_split_without_labels_is_refused(tmp_path):
    write_small_builder(tmp_path, [20] * 4, labels=(-1, -1))
    with pytest.raises(UserError, match="has 4 of 4 images without a label"):
        data.load(DataConfig("small", str(tmp_path), validation=0))


def test_one_missing_label_is_counted(tmp_path):
    write_small_builder(tmp_path, [20] * 4, labels=(0, -1))
    with pytest.raises(UserError, match="train split of small has 2 of 4 images wi"):
        data.load(DataConfig("small", str(tmp_path), validation=0))


def test_a_set_of_one_class_is_refused(tmp_path):
    write_small_builder(tmp_path, [20] * 4, labels=(1, 1))
    with pytest.raises(UserError, match="train: all labels are 'dog': two classes"):
        data.load(DataConfig("small", str(tmp_path), validation=0))


def test_a_class_that_is_only_tested_is_refused(tmp_path):
    """Unless `config.data.exclude` leaves its images out."""
    write_small_builder(tmp_path, [20] * 4)
    config = DataConfig("small", str(tmp_path), validation=0)
    data.load(config)
    place = tmp_path / "small" / "1.0.0"
    (place / "label.labels.txt").write_text("cat\ndog\nfox\n")
    (cache,) = place.glob("label-test-*.npy")
    np.save(cache, np.array([0, 1, 2, 1], np.int32))
    with pytest.raises(UserError, match="test: train lacks 1 of its classes: 'fox'"):
        data.load(config)
    (tmp_path / "out.txt").write_text("test/2\n")
    exclude = str(tmp_path / "out.txt")
    splits = data.load(dataclasses.replace(config, exclude=exclude))
    assert splits.test.labels.tolist() == [0, 1, 1]


def test_labels_without_names_are_named_as_damage(tmp_path):
    """Where the file of class names was cut."""
    write_small_builder(tmp_path, [20] * 4)
    (tmp_path / "small" / "1.0.0" / "label.labels.txt").write_text("cat\n")
    with pytest.raises(UserError, match=r"it has 1 class name, and labels up to 1\)"):
        data.load(DataConfig("small", str(tmp_path), validation=0))


# Fashion-MNIST


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    return header + array.tobytes()


@pytest.fixture
def small_fashion(tmp_path, monkeypatch):
    """Archives in the original format, a few images each, in a stand-in folder."""
    import hashlib

    rng = np.random.default_rng(0)
    archives, arrays = {}, {}
    for split, (images, labels) in fashion_mnist.FILES.items():
        count = {"train": 30, "test": 20}[split]
        arrays[split] = (
            rng.integers(0, 256, (count, 28, 28), np.uint8),
            np.arange(count, dtype=np.uint8) % 10,
        )
        for name, array in zip((images, labels), arrays[split], strict=True):
            digest = hashlib.sha256(idx(array)).hexdigest()
            archives[name] = fashion_mnist.ARCHIVES[name]._replace(
                content_sha256=digest
            )
            (tmp_path / name).write_bytes(gzip.compress(idx(array)))
    monkeypatch.setattr(fashion_mnist, "ARCHIVES", archives)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path)
    return tmp_path, arrays


def test_fashion_mnist_is_read_from_debians_folder(small_fashion):
    folder, arrays = small_fashion
    splits = data.load(DataConfig("fashion_mnist", str(folder / "data"), validation=0))
    for split in ("train", "test"):
        images, labels = arrays[split]
        ours = getattr(splits, split)
        order = np.argsort([image.tobytes() for image in ours.images])
        expected = np.argsort([image.tobytes() for image in images])
        np.testing.assert_array_equal(ours.images[order][..., 0], images[expected])
        np.testing.assert_array_equal(ours.labels[order], labels[expected])
    assert splits.classes[9] == "Ankle boot"


def test_a_damaged_archive_is_named_and_nothing_is_left(small_fashion):
    folder, _ = small_fashion
    archive = folder / "train-images-idx3-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        data.load(DataConfig("fashion_mnist", str(folder / "data"), validation=0))
    archive.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz is damaged"):
        data.load(DataConfig("fashion_mnist", str(folder / "data"), validation=0))
    assert not list((folder / "data").glob("fashion_mnist/1.0.0/*.array_record*"))


@pytest.mark.parametrize("debian", ["whole", "part", "damaged"])
def test_a_users_own_archives_come_before_debians(
    debian, small_fashion, server, monkeypatch
):
    folder, _ = small_fashion
    kept = {name: (folder / name).read_bytes() for name in fashion_mnist.ARCHIVES}
    manual, _ = publish(monkeypatch, small_fashion, server)
    installed = folder / "installed"
    installed.mkdir()
    for name, content in [*kept.items()][: 2 if debian == "part" else 4]:
        damaged = debian == "damaged"
        (installed / name).write_bytes(content[:50] if damaged else content)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", installed)
    config = DataConfig(
        "fashion_mnist", str(folder / "data"), manual_dir=str(manual), validation=0
    )
    splits = data.load(config)
    assert (len(splits.train), len(splits.test)) == (30, 20)


def test_archives_that_are_no_files_are_named_with_a_way_out(tmp_path, monkeypatch):
    manual = tmp_path / "downloads" / "manual"
    archive = manual / "cifar-10-binary.tar.gz"
    config, ours = DataConfig("cifar10", str(tmp_path), validation=0), os.access

    def said():
        with pytest.raises(UserError) as error:
            data.load(config)
        return str(error.value)

    way_out = f"remove it, and put the published {archive.name} into {manual}"
    archive.mkdir(parents=True)
    assert said() == f"{archive} cannot be read (it is a folder): {way_out}"
    archive.rmdir()
    os.mkfifo(archive)
    assert said() == f"{archive} cannot be read (it is no regular file): {way_out}"
    archive.unlink()
    archive.symlink_to("gone")
    assert "cannot be read (it is a link to a missing file)" in said()
    archive.unlink()
    archive.write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda p, m: p != archive and ours(p, m))
    assert said() == f"{archive} cannot be read (permission denied): {way_out}"


@pytest.mark.skipif(
    not fashion_mnist.DEBIAN_FOLDER.is_dir(),
    reason="needs the real images: apt-get install dataset-fashion-mnist",
)
def test_the_real_archives_are_the_published_ones():
    paths = fashion_mnist.debian_archives()
    fashion_mnist.check_contents(paths)
    images = fashion_mnist.read_idx(paths["t10k-images-idx3-ubyte.gz"])
    labels = fashion_mnist.read_idx(paths["train-labels-idx1-ubyte.gz"])
    assert images.shape == (10_000, 28, 28)
    assert np.bincount(labels).tolist() == [6000] * 10


# Archives that are published elsewhere


@pytest.fixture
def server(tmp_path):
    """A web server of a folder on this machine: the folder and its address."""
    import functools
    import http.server
    import threading

    root = tmp_path / "web"
    root.mkdir()
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(root)
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield root, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def publish(monkeypatch, small_fashion, server):
    """Moves the small archives from Debian's folder to the web."""
    folder, arrays = small_fashion
    root, address = server
    infos = {}
    for name in fashion_mnist.ARCHIVES:
        (folder / name).rename(root / name)
        info = tfds.download.checksums.compute_url_info(root / name)
        infos[address + name] = info
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", folder / "not installed")
    monkeypatch.setattr(fashion_mnist.FashionMnist, "url_infos", infos)
    return root, arrays


def test_fashion_mnist_is_downloaded_elsewhere(small_fashion, server, monkeypatch):
    publish(monkeypatch, small_fashion, server)
    splits = data.load(
        DataConfig("fashion_mnist", str(small_fashion[0] / "data"), validation=0)
    )
    assert (len(splits.train), len(splits.test)) == (30, 20)


def test_archives_that_a_user_put_in_place_need_no_network(
    small_fashion, server, monkeypatch
):
    root, _ = publish(monkeypatch, small_fashion, server)
    manual = small_fashion[0] / "data" / "downloads" / "manual"
    manual.parent.mkdir(parents=True)
    root.rename(manual)
    splits = data.load(
        DataConfig("fashion_mnist", str(small_fashion[0] / "data"), validation=0)
    )
    assert (len(splits.train), len(splits.test)) == (30, 20)


def test_a_download_that_is_not_the_published_one_is_refused(
    small_fashion, server, monkeypatch
):
    root, _ = publish(monkeypatch, small_fashion, server)
    (root / "t10k-labels-idx1-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"not the published one.*downloads/manual"):
        data.load(
            DataConfig("fashion_mnist", str(small_fashion[0] / "data"), validation=0)
        )


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        ("cifar10", "cifar-10-binary.tar.gz"),
        ("cifar100", "cifar-100-binary.tar.gz"),
        ("tiny_imagenet", "tiny-imagenet-200.zip"),
        ("galaxy10", "Galaxy10_DECals.h5"),
        ("fashion_mnist", "train-images-idx3-ubyte.gz"),
    ],
)
def test_without_network_the_user_is_told_what_to_put_where(
    name, archive, tmp_path, monkeypatch
):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "not installed")
    # Nothing listens there, whatever network this machine has.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(UserError) as error:
        data.load(DataConfig(name, str(tmp_path), validation=0))
    assert f"{archive} cannot be downloaded" in str(error.value)
    assert f"into {tmp_path}/downloads/manual" in str(error.value)
    assert "\n" not in str(error.value)


def test_png_is_lossless():
    from PIL import Image

    rng = np.random.default_rng(0)
    for shape in [(5, 7), (5, 7, 1), (5, 7, 3)]:
        pixels = rng.integers(0, 256, shape, np.uint8)
        back = np.asarray(Image.open(io.BytesIO(encode_png(pixels))))
        np.testing.assert_array_equal(back.reshape(shape), pixels)
