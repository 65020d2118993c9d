"""Groups stay on one side of every split that is made here."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import subsets
from hybrid_jax.data.builders.galaxy10 import split_indices
from hybrid_jax.data.sources.file_list import list_images
from hybrid_jax.data.splitting import make_splits
from hybrid_jax.errors import UserError
from tests.data.files import folder_config, scans, write

SEEDS = st.integers(0, 2**31 - 1)
IMAGES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=2, max_size=120
).map(np.array)


def sides(held, of):
    """The sides on which each group lies."""
    return [len({*held[of == group].tolist()}) for group in np.unique(of)]


@settings(max_examples=60, deadline=None)
@given(SEEDS, IMAGES, st.floats(0.02, 0.98), st.randoms())
def test_a_group_is_on_one_side_whatever_the_order(seed, images, share, random):
    labels, of = images.T
    held = subsets.group_holdout(labels, of, share, seed)
    assert {*sides(held, of)} == {1}
    # Groups of several classes may have no place left; alone, two groups have two.
    own = of + 100 * labels
    held = subsets.group_holdout(labels, own, share, seed)
    for label in np.unique(labels):
        if len(np.unique(own[labels == label])) > 1:
            assert 0 < held[labels == label].sum() < (labels == label).sum()
    order = np.array(random.sample(range(len(labels)), len(labels)))
    permuted = subsets.group_holdout(labels[order], own[order], share, seed)
    np.testing.assert_array_equal(permuted, held[order])


@pytest.mark.parametrize("share", [0.1, 0.3, 0.75])
def test_shares_of_classes_are_kept_as_far_as_groups_allow(share):
    rng = np.random.default_rng(0)
    of = rng.integers(0, 200, 2000)
    labels = rng.choice(3, 2000, p=[0.6, 0.3, 0.1])
    held = subsets.group_holdout(labels, of, share, 0)
    for label in range(3):
        assert abs(held[labels == label].mean() - share) < 0.03
    assert (held != subsets.group_holdout(labels, of, share, 1)).any()


def test_galaxies_of_one_place_are_split_as_ever():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 500)
    places = rng.integers(0, 300, 500)
    ra, dec = places / 7, -places / 3
    folds = StratifiedGroupKFold(10, shuffle=True, random_state=0)
    _, numbers = np.unique(np.stack([ra, dec], 1), axis=0, return_inverse=True)
    expected = next(folds.split(labels, labels, numbers.reshape(-1)))
    for rows, wanted in zip(split_indices(labels, ra, dec), expected, strict=True):
        np.testing.assert_array_equal(rows, wanted)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0.2, 1.0), st.sampled_from([0.1, 0.3, "1/3", "3/3"]))
def test_parts_of_the_training_images_leak_no_group(seed, fraction, validation):
    rng = np.random.default_rng(seed)
    labels, of = rng.integers(0, 2, 120), rng.integers(0, 40, 120).astype(str)
    options = DataConfig(
        "made", validation=validation, fraction=fraction, split_seed=seed
    )
    parts, notes = make_splits({"train": labels}, ("a", "b"), options, groups=of)
    train, held = (parts[name].rows for name in ("train", "validation"))
    assert not {*of[train]} & {*of[held]}
    assert min(len({*labels[rows]}) for rows in (train, held)) == 2
    whole = len({*of[np.concatenate([train, held])]})
    assert notes[-1].endswith(f"{len({*of[held]})} of {whole} groups")


def test_whole_groups_of_five_thousand_images_are_enough_to_validate_on():
    labels, of = np.arange(8000) % 2, np.arange(8000) // 40
    config = DataConfig("made", validation=0.75)
    parts, notes = make_splits({"train": labels}, ("a", "b"), config, groups=of)
    assert len(parts["validation"].rows) == pytest.approx(5000, rel=0.1)
    assert "validation=0.75, at most 5,000)" in notes[-1]


def test_images_that_are_left_out_change_no_group_of_the_others(tmp_path):
    labels, of = np.arange(80) % 2, np.arange(80) // 4
    left_out = range(0, 80, 9)
    listed = tmp_path / "listed.txt"
    listed.write_text("\n".join(f"train/{row}" for row in left_out))
    config = DataConfig("made", validation=0.25, exclude=str(listed))
    parts, _ = make_splits({"train": labels}, ("a", "b"), config, groups=of)
    train, held = (parts[name].rows for name in ("train", "validation"))
    assert sorted([*train, *held, *left_out]) == [*range(80)]
    assert not {*of[train]} & {*of[held]}


def patients(place, each=3, classes=2, people=6):
    """A table of images of people, several of each, and the folder of them."""
    rows = []
    for label in range(classes):
        found = np.flatnonzero(scans().target == label)
        for number, row in enumerate(found[: each * people]):
            name = f"{label}/p{number // each}_{number}.png"
            write(place / name, row)
            rows.append((name, str(label), f"p{number // each}"))
    return rows


def write_table(path, rows, *columns):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", *columns), *rows])
    return str(path)


@pytest.mark.parametrize("column", ["group", "Patient", "subject_id", "slide"])
def test_a_column_keeps_people_together(column, tmp_path):
    rows = patients(tmp_path / "cells")
    table = write_table(tmp_path / "cells" / "t.csv", rows, column)
    found = list_images(folder_config(table))
    people = [{*found.splits[name].groups} for name in ("train", "test")]
    assert not people[0] & people[1]
    assert people[0] | people[1] == {f"p{n}" for n in range(6)}
    assert found.notes[0] == (
        f"6 groups (column {column}): images of one group are in one split"
    )
    assert found.notes[1] == "6 of 36 images, 1 of 6 groups, are held out for testing"
    splits = data.load(DataConfig("folder", str(tmp_path / "kept"), path=table))
    assert sum(map(len, splits.values())) == 36
    assert "of 5 groups" in splits.notes[-1]


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["P1", "p1", "p 1"], ["'P1' and 'p 1'", "'P1' and 'p1'"]),
        (["1", "1.0", "01", "10"], ["'01' and '1'", "'01' and '1.0'"]),
        (["12345678901234567", "12345678901234568", "a", "A"], []),
    ],
)
def test_groups_that_may_be_the_same_are_named(names, pairs, tmp_path):
    rows = patients(tmp_path / "cells", people=len(names))
    rows = [(*row[:2], names[int(row[2][1:])]) for row in rows]
    table = write_table(tmp_path / "cells" / "t.csv", rows, "patient")
    note = "groups that may be the same, and may be in two splits: "
    found = [n for n in list_images(folder_config(table)).notes if "may be the" in n]
    assert found == [note + ", ".join(pairs)][: len(pairs)]


def test_an_expression_finds_groups_in_paths(tmp_path):
    place = tmp_path / "cells"
    table = write_table(tmp_path / "cells" / "t.csv", patients(place), "patient")
    by_column = list_images(folder_config(table, 0.2, 3))
    (place / "t.csv").unlink()
    for expression in (r"p\d+", r"/(p\d+)_", "[^/_]+(?=_)"):
        found = list_images(folder_config(place, 0.2, 3, group=expression))
        tested = ({p.name for p in of.test.paths} for of in (found, by_column))
        assert len({*map(frozenset, tested)}) == 1
    with pytest.raises(UserError, match=r"finds no group in 32 of 36 paths: 0/p0_0"):
        list_images(folder_config(place, 0.2, 3, group=r"(p4)_1[^4]"))


def test_a_column_and_an_expression_together_are_refused(tmp_path):
    table = write_table(tmp_path / "t.csv", patients(tmp_path), "Slide")
    with pytest.raises(UserError, match=r"column Slide of .* both give") as error:
        list_images(folder_config(table, group=r"(p\d+)"))
    assert "leave config.data.group empty, or remove the column" in str(error.value)
    assert "\n" not in str(error.value)
    assert list_images(folder_config(table)).train.groups is not None


@pytest.mark.parametrize("lost", ["train", "validation", "test"])
def test_groups_in_two_splits_of_the_user_are_refused(lost, tmp_path):
    of_person = dict(zip("012", ("train", "validation", "test"), strict=True))
    rows = patients(tmp_path, each=2, people=3)
    rows = [(*row, of_person[row[2][1]]) for row in rows]
    table = write_table(tmp_path / "t.csv", rows, "patient", "split")
    assert [*list_images(folder_config(table)).splits] == [*of_person.values()]
    # One image of the last person of another split goes astray.
    other = next(n for n, row in enumerate(rows) if row[3] != lost)
    rows[other] = (*rows[other][:3], lost)
    table = write_table(tmp_path / "t.csv", rows, "patient", "split")
    with pytest.raises(UserError, match="1 group lies in two splits") as error:
        list_images(folder_config(table))
    assert f"'{rows[other][2]}' in" in str(error.value)
    assert lost in str(error.value)


def test_a_group_that_covers_a_class_is_refused(tmp_path):
    rows = patients(tmp_path, people=4)
    covered = [(*r[:2], "p0") if r[1] == "1" else r for r in rows]
    table = write_table(tmp_path / "t.csv", covered, "patient")
    with pytest.raises(UserError, match=r"class '1' lies in 1 group \('p0'\)"):
        list_images(folder_config(table))
    two = [(*r[:2], f"q{int(r[2][1:]) % 2}") if r[1] == "1" else r for r in rows]
    table = write_table(tmp_path / "t.csv", two, "patient")
    fields = {"dir": str(tmp_path / "kept"), "path": table}
    with pytest.raises(UserError, match=r"class '1' lies in 1 group \('q.'\).*=0"):
        data.load(DataConfig("folder", **fields))
    with pytest.raises(UserError, match=r"class '1' has 1 group for 3 folds"):
        data.load(DataConfig("folder", **fields, validation="1/3"))
    assert [*data.load(DataConfig("folder", **fields, validation=0))] == [
        "train",
        "test",
    ]


def test_a_part_of_the_images_with_one_group_names_what_may_be_used():
    labels = {"train": np.repeat([0, 1], 40).astype(np.int32)}
    groups = np.arange(80).astype(str)
    groups[:40] = ["large"] * 38 + ["a", "b"]  # of which the part has the first alone
    fields = {"per_class": 4, "validation": 0.25}
    with pytest.raises(UserError) as error:
        make_splits(labels, ("x", "y"), DataConfig("digits", **fields), groups)
    assert str(error.value).endswith(
        "; add images of other groups, use a larger part of the images, or set "
        "--config.data.validation=0 to train on all"
    )


def test_a_row_without_its_group_is_named(tmp_path):
    rows = [(*row[:2], row[2] * (n != 3)) for n, row in enumerate(patients(tmp_path))]
    table = write_table(tmp_path / "t.csv", rows, "patient")
    with pytest.raises(UserError, match="line 5: it has no patient"):
        list_images(folder_config(table))


def test_a_group_has_one_name_in_both_forms_of_unicode(tmp_path):
    """A folder's names and a table's may come from systems that write é apart."""
    composed, apart = "é1", "e\u03011"
    rows = ["path,label,split,patient"]
    for row in range(8):
        split, group = ("test", apart) if row < 2 else ("train", composed)
        name = f"{group}/{row}.png"
        write(tmp_path / name, row)
        rows.append(f"{name},{row % 2},{split},{group if row in (1, 7) else row}")
    table = tmp_path / "t.csv"
    for head in (rows[0], rows[0].replace("patient", "other")):
        table.write_text("\n".join([head, *rows[1:]]), encoding="utf-8")
        group = "" if "patient" in head else "^([^/]+)"
        with pytest.raises(UserError, match="1 group lies in two splits: 'é1' in"):
            list_images(folder_config(table, group=group))
