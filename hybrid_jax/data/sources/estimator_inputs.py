"""Inputs of an estimator: images or paths of images, and labels of any kind."""

import json
import os
from collections.abc import Iterator, Mapping, MappingView, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.sources.found_files import one_path_error
from hybrid_jax.data.sources.image_checks import (
    as_array,
    check_images,
    refuse_masked_images,
)
from hybrid_jax.data.sources.label_checks import (
    check_labels,
    encode_classes,
    encode_labels,
    refuse_masked_labels,
)
from hybrid_jax.data.splitting import make_splits
from hybrid_jax.errors import UserError, escape, first_line, plural
from hybrid_jax.paths import expand_user

LABELS = "labels"  # key of the labels of the classes in a JSON file


def as_column(y: Any) -> Any:
    """Return labels `[N]`; warn, as scikit-learn does, if they are a column `[N, 1]`.

    Raises:
      UserError: `y` is None, or some labels are masked.
    """
    if y is None:
        raise UserError("y is None: give the label of each image")
    y = [*y] if isinstance(y, Iterator) else y  # which could be read only once
    refuse_masked_labels(y, "y")
    # Import on use: scikit-learn takes a second.
    from sklearn.utils import column_or_1d

    is_column = getattr(y, "ndim", 1) == 2 and y.shape[1] == 1
    return column_or_1d(y, warn=True) if is_column else y


def find_classes(y: Any) -> np.ndarray:
    """Return the sorted distinct labels, in the type that they were given in.

    Bytes become text. Of text in two Unicode forms, one form is returned.

    Raises:
      UserError: `y` is empty, has fractions or values of another kind, or has fewer
        than two classes.
    """
    values = check_labels(y, "y")
    if values.dtype.kind not in "biufUMm":
        raise UserError(
            f"y is of the type {values.dtype}: give labels as numbers or as text"
        )
    if values.dtype.kind == "f":  # scikit-learn's classifiers refuse them too
        raise UserError(
            f"y has fractions, such as {values[values % 1 != 0][0]:g}: labels are "
            "classes; np.digitize(y, edges) makes classes of measurements"
        )
    labels = np.asarray(y if hasattr(y, "dtype") else [*y])
    if labels.size == 0:
        raise UserError("y is empty: give the label of each image")
    labels = values if labels.dtype.kind in "ST" else labels
    _, first = np.unique(values, return_index=True)
    classes = np.unique(labels[first])
    if len(classes) < 2:
        raise UserError(f"all labels of y are {classes[0]!s}: two classes are needed")
    return classes


def count_trained(y: Any, groups: np.ndarray | None, config: DataConfig) -> int:
    """Return how many of the images with these labels a config trains on.

    Args:
      y: labels `[N]`.
      groups: group of each image, text `[N]`; None without groups.
      config: data set configuration.

    Raises:
      UserError: the images cannot be split as the config asks for.
    """
    classes, labels = encode_classes({"train": check_labels(y, "y")})
    parts, _ = make_splits(labels, classes, config, groups)
    return len(parts["train"][1])


def check_lengths(X: Any, y: Any, groups: np.ndarray | None) -> None:
    """Refuse labels or groups that are not one an image.

    Raises:
      UserError: names both lengths.
    """
    for name, values, noun in (("y", y, "label"), ("groups", groups, "group")):
        if values is not None and len(values) != len(X):
            raise UserError(
                f"X has {plural(len(X), 'image')} and {name} has "
                f"{plural(len(values), noun)}: give one {noun} for each image"
            )


def as_images(X: Any, name: str = "X") -> np.ndarray | list[Path]:
    """Return images uint8 `[N, h, w, C]`, or the paths of image files.

    Args:
      X: images, or a list of paths.
      name: name of the images in errors.

    Raises:
      UserError: `X` is neither, or is empty, or values are masked.
    """
    paths, images = paths_or_images(X, name)
    return paths or check_images(images, name)


def paths_or_images(X: Any, name: str) -> tuple[list[Path], Any]:
    """Return the paths of image files, or else an array or list of images, unchecked.

    Raises:
      UserError: `X` is one path or a table, is empty, has paths among other values, or
        values are masked.
    """
    if isinstance(X, (str, os.PathLike)):
        raise one_path_error(X, name)
    if isinstance(X, Image.Image):
        raise UserError(f"{name} is one image: give a list of images, [image]")
    if hasattr(X, "columns"):
        raise UserError(
            f"{name} is a table ({type(X).__name__}): give its column of paths, such "
            f"as {name}['path'], or an array of images [N, height, width]"
        )
    if isinstance(X, Mapping | Set) and not isinstance(X, MappingView):
        raise UserError(
            f"{name} is a {type(X).__name__}, which has no fixed order: give a list"
        )
    if hasattr(X, "dtype"):
        refuse_masked_images(X, name)
        X = as_array(X, f"{name} is")
        if X.dtype.kind not in "OUT":
            return [], X
    try:
        values = [*X]
    except TypeError:
        raise UserError(
            f"{name} is {type(X).__name__}: give images, or a list of paths"
        ) from None
    if not values:
        raise UserError(f"{name} is empty: give images, or a list of paths")
    is_path = [isinstance(value, (str, os.PathLike)) for value in values]
    if any(is_path) and not all(is_path):
        paths = sum(is_path)
        raise UserError(
            f"{name} has {plural(paths, 'path')} and "
            f"{plural(len(values) - paths, 'other value')}: give paths alone, or images"
        )
    if all(is_path):
        return [Path(expand_user(value)) for value in values], None
    return [], values


def labels_to_json(classes: np.ndarray) -> dict[str, Any]:
    """Return labels as JSON values.

    Raises:
      UserError: JSON cannot hold them, such as dates.
    """
    values = [v.item() if isinstance(v, np.generic) else v for v in classes]
    for value in values:
        if not isinstance(value, (str, bool, int, float)):
            raise UserError(
                f"labels of type {type(value).__name__}, such as {value!r}, cannot be "
                "saved: give y as text or whole numbers"
            )
    is_object = classes.dtype.kind == "O"
    return {"dtype": "object" if is_object else classes.dtype.str, "values": values}


def labels_from_json(
    stored: Any, names: Sequence[str], where: os.PathLike
) -> np.ndarray:
    """Return the sorted labels that `labels_to_json` stored, or else the sorted names.

    Args:
      stored: result of `labels_to_json`; None for a network of another program.
      names: names of the classes.
      where: the file, for errors.

    Raises:
      UserError: the labels are damaged, or not one for each class.
    """
    if stored is None:
        return np.unique(np.array(names))
    try:
        values, dtype = stored["values"], stored["dtype"]
        labels = np.array(values, dtype=dtype)
        if not isinstance(dtype, str) or json.dumps(labels.tolist()) != json.dumps(
            values
        ):
            raise ValueError("its values are of another type than it says")
        found = np.unique(labels)
        if labels.ndim != 1 or not len(found) == len(values) == len(names):
            what = plural(len(found), "different label")
            raise ValueError(f"{what} for {len(names)} classes")
        encode_labels(found, names, "")
    except (KeyError, TypeError, ValueError, OverflowError, UserError) as error:
        raise UserError(
            f"{escape(where)} has an unreadable entry {LABELS!r} "
            f"({first_line(error)}): restore it, or save the classifier again"
        ) from None
    return found
