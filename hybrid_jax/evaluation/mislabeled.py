"""Labels to check, since they may be wrong, judged by models not trained on them.

Source: Northcutt, Jiang & Chuang 2021, Confident learning: estimating uncertainty in
dataset labels (arXiv:1911.00068), through cleanlab.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hybrid_jax import sheets
from hybrid_jax.console import percent
from hybrid_jax.csv_text import csv_text
from hybrid_jax.errors import UserError, first_line, listed, plural
from hybrid_jax.evaluation.measures import measure
from hybrid_jax.evaluation.out_of_fold import OutOfFold
from hybrid_jax.evaluation.predictions import Predictions
from hybrid_jax.extras import import_extra
from hybrid_jax.json_files import write_whole

PURPOSE = "a list of labels to check"
CAUTION = "The more mistakes the model makes, the more of these labels are right"
LEAST_ACCURACY = 0.8  # below it, a list says little
CSV, PNG = "mislabeled.csv", "mislabeled.png"
NAMED, DRAWN = 10, 24  # images on the screen and in the sheet
COLUMNS, SIDE, TEXT = 3, 136, 220  # of the sheet: images in a row, widths in pixels
COLOR = (250, 231, 211)  # behind an image


class Suspect(NamedTuple):
    """An image whose label may be wrong.

    Attributes:
      row: row of the image in the predictions.
      label: its label.
      likelier: its likeliest class.
      label_probability, likelier_probability: predicted probabilities of these two.
      score: half of 1 plus the difference of the two: 0 if the model is certain that
        the label is wrong, 0.5 if it cannot tell.
    """

    row: int
    label: int
    likelier: int
    label_probability: float
    likelier_probability: float
    score: float


def find(
    predictions: Predictions, classes: Sequence[str]
) -> tuple[list[Suspect], list[str]]:
    """Find the images whose labels to check, the surest first.

    Args:
      predictions: of images that the models were not trained on.
      classes: names, in the order of the labels.

    Returns:
      The images, and notes on what cannot be judged.

    Raises:
      UserError: cleanlab is not installed, or nothing can be judged.
    """
    counts = np.bincount(predictions.labels, minlength=len(classes))
    if (counts > 0).sum() < 2:
        raise UserError("all labels are the same, so that none stands out as wrong")
    probabilities, labels = predictions.probabilities, predictions.labels
    if bad := int((~np.isfinite(probabilities)).any(1).sum()):
        what = "prediction is not finite" if bad == 1 else "predictions are not finite"
        raise UserError(f"{bad:,} {what}: train again, at a lower learning rate")
    ranked = _ranked(labels, probabilities)
    notes = []
    if alone := [classes[label] for label in np.flatnonzero(counts == 1).tolist()]:
        what = "class has" if len(alone) == 1 else "classes have"
        notes.append(
            f"{len(alone):,} {what} one image, whose label is not judged: "
            f"{listed([repr(name) for name in alone])}"
        )
    suspects = []
    for row in ranked:
        label, likelier = int(labels[row]), int(predictions.predicted[row])
        two = probabilities[row, label], probabilities[row, likelier]
        score = (1 + two[0] - two[1]) / 2
        suspects.append(Suspect(row, label, likelier, *map(float, (*two, score))))
    return suspects, notes


def _ranked(labels: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Return the rows of images whose labels to check, by their normalized margin.

    Raises:
      UserError: cleanlab is not installed, or refuses the labels.
    """
    with warnings.catch_warnings():
        # cleanlab warns of classes with few images; `find` notes those with one image.
        warnings.simplefilter("ignore")
        cleanlab = import_extra("cleanlab.filter", extra="labels", purpose=PURPOSE)
        try:
            rows = cleanlab.find_label_issues(
                labels.astype(np.int64),
                probabilities,
                return_indices_ranked_by="normalized_margin",
                n_jobs=1,
            )
        except (ValueError, TypeError) as error:
            raise UserError(
                f"cleanlab cannot judge these labels: {first_line(error)}"
            ) from None
    return [int(row) for row in rows]


def in_words(found: OutOfFold, suspects: Sequence[Suspect]) -> list[str]:
    """Return how many labels to check there are, a caution, and the first ones."""
    right = measure(found.predictions, "accuracy")
    lines = [
        f"Labels to check: {len(suspects):,} of {plural(len(found), 'image')} "
        f"(the networks agree with {percent(right)} of the labels)"
    ]
    if suspects:
        lines.append(CAUTION)
        if right < LEAST_ACCURACY:
            lines.append("This list says little yet: train better networks first")
    for each in suspects[:NAMED]:
        lines.append(
            f"  {found.names[each.row]}: {_label(found, each)}, "
            f"likelier {_likelier(found, each)}"
        )
    return lines


def _label(found: OutOfFold, suspect: Suspect) -> str:
    share = percent(suspect.label_probability)
    return f"labeled {found.classes[suspect.label]} ({share})"


def _likelier(found: OutOfFold, suspect: Suspect) -> str:
    return (
        f"{found.classes[suspect.likelier]} ({percent(suspect.likelier_probability)})"
    )


def write_csv(found: OutOfFold, suspects: Sequence[Suspect], path: Path) -> None:
    """Write a line for each image whose label to check, the surest first."""
    header = ["path", "label", "likelier", "label probability"]
    lines: list[list] = [[*header, "likelier probability", "score", "fold"]]
    for each in suspects:
        row, label, likelier, *numbers = each
        shown = [f"{number:.6f}" for number in numbers]
        names = found.names[row], found.classes[label], found.classes[likelier]
        lines.append([*names, *shown, found.folds[row]])
    write_whole(path, csv_text(lines))


def sheet(
    found: OutOfFold, suspects: Sequence[Suspect], images: Sequence[np.ndarray]
) -> Image.Image:
    """Draw a caution, and the first suspects with label, likelier class, file and fold.

    Args:
      found: the predictions.
      suspects: all suspects, at least one.
      images: images of the first suspects, uint8 `[h, w, C]` each.
    """
    columns = min(COLUMNS, len(images))
    width, height = SIDE + TEXT + 2 * sheets.MARGIN, SIDE + sheets.MARGIN
    top = 2 * sheets.MARGIN + 40
    size = (
        max(sheets.MARGIN + columns * width, 480),
        top + math.ceil(len(images) / columns) * height,
    )
    page = Image.new("RGB", size, sheets.BACKGROUND)
    title, *_ = in_words(found, suspects)
    if len(images) < len(suspects):
        title += f"; the first {len(images)}"
    across = page.width - 2 * sheets.MARGIN
    sheets.draw_text(page, title, (sheets.MARGIN, sheets.MARGIN), across, 16)
    below = sheets.MARGIN, sheets.MARGIN + 24
    sheets.draw_text(page, CAUTION, below, across, 13, sheets.PALE_TEXT_COLOR)
    for number, (each, image) in enumerate(zip(suspects, images, strict=False)):
        row, column = divmod(number, columns)
        left, y = sheets.MARGIN + column * width, top + row * height
        picture = sheets.as_picture(image).convert("RGB")
        sheets.paste_image(page, picture, (left, y), SIDE, COLOR)
        lines = [
            (_label(found, each), sheets.TEXT_COLOR),
            (f"likelier {_likelier(found, each)}", sheets.TEXT_COLOR),
            (Path(found.names[each.row]).name, sheets.PALE_TEXT_COLOR),
            (f"fold {found.folds[each.row]}", sheets.PALE_TEXT_COLOR),
        ]
        for line, (text, color) in enumerate(lines):
            corner = left + SIDE + 2 * sheets.GAP, y + 24 * line + sheets.GAP
            sheets.draw_text(page, text, corner, TEXT, 13, color)
    return page
