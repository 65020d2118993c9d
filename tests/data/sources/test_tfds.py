import os
import shutil
import threading
import time

import pytest

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import decode_cache
from hybrid_jax.data.sources import tfds, tfds_builder, tfds_records
from hybrid_jax.errors import UserError


def test_processes_that_prepare_one_set_at_once_do_it_once(tmp_path, capsys):
    opened = []

    def prepare():
        opened.append(tfds_builder.open_builder("digits", str(tmp_path)))

    threads = [threading.Thread(target=prepare) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [{*builder.info.splits} for builder in opened] == [{"train", "test"}] * 3
    assert not list(tmp_path.glob("digits/incomplete*"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    tfds_builder.open_builder("digits", str(folder))
    return folder


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace(old, new):
    def change(path):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("pattern", "damage", "said"),
    [
        ("*train.array_record*", cut, "is damaged"),
        ("*train.array_record*", lambda path: path.write_bytes(b""), "is damaged"),
        ("*train.array_record*", lambda path: path.unlink(), "is damaged"),
        ("dataset_info.json", cut, "is damaged"),
        ("dataset_info.json", lambda path: path.unlink(), "is incomplete: delete it"),
        (
            "dataset_info.json",
            replace('"1437"', '"1000"'),
            r"tells of 1,000 images in digits-train\.\S+, which holds 1,437\): delete",
        ),
        (
            "dataset_info.json",
            replace('"360"', '"361"'),
            r"361 images in digits-test\.\S+, .* 360",
        ),
        (
            "dataset_info.json",
            replace("array_record", "tfrecord"),
            "holds tfrecord files; prepare it again with file_format=array_record",
        ),
    ],
)
def test_damaged_records_are_named(pattern, damage, said, prepared, tmp_path):
    copied = shutil.copytree(prepared, tmp_path / "copied")
    for labels in copied.rglob("label-*"):
        labels.unlink()
    (path,) = copied.rglob(pattern)
    damage(path)
    with pytest.raises(UserError, match=f"digits.* {said}"):
        data.load(DataConfig(name="digits", dir=str(copied)))


def test_what_a_killed_preparation_left_is_removed_by_the_next(tmp_path):
    left, other = (
        tmp_path / "digits" / f"incomplete.AB12_{version}"
        for version in ("1.0.0", "2.0.0")
    )
    for folder in (left, other):
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"records")
    tfds_builder.open_builder("digits", str(tmp_path))
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize(
    ("closed", "said"),
    [
        ("dataset_info.json", r"dataset_info.json cannot be read \(permission"),
        ("1.0.0", r"1.0.0 cannot be read \(permission"),
        ("digits", r"digits cannot be read \(permission"),
        ("copied", r"copied cannot be read \(permission"),
        (".decoding-xy", "is damaged"),  # where another user decodes now
    ],
)
def test_a_set_that_may_not_be_read_is_not_called_damaged(
    closed, said, prepared, tmp_path, monkeypatch
):
    copied = shutil.copytree(prepared, tmp_path / "copied")
    ours = os.access
    monkeypatch.setattr(
        tfds_records.os,
        "access",
        lambda path, mode: path.name != closed and ours(path, mode),
    )
    place = copied / "digits" / "1.0.0"
    (place / ".decoding-xy").mkdir()
    (place / "dataset_info.json").write_text("")
    with pytest.raises(UserError, match=said):
        data.load(DataConfig(name="digits", dir=str(copied)))


def test_decoded_copies_that_killed_processes_left_are_removed(prepared):
    folder = next(prepared.rglob("dataset_info.json")).parent
    left, other = folder / ".decoding-old", folder / ".decoding-new"
    for place in (left, other):
        place.mkdir()
        (place / "images.npy").write_bytes(b"part")
    long_ago = time.time() - 2 * decode_cache.ABANDONED_SECONDS
    for path in (left / "images.npy", left):
        os.utime(path, (long_ago, long_ago))
    source = tfds.TfdsSource(DataConfig(name="digits", dir=str(prepared)))
    assert len(source.decoded("train")) == 1437
    assert not left.exists()
    assert other.exists()
