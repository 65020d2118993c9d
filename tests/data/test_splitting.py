"""Train, validation and test: which images each has, and what is refused."""

import hashlib
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_jax import data
from hybrid_jax.config import resolve as configs
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.splitting import make_splits
from hybrid_jax.data.subsets import MAX_VALIDATION, apportion
from hybrid_jax.errors import UserError
from tests.data.files import write_folder

SEEDS = st.integers(0, 2**31 - 1)
COUNTS = st.lists(st.integers(0, 400), min_size=1, max_size=30).map(np.array)
SHARES = st.floats(0.001, 0.99)
CLASSES = tuple("abcdefghij")


def options(**fields):
    return DataConfig("made", **fields)


def rows_of(labels, **fields):
    parts, _ = make_splits({"train": labels}, CLASSES, options(**fields))
    return {name: part.rows for name, part in parts.items()}


@given(COUNTS, SHARES, st.integers(1, 300))
def test_a_share_has_the_right_total_and_one_image_of_each_class(counts, share, most):
    apportioned = apportion(counts, share, most)
    classes = (counts > 0).sum()
    assert apportioned.sum() == max(min(round(share * counts.sum()), most), classes)
    assert (apportioned[counts > 0] >= 1).all()
    assert not apportioned[counts == 0].any()
    # Larger classes get no less.
    order = np.argsort(counts, kind="stable")
    assert (np.diff(apportioned[order]) >= -1).all()


def test_a_share_follows_its_quotas_and_ends_at_five_thousand():
    np.testing.assert_array_equal(apportion([70, 20, 10], 0.1), [7, 2, 1])
    np.testing.assert_array_equal(apportion([25, 25, 25, 25], 0.1), [3, 3, 2, 2])
    assert apportion([60_000, 40_000], 0.25).tolist() == [3000, 2000]
    assert MAX_VALIDATION == 5000


@given(SEEDS, st.lists(st.integers(0, 3), min_size=40, max_size=200).map(np.array))
def test_a_share_is_parted_from_the_images_that_are_used(seed, labels):
    labels = np.concatenate([labels, np.repeat(np.arange(4), 10)])
    fields = {"split_seed": seed, "validation": 0.2}
    used = {part: rows_of(labels, fraction=part, **fields) for part in (0.5, 0.8, 1.0)}
    for parts in used.values():
        assert not {*parts["train"]} & {*parts["validation"]}
        everything = np.concatenate([*parts.values()])
        for label in range(4):
            held = (labels[parts["validation"]] == label).sum()
            assert abs(held - 0.2 * (labels[everything] == label).sum()) < 1
    sets = [{*np.concatenate([*parts.values()])} for parts in used.values()]
    assert sets[0] <= sets[1] <= sets[2] == {*range(len(labels))}


@given(SEEDS, st.permutations(range(60)))
def test_the_order_of_classes_and_images_chooses_no_sizes(seed, order):
    labels = np.arange(60) % 3
    for validation in (0.1, "1/4"):
        fields = {"split_seed": seed, "validation": validation}
        first, second = rows_of(labels, **fields), rows_of(labels[order], **fields)
        assert [*map(len, first.values())] == [*map(len, second.values())]


def test_folds_are_parts_of_what_is_used(digits):
    labels = digits.train.labels
    held = []
    for number in range(1, 4):
        parts = rows_of(labels, validation=f"{number}/3", per_class=30)
        assert len(parts["train"]) == 200
        held += parts["validation"].tolist()
    used = rows_of(labels, validation=0, per_class=30)["train"]
    assert sorted(held) == sorted(used)


def test_an_older_run_finds_its_data_again(digits):
    """The keys and the hash are those that runs without a validation split stored."""
    both = digits.train.labels.tobytes() + digits.test.labels.tobytes()
    assert digits.identity == {
        "training images": 1437,
        "test images": 360,
        "height, width and channels": [8, 8, 1],
        "classes": list("0123456789"),
        "labels": hashlib.sha256(both).hexdigest(),
        "files": "",
    }
    other = data.load(DataConfig("digits")).identity
    assert (other["training images"], other["validation images"]) == (1293, 144)
    assert other["labels"] != digits.identity["labels"]


def test_splits_are_a_mapping(digits):
    splits = data.load(DataConfig("digits"))
    assert [*splits] == ["train", "validation", "test"]
    assert splits["validation"] is splits.validation
    assert digits.validation is None
    assert "validation" not in digits
    np.testing.assert_array_equal(splits.test.images, digits.test.images)
    seen = [image.tobytes() for name in ("train", "validation") for image in
            splits[name].images]  # fmt: skip
    assert sorted(seen) == sorted(image.tobytes() for image in digits.train.images)


@pytest.mark.parametrize(
    ("counts", "fields", "said"),
    [
        ([9, 1], {}, "class 'b' has 1 training image: two are needed"),
        ([9, 1], {"validation": "1/2"}, "class 'b' has 1 training image: two are"),
        ([9, 9], {"per_class": 1}, "'a' uses 1 of its 9 training images: two are"),
        ([9, 9], {"per_class": 1}, "raise config.data.per_class=1, or set --config"),
        (
            [9, 9],
            {"fraction": 0.01},
            "raise config.data.fraction=0.01, or set --config",
        ),
        ([9, 3], {"validation": 0.9}, "leaves class 'b' none of its 3 training images"),
        ([9, 4], {"validation": "1/5"}, "class 'b' has 4 training images for 5 folds"),
    ],
    ids=["one", "one in folds", "per class", "its way", "fraction", "share", "folds"],
)
def test_what_leaves_a_class_without_images_is_refused(counts, fields, said):
    labels = np.repeat(np.arange(len(counts)), counts)
    with pytest.raises(UserError) as error:
        rows_of(labels, **fields)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    rows_of(labels, **fields | {"validation": 0})


def test_the_field_that_took_the_images_of_a_class_is_named(tmp_path):
    place = write_folder(tmp_path / "cells", each=12, classes=2)
    fields = {"path": str(place), "dir": str(tmp_path / "kept")}
    with pytest.raises(UserError) as error:
        data.load(DataConfig("folder", **fields, test_fraction=0.95))
    assert "add images or lower config.data.test_fraction=0.95, or" in str(error.value)
    names = sorted(path.relative_to(place) for path in place.glob("digit 0/*"))
    fields["exclude"] = str(tmp_path / "listed.txt")
    for left, said in (
        (2, "add images or shorten the list in config.data.exclude, or"),
        (1, "has 1 image(s) beside those that config.data.exclude lists: two are"),
    ):
        (tmp_path / "listed.txt").write_text("\n".join(map(str, names[left:])))
        with pytest.raises(UserError) as error:
            data.load(DataConfig("folder", **fields))
        assert said in str(error.value)


def test_classes_with_fewer_images_than_are_asked_for_are_named():
    labels = np.repeat(np.arange(3), [9, 4, 12])
    (*_, few), taken = (
        make_splits({"train": labels}, CLASSES, options(validation=0, per_class=count))[
            1
        ]
        for count in (10, 4)
    )
    assert few == (
        "2 of 3 classes have fewer than 10 training images (config.data.per_class): "
        "'a' (9), 'b' (4)"
    )
    assert taken == ("12 of 25 training images are used",)


def three_splits(place):
    write_folder(place / "train", each=6)
    write_folder(place / "val", each=2)
    write_folder(place / "test", each=1, classes=2)
    return {"path": str(place), "dir": str(place.parent / "kept")}


def test_the_users_validation_split_is_used_or_left_out(tmp_path):
    fields = three_splits(tmp_path / "cells")
    splits = data.load(DataConfig("folder", **fields))
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 18,
        "validation": 6,
        "test": 2,
    }
    assert splits.notes == ("the test split lacks 1 of 3 classes: 'digit 2'",)
    alone = data.load(DataConfig("folder", **fields, validation=0))
    assert [*alone] == ["train", "test"]
    assert "6 images in val left out: only train and test are used" in alone.notes
    for validation in (0.25, "1/2"):
        with pytest.raises(UserError, match="has a validation split, of 6"):
            data.load(DataConfig("folder", **fields, validation=validation))


def test_a_share_to_test_on_is_refused_beside_splits_of_the_user(tmp_path):
    fields = three_splits(tmp_path / "cells")
    for share in (0, 0.5):
        with pytest.raises(UserError) as error:
            data.load(DataConfig("folder", **fields, test_fraction=share))
        assert str(error.value).startswith(
            f"config.data.test_fraction={share}: the data set has its own splits, "
            "train and validation and test; leave the field out"
        )
        assert "\n" not in str(error.value)
    shutil.rmtree(tmp_path / "cells" / "test")
    assert data.load(DataConfig("folder", **fields, test_fraction=0)).test is None


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_validation_split_of_the_user_is_never_shortened(on_error, tmp_path):
    place = tmp_path / "cells"
    fields = three_splits(place)
    next((place / "val" / "digit 1").iterdir()).write_bytes(b"")
    with pytest.raises(UserError, match="1 of the 6 validation images cannot be read"):
        data.load(DataConfig("folder", **fields, on_error=on_error))
    assert len(data.load(DataConfig("folder", **fields, validation=0))) == 2


def test_without_a_test_split_nothing_is_held_out(tmp_path):
    place = tmp_path / "cells"
    write_folder(place / "train", each=5)
    write_folder(place / "valid", each=2)
    splits = data.load(DataConfig("folder", str(tmp_path / "kept"), path=str(place)))
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 15,
        "validation": 6,
    }
    assert splits.test is None
    assert "no test split" in splits.notes[-1]


@pytest.mark.parametrize("value", [0, 0.25, "2/5", 0.0])
def test_the_field_takes_a_share_or_a_fold(value):
    config = configs.default()
    config.data.validation = value
    configs.resolve(config)
    again = configs.to_config_dict(configs.flatten(config))
    again.data.validation = "1/2"  # whatever it was before
    assert configs.parse_value("data.validation", str(value)) == value
    assert config.data.validation == value
    assert config.data.validation == value
