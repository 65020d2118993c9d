"""Assignment of images to the training, validation and test split.

The splits of a source are used as they are. Training may use a subset of its images
(`fraction`, `per_class`). Where the source has no validation split, a share or a fold
of them becomes one.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import protocols, subsets
from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.data.exclusions import exclude_rows
from hybrid_jax.data.split_notes import Expected
from hybrid_jax.errors import UserError, escape, listed, plural

DEFAULT_VALIDATION = DataConfig.validation
DEFAULT_TEST_FRACTION = DataConfig.test_fraction
TRAIN_ON_ALL = "set --config.data.validation=0 to train on all"


class SplitRows(NamedTuple):
    """The name of a source's split, and rows int64 `[n]` of that split."""

    source: str
    rows: np.ndarray


def used_splits(sizes: Mapping[str, int], config: DataConfig) -> tuple[str, ...]:
    """Return which of a source's splits are used.

    Args:
      sizes: number of images of each split that the source has.
      config: data set configuration.

    Raises:
      UserError: the source has a validation split, and `config` asks for another.
    """
    if "validation" in sizes and config.protocol != "none" and config.validation:
        raise UserError(
            f"config.data.protocol={config.protocol} makes a validation split of "
            "training images, and the data set has one, of "
            f"{plural(sizes['validation'], 'image')}: set config.data.validation to 0 "
            "to leave both out, or config.data.protocol to none"
        )
    if "validation" in sizes and config.validation not in (DEFAULT_VALIDATION, 0):
        raise UserError(
            f"config.data.validation={config.validation}: the data set has a "
            f"validation split, of {plural(sizes['validation'], 'image')}; leave the "
            "field out to use it, or set it to 0 to leave the split out"
        )
    if config.validation == 0:
        return tuple(name for name in sizes if name != "validation")
    return tuple(sizes)


class UnusedTestFraction(UserError):
    """A share to hold out for testing, of a data set that has splits of its own."""


def check_test_fraction(
    splits: Collection[str], held_out: bool, config: DataConfig
) -> None:
    """Refuse a share to test on that has no effect.

    Args:
      splits: names of the splits.
      held_out: whether the test split was held out from the training images.
      config: data set configuration.

    Raises:
      UnusedTestFraction: the user split the images; 0 suits those without a test split.
    """
    fraction = config.test_fraction
    if held_out or fraction == DEFAULT_TEST_FRACTION:
        return
    if fraction or "test" in splits:
        raise UnusedTestFraction(
            f"config.data.test_fraction={fraction}: the data set has its own splits, "
            f"{' and '.join(splits)}; leave the field out to use them, or set "
            "config.data.test to False to test on none"
        )


def make_splits(
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    config: DataConfig,
    groups: np.ndarray | None = None,
    unused: Mapping[str, int] | None = None,
) -> tuple[dict[str, SplitRows], tuple[str, ...]]:
    """Split the images of a source.

    Args:
      labels: int32 `[N]` of each split that is used; one is `train`.
      classes: class names, in the order of the labels.
      config: data set configuration.
      groups: group of each training image, `[N]`; None without groups.
      unused: number of images of each split that is not used.

    Returns:
      Rows of each split of the result, and notes.

    Raises:
      UserError: a class would have too few images to train or validate on, groups do
        not allow the split, or `config.exclude` lists images that do not exist.
    """
    rows, notes = exclude_rows(labels, classes, config, unused or {})
    if not config.test and "test" in rows:
        count = plural(len(rows.pop("test")), "image")
        note = Expected(f"{count} of the test split left out (config.data.test=False)")
        notes += (note,)
    parts = {name: SplitRows(name, split_rows) for name, split_rows in rows.items()}
    used = rows["train"]
    train_labels = labels["train"][used]
    train_groups = None if groups is None else groups[used]
    if config.protocol == "none":
        selected, more = _draw_at_random(
            train_labels, classes, config, train_groups, "validation" not in rows
        )
    else:
        selected, more = _follow_protocol(train_labels, classes, config, train_groups)
    parts |= {
        name: SplitRows("train", used[chosen]) for name, chosen in selected.items()
    }
    return {name: parts[name] for name in SPLITS if name in parts}, notes + more


def _draw_at_random(
    labels: np.ndarray,
    classes: Sequence[str],
    config: DataConfig,
    groups: np.ndarray | None,
    needs_validation: bool,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Draw training and validation images; return indices by split, and notes.

    Args:
      labels: int32 `[N]` of the images that may be trained on.
      classes: class names, in the order of the labels.
      config: data set configuration.
      groups: group of each image, `[N]`, or None.
      needs_validation: whether the source has no validation split.
    """
    chosen = subsets.stratified_subset(
        labels, config.fraction, config.per_class, config.split_seed
    )
    notes: tuple[str, ...] = ()
    if len(chosen) < len(labels):
        used = f"{len(chosen):,} of {len(labels):,} training images are used"
        notes = (Expected(used),)
    notes += _few_note(labels[chosen], classes, config)
    if not (needs_validation and config.validation):
        return {"train": chosen}, notes
    _check_two_of_each(labels, chosen, classes, config)
    ranks = subsets.class_ranks(labels, config.split_seed, subsets.SUBSET)[chosen]
    groups = None if groups is None else groups[chosen]
    is_validation = _validation(labels[chosen], ranks, classes, config, groups)
    notes += (Expected(_validation_note(is_validation, config, groups)),)
    return {
        "train": chosen[~is_validation],
        "validation": chosen[is_validation],
    }, notes


def _few_note(
    labels: np.ndarray, classes: Sequence[str], config: DataConfig
) -> tuple[str, ...]:
    """Return a note on classes of fewer images than `config.per_class`, if any."""
    counts = np.bincount(labels)
    few = np.flatnonzero((counts > 0) & (counts < config.per_class)).tolist()
    if not few:
        return ()
    named = listed([f"{classes[label]!r} ({counts[label]:,})" for label in few])
    return (
        f"{len(few):,} of {np.count_nonzero(counts):,} classes have fewer than "
        f"{config.per_class:,} training images (config.data.per_class): {named}",
    )


def _follow_protocol(
    labels: np.ndarray,
    classes: Sequence[str],
    config: DataConfig,
    groups: np.ndarray | None,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Select images by a published protocol; return indices by split, and notes.

    Raises:
      UserError: images belong to groups, or a class has too few images.
    """
    if groups is not None:
        raise UserError(
            f"config.data.protocol={config.protocol} takes images in their order, and "
            f"would separate those of one group ({len(np.unique(groups)):,} groups): "
            "leave the groups out, or set config.data.protocol to none"
        )
    is_train, is_validation = protocols.select(labels, classes, config)
    counts = int(is_train.sum()), int(is_validation.sum())
    note = (
        f"{sum(counts):,} of {len(labels):,} training images are used, {counts[0]:,} "
        f"to train and {counts[1]:,} to validate on "
        f"(config.data.protocol={config.protocol}, split {config.split_seed}"
    )
    if config.validation == DEFAULT_VALIDATION:
        share = protocols.PROTOCOLS[config.protocol].validation
        note += f"; config.data.validation={config.validation} stands for its {share:g}"
    note = Expected(f"{note})")
    selected = {"train": is_train, "validation": is_validation}
    return {
        name: np.flatnonzero(chosen)
        for name, chosen in selected.items()
        if chosen.any()
    }, (note,)


def _validation(
    labels: np.ndarray,
    ranks: np.ndarray,
    classes: Sequence[str],
    config: DataConfig,
    groups: np.ndarray | None,
) -> np.ndarray:
    """Return which of the training images are for validation, bool `[N]`.

    Args:
      labels: int32 `[N]`.
      ranks: rank of each image in a random order of its class, `[N]`, from 0.
      classes: class names, in the order of the labels.
      config: data set configuration.
      groups: group of each image, `[N]`, or None.
    """
    counts, requested = np.bincount(labels, minlength=len(classes)), config.validation
    if isinstance(requested, str):
        number, folds = map(int, requested.split("/"))
        _check_folds(labels, classes, groups, folds, requested)
        seed = config.split_seed
        if groups is None:
            return subsets.stratified_fold(labels, number, folds, seed)
        is_validation = subsets.group_fold(labels, groups, number, folds, seed)
        _check_sides(labels, is_validation, classes, groups, config, both=False)
        return is_validation
    if groups is not None:
        share = min(requested, subsets.MAX_VALIDATION / len(labels))
        is_validation = subsets.group_holdout(labels, groups, share, config.split_seed)
        _check_sides(labels, is_validation, classes, groups, config, both=True)
        return is_validation
    apportioned = subsets.apportion(counts, requested)
    for label in np.flatnonzero((apportioned >= counts) & (counts > 0)).tolist():
        raise UserError(
            f"config.data.validation={requested} leaves class {classes[label]!r} none "
            f"of its {counts[label]} training images to train on: give a smaller "
            f"share, or {TRAIN_ON_ALL}"
        )
    # Take the highest ranks, so that smaller subsets train on images of larger ones.
    return ranks >= (counts - apportioned)[labels]


def _check_two_of_each(
    labels: np.ndarray, chosen: np.ndarray, classes: Sequence[str], config: DataConfig
) -> None:
    """Refuse a class of one image, where training and validation need one each.

    Args:
      labels: int32 `[N]` of the images that may be trained on.
      chosen: rows of those that are used.
      classes: class names, in the order of the labels.
      config: data set configuration, which chose them.
    """
    available, counts = np.bincount(labels), np.bincount(labels[chosen])
    for label in np.flatnonzero(counts == 1).tolist():
        if available[label] > 1:
            limit = "per_class" if config.per_class == 1 else "fraction"
            has = f"uses 1 of its {available[label]:,} training images"
            way_out = f"raise config.data.{limit}={getattr(config, limit)}"
        else:
            has, way_out = "has 1 training image", " or ".join(_ways_to_more(config))
        raise UserError(
            f"class {classes[label]!r} {has}: two are needed, one to train on and "
            f"one to validate on; {way_out}, or {TRAIN_ON_ALL}"
        )


def _ways_to_more(config: DataConfig) -> list[str]:
    """Return what gives a class more images to train on, in words."""
    ways = ["add images"]
    if config.exclude:
        ways.append("shorten the list in config.data.exclude")
    if config.name == "folder" and config.test_fraction > DEFAULT_TEST_FRACTION:
        ways.append(f"lower config.data.test_fraction={config.test_fraction}")
    return ways


def _check_folds(
    labels: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray | None,
    folds: int,
    requested: str,
) -> None:
    for label in np.unique(labels):
        if groups is None:
            count, noun = int((labels == label).sum()), "training image"
        else:
            count, noun = len(subsets.groups_in_class(labels, groups, label)), "group"
        if count < folds:
            raise UserError(
                f"config.data.validation={requested}: class {classes[label]!r} has "
                f"{plural(count, noun)} for {folds} folds; use fewer folds"
            )


def _check_sides(
    labels: np.ndarray,
    is_validation: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray,
    config: DataConfig,
    both: bool,
) -> None:
    """Refuse a class whose groups all lie on one side of the validation split."""
    used = config.fraction < 1 or config.per_class
    more = ", use a larger part of the images" if used else ""
    for label in np.unique(labels):
        sides = is_validation[labels == label]
        if sides.all() or (both and not sides.any()):
            raise UserError(
                f"{one_sided_error(labels, groups, classes, label)}{more}, or "
                f"{TRAIN_ON_ALL}"
            )


def one_sided_error(
    labels: np.ndarray, groups: np.ndarray, classes: Sequence[str], label: int
) -> str:
    """Return the error message for a class whose groups cannot lie on both sides."""
    names = subsets.groups_in_class(labels, groups, label)
    return (
        f"class {classes[label]!r} lies in {plural(len(names), 'group')} "
        f"({listed([repr(escape(name)) for name in names])}), which cannot be split: "
        "images of one group stay on one side; add images of other groups"
    )


def _validation_note(
    is_validation: np.ndarray, config: DataConfig, groups: np.ndarray | None
) -> str:
    count, total = int(is_validation.sum()), len(is_validation)
    requested = config.validation
    if isinstance(requested, str):
        number, folds = requested.split("/")
        text = (
            f"fold {number} of {folds} of the {total:,} training images is the "
            f"validation split: {plural(count, 'image')}"
        )
    else:
        is_limited = requested * total > subsets.MAX_VALIDATION
        limit = f", at most {subsets.MAX_VALIDATION:,}" if is_limited else ""
        text = (
            f"{count:,} of the {total:,} training images are the validation split "
            f"(config.data.validation={requested}{limit})"
        )
    if groups is None:
        return text
    held_out = len(np.unique(groups[is_validation]))
    return f"{text}, {held_out:,} of {plural(len(np.unique(groups)), 'group')}"
