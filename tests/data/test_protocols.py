"""Published subsets are the images that the papers took, and no others."""

import dataclasses
import itertools

import numpy as np
import pytest

import hybrid_jax.data as data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.errors import UserError

CLASSES = 3


def arrays(per_class: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return splits whose pixels are the rank of an image in its class."""
    ranks = np.repeat(np.arange(per_class), CLASSES)  # classes take turns
    images = np.broadcast_to(ranks[:, None, None, None], (len(ranks), 8, 8, 1))
    labels = np.tile(np.arange(CLASSES), per_class)
    return {
        "train": (images.astype(np.uint8), labels),
        "test": (images[:9].astype(np.uint8), labels[:9]),
    }


def ranks_of(split) -> dict[int, list[int]]:
    return {
        label: sorted(split.images[split.labels == label][:, 0, 0, 0].tolist())
        for label in range(CLASSES)
    }


def load(**fields):
    config = dataclasses.replace(DataConfig(protocol="deic"), **fields)
    return data.from_arrays(arrays(160), config)


@pytest.mark.parametrize("split", [0, 1, 2])
def test_deic_trains_on_30_and_validates_on_the_next_20_images_of_each_class(split):
    splits, start = load(split_seed=split), 50 * split
    for label in range(CLASSES):
        train, validation = ranks_of(splits.train), ranks_of(splits.validation)
        assert train[label] == [*range(start, start + 30)]
        assert validation[label] == [*range(start + 30, start + 50)]
    notes = " ".join(splits.notes)
    assert "90 to train and 60 to validate on" in notes
    assert f"split {split}; config.data.validation=0.1 stands for its 0.4)" in notes
    assert len(splits.test) == 9


def test_deic_without_validation_trains_on_all_50():
    splits = load(validation=0, split_seed=1)
    assert splits.validation is None
    assert ranks_of(splits.train)[2] == [*range(50, 100)]


def test_smaller_subsets_lie_inside_of_larger_ones():
    counts = [10, 25, 50, 100, 160]
    selected = [{*ranks_of(load(validation=0, per_class=n).train)[0]} for n in counts]
    assert [len(s) for s in selected] == counts
    assert all(a < b for a, b in itertools.pairwise(selected))


def test_splits_share_no_image_however_few_they_take():
    few = [
        ranks_of(load(validation=0, per_class=10, split_seed=n).train) for n in (1, 2)
    ]
    assert [ranks[1] for ranks in few] == [[*range(50, 60)], [*range(100, 110)]]
    more = load(validation=0, per_class=60, split_seed=1)
    assert ranks_of(more.train)[1] == [*range(60, 120)]


def test_folds_cover_the_50_images_once():
    held_out = [ranks_of(load(validation=f"{k}/4").validation)[1] for k in range(1, 5)]
    assert sorted(itertools.chain(*held_out)) == [*range(50)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"split_seed": 3}, ["images 151 to 200", "'0'", "160 training images"]),
        ({"per_class": 161, "validation": 0}, ["1 to 161", "config.data.per_class"]),
        ({"per_class": 161}, ["set config.data.per_class to 160 or fewer"]),
        (
            {"split_seed": 3},
            ["per_class to 10 or fewer or lower config.data.split_seed"],
        ),
        ({"split_seed": 2, "per_class": 60}, ["config.data.per_class to 53 or fewer"]),
        ({"split_seed": 4}, ["160 training images: lower config.data.split_seed"]),
        ({"per_class": 1}, ["config.data.validation", "trains on 1"]),
        ({"validation": "1/60"}, ["config.data.validation=1/60", "validates on 0"]),
    ],
)
def test_too_few_images_are_one_line_that_names_the_class_or_field(fields, words):
    with pytest.raises(UserError) as error:
        load(**fields)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_the_way_out_of_too_few_images_works():
    for fields in ({"per_class": 160}, {"split_seed": 3, "per_class": 10},
                   {"split_seed": 2, "per_class": 53}):  # fmt: skip
        assert len(load(**fields).train) > 0
    few = {"train": arrays(1)["train"]}
    with pytest.raises(UserError, match="has 1 training image: add images"):
        data.from_arrays(few, DataConfig(protocol="deic"))


def test_a_validation_split_beside_the_protocol_is_refused():
    splits = arrays(60) | {"validation": arrays(2)["train"]}
    with pytest.raises(UserError, match=r"data\.protocol=deic .* 6 images"):
        data.from_arrays(splits, DataConfig(protocol="deic"))
    both_left_out = data.from_arrays(splits, DataConfig(protocol="deic", validation=0))
    assert len(both_left_out.train) == 50 * CLASSES


def test_groups_beside_the_protocol_are_refused():
    splits = arrays(60)
    groups = np.arange(len(splits["train"][1])) // 2
    splits["train"] = (*splits["train"], groups)
    splits.pop("test")
    with pytest.raises(UserError, match="would separate those of one group"):
        data.from_arrays(splits, DataConfig(protocol="deic"))


@pytest.mark.parametrize("protocol", ["none", "deic"])
def test_a_test_split_left_out_is_counted_and_changes_no_other_split(protocol):
    full = load(protocol=protocol)
    without = load(protocol=protocol, test=False)
    assert without.test is None
    assert "9 images of the test split left out (config.data.test=False)" in (
        " ".join(without.notes)
    )
    assert "the data have none" not in " ".join(without.notes)
    for part in ("train", "validation"):
        np.testing.assert_array_equal(
            getattr(full, part).images, getattr(without, part).images
        )
