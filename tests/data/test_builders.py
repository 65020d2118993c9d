"""Builders of published sets, on small archives in the form of the real ones."""

import gzip
import io
import stat
import sys
import tarfile
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import resource

from hybrid_jax.data.builders import cifar, fashion_mnist, galaxy10, tiny_imagenet
from hybrid_jax.data.builders.cifar import Cifar10, Cifar100
from hybrid_jax.data.builders.galaxy10 import Galaxy10
from hybrid_jax.data.builders.tiny_imagenet import TinyImagenet
from hybrid_jax.errors import UserError

BUILDERS = (Cifar10, Cifar100, TinyImagenet, Galaxy10)


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Puts an archive where a user would, and makes it the published one."""

    def put(cls, content):
        path = tmp_path / "downloads" / "manual" / cls.ARCHIVE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        info = tfds.download.checksums.compute_url_info(path)
        monkeypatch.setattr(cls, "url_infos", dict.fromkeys(cls.url_infos, info))
        return path

    return put


def prepare(cls, folder):
    """A builder that finds the records on disk, as a later process would."""
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    cls(data_dir=folder, file_format="array_record").download_and_prepare(
        download_config=config, file_format="array_record"
    )
    assert "tensorflow" not in sys.modules
    return cls(data_dir=folder, file_format="array_record")


def read(builder, split, encoded=False):
    skip = {"image": tfds.decode.SkipDecoding()} if encoded else None
    records = list(builder.as_data_source(split, decoders=skip))
    assert "tensorflow" not in sys.modules
    return records


def assert_refused(cls, folder, path, reason):
    """The user reads one line that names the archive; no records are left behind."""
    with pytest.raises(UserError) as caught:
        prepare(cls, folder)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert reason in message
    assert "\n" not in message
    assert not cls(data_dir=folder, file_format="array_record").is_prepared()


def tar_gz(files, links=()):
    """Archive of contents by name, and of links: `(name, target, type)`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target, kind in links:
            member = tarfile.TarInfo(name)
            member.linkname, member.type = target, kind
            tar.addfile(member)
    return buffer.getvalue()


def cifar_file(labels, seed):
    """Records as published, and their pixels `[N, 32, 32, 3]`."""
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 32, 32, 3))
    images = images.astype(np.uint8)
    records = b"".join(
        bytes(label) + image.transpose(2, 0, 1).tobytes()
        for label, image in zip(labels, images, strict=True)
    )
    return records, images


def cifar10_files():
    """Two images in each file, of classes `i` and `9 - i` in the file `i`."""
    folder = "cifar-10-batches-bin/"
    files, images = {folder + "batches.meta.txt": b"airplane\n"}, {}
    names = [f"data_batch_{i}.bin" for i in range(1, 6)]
    for i, name in enumerate([*names, "test_batch.bin"]):
        files[folder + name], images[i] = cifar_file([(i,), (9 - i,)], i)
    return files, images


def by_pixels(records, *labels):
    return sorted((r["image"].tobytes(), *(int(r[k]) for k in labels)) for r in records)


@pytest.mark.parametrize("cls", BUILDERS)
def test_another_file_of_the_archives_name_is_refused(cls, tmp_path):
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / cls.ARCHIVE).write_bytes(b"not what was published")
    with pytest.raises(UserError, match="is not the published one") as caught:
        prepare(cls, tmp_path)
    assert f"{cls.ARCHIVE} into {manual}" in str(caught.value)
    assert not cls(data_dir=tmp_path, file_format="array_record").is_prepared()


def test_what_was_downloaded_before_needs_no_network(put, tmp_path):
    archive = put(Cifar10, tar_gz(cifar10_files()[0]))
    ((url, info),) = Cifar10.url_infos.items()
    downloaded = (
        tmp_path / "downloads/cifar10" / resource.get_dl_fname(url, info.checksum)
    )
    downloaded.parent.mkdir()
    archive.rename(downloaded)
    with pytest.raises(UserError, match="cannot be downloaded"):
        prepare(Cifar10, tmp_path)  # without a record of it, it may be cut off
    resource.write_info_file(url, downloaded, "cifar10", archive.name, info)
    assert len(read(prepare(Cifar10, tmp_path), "train")) == 10


def test_cifar10(put, tmp_path):
    files, images = cifar10_files()
    put(Cifar10, tar_gz(files))
    builder = prepare(Cifar10, tmp_path)
    label = builder.info.features["label"]
    assert label.names == cifar.CIFAR10_CLASSES
    assert (label.str2int("airplane"), label.str2int("truck")) == (0, 9)
    expected = [
        (images[i][j].tobytes(), label)
        for i in images
        for j, label in ((0, i), (1, 9 - i))
    ]
    assert by_pixels(read(builder, "train"), "label") == sorted(expected[:10])
    assert by_pixels(read(builder, "test"), "label") == sorted(expected[10:])


def test_cifar100(put, tmp_path):
    labels = {"train": [(4, 0), (14, 98), (13, 99)], "test": [(0, 4)]}
    files, expected = {}, {}
    for seed, split in enumerate(labels):
        name = f"cifar-100-binary/{split}.bin"
        files[name], images = cifar_file(labels[split], seed)
        expected[split] = sorted(
            (image.tobytes(), fine, coarse)
            for image, (coarse, fine) in zip(images, labels[split], strict=True)
        )
    put(Cifar100, tar_gz(files))
    builder = prepare(Cifar100, tmp_path)
    for split in labels:
        records = read(builder, split)
        assert by_pixels(records, "label", "coarse_label") == expected[split]
    features = builder.info.features
    fine, coarse = features["label"].names, features["coarse_label"].names
    assert fine == sorted(set(fine))
    assert coarse == sorted(set(coarse))
    assert (len(fine), len(coarse)) == (100, 20)
    named = {(coarse[c], fine[f]) for c, f in labels["train"] + labels["test"]}
    assert named == {
        ("fruit_and_vegetables", "apple"),
        ("people", "woman"),
        ("non-insect_invertebrates", "worm"),
        ("aquatic_mammals", "beaver"),
    }


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_cifar_links_are_not_followed(kind, put, tmp_path):
    files, _ = cifar10_files()
    name = "cifar-10-batches-bin/data_batch_3.bin"
    del files[name]
    target = "cifar-10-batches-bin/data_batch_2.bin"
    path = put(Cifar10, tar_gz(files, [(name, target, kind)]))
    assert_refused(Cifar10, tmp_path, path, f"is not safe: {name!r} is a link")


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("../", "outside of its folder"),
        ("/", "outside of its folder"),
        ("a/../../", "outside of its folder"),
        ("./", "it lacks"),
        ("other/", "it lacks"),
    ],
)
def test_cifar_files_elsewhere_are_not_read(prefix, said, put, tmp_path):
    files, _ = cifar10_files()
    name = "cifar-10-batches-bin/test_batch.bin"
    files[prefix + name] = files.pop(name)
    path = put(Cifar10, tar_gz(files))
    assert_refused(Cifar10, tmp_path, path, said)
    assert not list(tmp_path.parent.rglob("test_batch.bin"))


def test_cifar_archives_cut_off_are_refused(put, tmp_path):
    files, _ = cifar10_files()
    whole = tar_gz(files)
    path = put(Cifar10, whole[: len(whole) // 2])
    assert_refused(Cifar10, tmp_path, path, "cannot be read")
    tar = gzip.decompress(whole)
    header = tar.index(b"cifar-10-batches-bin/data_batch_3.bin")
    path = put(Cifar10, gzip.compress(tar[: header + 100]))
    assert_refused(
        Cifar10, tmp_path, path, "it lacks cifar-10-batches-bin/data_batch_3"
    )
    path = put(Cifar10, gzip.compress(tar[: header + 512 + 3073]))
    assert_refused(Cifar10, tmp_path, path, "cannot be read")
    path = put(Cifar10, b"no archive")
    assert_refused(Cifar10, tmp_path, path, "cannot be read")
    name = "cifar-10-batches-bin/data_batch_1.bin"
    path = put(Cifar10, tar_gz({**files, name: files[name][:-1]}))
    assert_refused(Cifar10, tmp_path, path, f"{name} ends in the middle of a record")


def jpeg(seed, mode):
    shape = (64, 64, 3) if mode == "RGB" else (64, 64)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=20)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def tiny_files():
    """200 classes, listed out of order; the third of each five images is gray."""
    root = "tiny-imagenet-200/"
    wnids = [f"n{i:08d}" for i in range(1000, 1200)]
    words = {wnid: f"word {wnid}, second word" for wnid in wnids}
    words[wnids[0]] = "goldfish, Carassius auratus"
    words[wnids[7]], words[wnids[9]] = "crane", "crane, lifting device"
    words["n99999999"] = "goldfish"  # of no class
    files, lines = {}, []
    for i, wnid in enumerate(wnids):
        image = jpeg(i, "L" if i % 5 == 2 else "RGB")
        files[f"{root}train/{wnid}/images/{wnid}_{i}.JPEG"] = image
        files[f"{root}train/{wnid}/{wnid}_boxes.txt"] = b""
        files[f"{root}val/images/val_{i}.JPEG"] = jpeg(1000 + i, "RGB")
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    files[f"{root}test/images/test_0.JPEG"] = jpeg(0, "RGB")
    files[f"{root}val/val_annotations.txt"] = "".join(lines[::-1]).encode()
    files[f"{root}wnids.txt"] = "\n".join(wnids[::-1]).encode()
    texts = (f"{wnid}\t{word}\n" for wnid, word in words.items())
    files[f"{root}words.txt"] = "".join(texts).encode()
    return files


def zipped(files, links=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            kind = stat.S_IFLNK if name in links else stat.S_IFREG
            member.external_attr = (kind | 0o644) << 16
            file.writestr(member, content)
    return buffer.getvalue()


def test_tiny_imagenet(put, tmp_path, tiny_files):
    put(TinyImagenet, zipped(tiny_files))
    builder = prepare(TinyImagenet, tmp_path)
    for split, name in {
        "train": "train/n{0:08d}/images/n{0:08d}_{1}.JPEG",
        "test": "val/images/val_{1}.JPEG",
    }.items():
        records = read(builder, split, encoded=True)
        expected = [
            (tiny_files["tiny-imagenet-200/" + name.format(1000 + i, i)], i)
            for i in range(200)
        ]
        assert sorted((r["image"], int(r["label"])) for r in records) == sorted(
            expected
        )


def test_tiny_imagenet_names_outlive_the_builder_that_prepared(
    put, tmp_path, tiny_files
):
    assert TinyImagenet(data_dir=tmp_path).info.features["label"].num_classes == 200
    put(TinyImagenet, zipped(tiny_files))
    prepared = prepare(TinyImagenet, tmp_path)
    for builder in (prepared, tfds.builder_from_directory(prepared.data_path)):
        names = builder.info.features["label"].names
        assert len(set(names)) == 200
        assert names[:2] == ["goldfish", "word n00001001"]
        assert (names[7], names[9]) == ("crane n00001007", "crane n00001009")


def test_damaged_tiny_imagenet_is_refused(put, tmp_path, tiny_files):
    root = "tiny-imagenet-200/"
    image, listed = root + "val/images/val_7.JPEG", root + "wnids.txt"
    train = root + "train/n00001007/images/n00001007_7.JPEG"

    def without(name):
        return {
            other: content for other, content in tiny_files.items() if other != name
        }

    def refused(content, reason):
        assert_refused(TinyImagenet, tmp_path, put(TinyImagenet, content), reason)

    whole = zipped(tiny_files)
    refused(zipped(without(image)), f"it lacks {image}")
    for outside in ("../x", "/etc/x", root + "../../x", "c:\\x", "..\\x"):
        refused(zipped({**tiny_files, outside: b""}), "lies outside of its folder")
    for name, target in ((image, b"val_1.JPEG"), (train, b"/dev/zero")):
        refused(zipped({**tiny_files, name: target}, {name}), f"{name!r} is a link")
    refused(zipped(without(train)), "the classes of its train images")
    refused(zipped(without(listed)), f"it lacks {listed}")
    refused(
        zipped({**tiny_files, listed: b"n00001000"}), "has 1 classes instead of 200"
    )
    refused(
        zipped({**tiny_files, root + "words.txt": b""}), "words.txt lacks n00001000"
    )
    refused(whole[: len(whole) // 2], "cannot be read")
    start = whole.index(image.encode()) + len(image)
    refused(whole[:start] + bytes(200) + whole[start + 200 :], "cannot be read")


COUNT = 120  # galaxies: 12 of each class


def galaxy_columns():
    """The first 20 galaxies share their coordinates with the last 20."""
    rng = np.random.default_rng(0)
    images = np.empty((COUNT, 256, 256, 3), np.uint8)
    images[:] = rng.integers(0, 256, (COUNT, 1, 1, 3))
    images[:, :8, :8] = rng.integers(0, 256, (COUNT, 8, 8, 3))
    columns = {
        "images": images,
        "ans": (np.arange(COUNT) * 7 % 10).astype(np.uint8),
        "ra": rng.uniform(0, 360, COUNT),
        "dec": rng.uniform(-20, 30, COUNT),
        "redshift": rng.uniform(0, 0.3, COUNT),
        "pxscale": np.full(COUNT, 0.262),
    }
    for name in ("ra", "dec"):
        columns[name][-20:] = columns[name][:20]
    columns["redshift"][::9] = np.nan
    return columns


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory):
    """The columns, and a file of them whose chunks hold parts of 50 images."""
    columns = galaxy_columns()
    path = tmp_path_factory.mktemp("galaxies") / "galaxies.h5"
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            chunks = (50, 64, 64, 3) if name == "images" else None
            file.create_dataset(name, data=column, chunks=chunks)
    return columns, path


def test_galaxy10(put, tmp_path, galaxies):
    columns, path = galaxies
    put(Galaxy10, path.read_bytes())
    builder = prepare(Galaxy10, tmp_path)
    assert builder.info.features["label"].names == galaxy10.CLASSES
    places = {}
    for i, image in enumerate(columns["images"]):
        places[image.tobytes()] = i
    found = {}
    for split in ("train", "test"):
        records = read(builder, split)
        found[split] = [places[record["image"].tobytes()] for record in records]
        for i, record in zip(found[split], records, strict=True):
            assert record["label"] == columns["ans"][i]
            for name in ("ra", "dec", "redshift"):  # to the last bit, NaN included
                assert record[name].dtype == np.float64
                np.testing.assert_array_equal(record[name], columns[name][i])
    assert sorted(found["train"] + found["test"]) == list(range(COUNT))
    train, test = galaxy10.split_indices(columns["ans"], columns["ra"], columns["dec"])
    assert sorted(found["train"]) == sorted(train)
    assert sorted(found["test"]) == sorted(test)


def test_galaxies_of_one_place_are_on_one_side():
    columns = galaxy_columns()
    labels, ra, dec = (columns[name] for name in ("ans", "ra", "dec"))
    train, test = galaxy10.split_indices(labels, ra, dec)
    on_test = np.isin(np.arange(COUNT), test)
    np.testing.assert_array_equal(on_test[:20], on_test[-20:])
    # Galaxies that share one coordinate alone are of different places.
    pair = galaxy10.split_indices(labels, np.full(COUNT, 1.0), np.arange(COUNT) * 1.0)
    assert 0.08 <= len(pair[1]) / COUNT <= 0.12
    assert 0.08 <= len(test) / COUNT <= 0.12
    assert set(labels[test]) == set(range(10))
    again = galaxy10.split_indices(labels, ra, dec)
    np.testing.assert_array_equal(again[0], train)


@pytest.mark.parametrize("chunked", [True, False])
def test_galaxies_are_read_a_part_at_a_time(chunked, galaxies, tmp_path, monkeypatch):
    columns, path = galaxies
    if not chunked:
        path = tmp_path / "contiguous.h5"
        with h5py.File(path, "w") as file:
            file["images"] = columns["images"]
    monkeypatch.setattr(galaxy10, "MAX_ROWS", 8)
    wanted = [119, 3, 7, 8, 9, 100]
    tracemalloc.start()
    try:
        for i, image in galaxy10.read_images(path, np.array(wanted)):
            np.testing.assert_array_equal(image, columns["images"][i])
            wanted.remove(i)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert wanted == []
    assert peak < columns["images"].nbytes / 4


def test_damaged_galaxies_are_refused(put, tmp_path, galaxies):
    columns, whole = galaxies
    content = whole.read_bytes()
    for cut in (content[: len(content) // 2], b"no HDF5"):
        path = put(Galaxy10, cut)
        assert_refused(Galaxy10, tmp_path, path, "cannot be read")

    def refused(reason, change):
        small = tmp_path / "small.h5"
        with h5py.File(small, "w") as file:
            for name, column in columns.items():
                file[name] = column[:20]
            change(file)
        path = put(Galaxy10, small.read_bytes())
        assert_refused(Galaxy10, tmp_path, path, reason)

    def link(file, to):
        del file["images"]
        file["images"] = to

    def shorten(file):
        del file["ra"]
        file["ra"] = columns["ra"][:19]

    refused("it lacks redshift", lambda file: file.pop("redshift"))
    refused("it lacks images", lambda f: link(f, h5py.ExternalLink(whole, "images")))
    refused("it lacks images", lambda f: link(f, h5py.SoftLink("/ans")))
    refused("its columns differ in length or type", shorten)
    refused("it lacks ans", lambda f: (f.pop("ans"), f.create_group("ans")))


def test_archives_are_named_as_they_are_published():
    for cls, module in zip(
        BUILDERS, (cifar, cifar, tiny_imagenet, galaxy10), strict=True
    ):
        ((url, info),) = cls.url_infos.items()
        assert url.startswith(module.URL)
        assert info.filename == cls.ARCHIVE
        assert url.endswith("/" + info.filename)


def test_a_damaged_archive_of_fashion_mnist_is_named(tmp_path):
    path = tmp_path / "images.gz"
    garbled = bytearray(gzip.compress(bytes(1000)))
    garbled[12:20] = b"\xff" * 8
    path.write_bytes(garbled)
    with pytest.raises(UserError, match=r"images\.gz cannot be read \("):
        fashion_mnist.read_idx(path)
