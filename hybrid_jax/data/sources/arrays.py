"""Data sets that are handed over as arrays, checked before anything is made of them."""

import collections
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import group_splitting as grouped
from hybrid_jax.data.dataset import SPLITS, Split, Splits
from hybrid_jax.data.image_io import Facts, Form, bring
from hybrid_jax.data.sources.array_checks import by, check_images, check_labels, named
from hybrid_jax.data.sources.class_folders import SPLITS as NAMES
from hybrid_jax.data.splitting import divide, left_out_note, notes_on, used_splits
from hybrid_jax.errors import UserError, closest, counted, short

NAMED_AT_MOST = 5


class Given(NamedTuple):
    """One split as it was handed over: images, labels, and groups if there are any."""

    images: Any  # uint8 [N, h, w, C], an array or what is indexed like one
    labels: np.ndarray  # of any values [N]
    groups: np.ndarray | None


def from_arrays(splits: "Splits | Mapping[str, Any]", options: DataConfig) -> Splits:
    """Makes a data set of arrays.

    Args:
      splits: a mapping from `train` and maybe `validation` and `test` to a `Split`, to
        `(images, labels)`, or to `(images, labels, groups)`. Images are uint8
        `[N, h, w]` or `[N, h, w, C]` of 1 or 3 channels. Labels are numbers or names;
        the classes are those of all splits, numbers in their order. A `Splits` is
        returned as it is.
        All of them stay in memory, whatever `options.loader` says.
      options: `validation`, `fraction`, `per_class`, `split_seed`, `image_size`, `fit`
        and `background` mean what they do for files, and choose the same images for
        the same labels.

    Raises:
      UserError: names the split, what is wrong with it, and the way out.
    """
    if isinstance(splits, Splits):
        return splits
    given = {name: _given(name, splits[name]) for name in _names(splits)}
    sizes = {name: len(of.labels) for name, of in given.items()}
    notes, unused = (), sizes.keys() - {*used_splits(sizes, options)}
    for name in unused:
        notes += (left_out_note(sizes[name]),)
        del given[name]
    _check_shapes(given)
    classes, labels = _numbered({name: of.labels for name, of in given.items()})
    _check_classes(classes, labels)
    if found := grouped.shared({name: of.groups for name, of in given.items()}):
        raise UserError(grouped.refusal(found))
    parts, more = divide(labels, classes, options, given["train"].groups)
    form = _form(given["train"].images, options)
    taken = {}
    for name, (source, rows) in parts.items():
        images = given[source].images
        images = images if len(rows) == len(images) else _rows(images, rows)
        images, extents = to_form(images, form)
        taken[name] = Split(images, labels[source][rows], extents)
    fingerprint = _digest([of.images for of in given.values()])
    more += notes_on({name: of.labels for name, of in taken.items()}, classes)
    return Splits("arrays", taken, classes, form, notes + more, fingerprint)


def to_form(images: np.ndarray, form: Form) -> tuple[np.ndarray, np.ndarray | None]:
    """Brings images of one size to the form of a data set.

    Args:
      images: uint8 `[N, h, w, C]`.
      form: of the result.

    Returns:
      uint8 `[N, H, W, C]`, and int32 `[N, 2]`, height and width that each image fills;
      None where all fill all. Images of the form's size are returned as they are.
    """
    from hybrid_jax.data.extents import extents_of
    from hybrid_jax.data.lazy_images import mapped

    size = images.shape[1:3]
    if form.target is None and images.shape[1:] == (*form.size, form.channels):
        return images, None
    extent = None
    if form.target is not None:
        (extent,) = extents_of(np.array([size]), form.target, form.fit)
    brought = np.empty((len(images), *form.size, form.channels), np.uint8)

    def fill(rows: slice) -> None:
        for row in range(len(images))[rows]:
            brought[row] = bring(images[row], form, extent)

    collections.deque(mapped(fill, len(images)), 0)
    return brought, None if extent is None else np.tile(extent, (len(images), 1))


def _names(splits: Any) -> list[str]:
    """The names of the splits, in their order."""
    if not isinstance(splits, Mapping):
        raise UserError(
            f"splits are {type(splits).__name__}: give a mapping such as "
            '{"train": (images, labels), "test": (images, labels)}'
        )
    for name in splits:
        if name not in SPLITS:
            raise UserError(
                f"splits have {name!r}, which is none of {', '.join(SPLITS)}"
                f"{meant(name)}"
            )
    if "train" not in splits:
        held = ", ".join(splits) or "nothing"
        raise UserError(f"splits have {held}, and no 'train' to learn from: add it")
    return [name for name in SPLITS if name in splits]


def meant(name: Any) -> str:
    """`", did you mean 'validation'?"`: the split that is meant by another name."""
    plain = str(name).casefold()
    known = (role for role, names in NAMES.items() if plain in names)
    return closest(next(known, plain), SPLITS)


def _given(name: str, value: Any) -> Given:
    if isinstance(value, Split):
        if value.extents is not None:
            raise UserError(
                f"{name}: its images are of several shapes: hand over the whole data "
                "set that it is of"
            )
        images, labels, groups = value.images, value.labels, None
        images = check_images(images, name) if value.resident else images
    else:
        if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
            raise UserError(
                f"{name}: it is {type(value).__name__}"
                + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")
                + ", and (images, labels) or (images, labels, groups) is needed"
            )
        images, labels, groups = (*value, None)[:3]
        images = check_images(images, name)
    labels = check_labels(labels, name)
    if groups is not None:  # as tables have them: text
        groups = check_labels(groups, f"{name}, groups")
        groups = np.array([*map(named, groups)], object)
    for what, of in (("labels", labels), ("groups", groups)):
        if of is not None and len(of) != len(images):
            raise UserError(
                f"{name}: {counted(len(images), 'image')} and {len(of):,} {what}: as "
                "many are needed"
            )
    return Given(images, labels, groups)


def _check_shapes(given: dict[str, Given]) -> None:
    shapes = {name: tuple(of.images.shape[1:]) for name, of in given.items()}
    for name, shape in shapes.items():
        if shape != shapes["train"]:
            raise UserError(
                f"{name}: images are {by(shape)}, and those of train are "
                f"{by(shapes['train'])}: bring them to one size"
            )


def _numbered(
    labels: dict[str, np.ndarray],
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Names of all classes, and labels int32 by their order."""
    kinds = {
        name: "text" if of.dtype.kind in "US" else "numbers"
        for name, of in labels.items()
    }
    if len({*kinds.values()}) > 1:
        told = ", ".join(f"{kind} in {name}" for name, kind in kinds.items())
        raise UserError(f"labels are {told}: give all as numbers, or all as text")
    values = np.unique(np.concatenate([np.unique(of) for of in labels.values()]))
    if kinds["train"] == "text" and all(str(v).isdecimal() for v in values):
        values = np.array(sorted(values, key=lambda v: (int(v), v)))
    classes = tuple(map(named, values))
    order = np.argsort(values)
    return classes, {
        name: order[np.searchsorted(values, of, sorter=order)].astype(np.int32)
        for name, of in labels.items()
    }


def _check_classes(classes: tuple[str, ...], labels: dict[str, np.ndarray]) -> None:
    if len(classes) < 2:
        raise UserError(f"train: all labels are {classes[0]!r}: two classes are needed")
    counts = np.bincount(labels["train"], minlength=len(classes))
    for name, of in labels.items():
        if not counts[of].all():
            missing = [
                short(classes[label]) for label in np.unique(of[counts[of] == 0])
            ]
            raise UserError(
                f"{name}: train lacks {len(missing)} of its classes: "
                + ", ".join(map(repr, missing[:NAMED_AT_MOST]))
                + (", …" if missing[NAMED_AT_MOST:] else "")
                + "; add images of them to train, or leave them out"
            )


def _form(images: Any, options: DataConfig) -> Form:
    """What images of one size are kept as: `encoded.choose_form` says it for files."""
    from hybrid_jax.data.lazy_images import choose_form

    if not isinstance(images, np.ndarray):  # they are files, and have a form
        return images.form
    _, height, width, channels = images.shape
    facts = [Facts(int(height), int(width), gray=channels == 1)]
    return choose_form(
        facts, options.image_size, options.fit, options.background, "arrays"
    )


def _rows(images: Any, rows: np.ndarray) -> Any:
    return images[rows] if isinstance(images, np.ndarray) else images.take(rows)


def _digest(arrays: Sequence[Any]) -> str:
    """What tells pixels from others; images that lie in files are told by those."""
    digest = hashlib.sha256()
    for images in arrays:
        if isinstance(images, np.ndarray):
            for some in np.array_split(images, max(1, images.size >> 26)):
                digest.update(np.ascontiguousarray(some))
    return digest.hexdigest()
