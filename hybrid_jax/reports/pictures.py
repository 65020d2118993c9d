"""Pictures in a page: images of a split with their predictions, and augmented images.

Shapes: N images of height H, width W and C channels, 1 or 3.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hybrid_jax.data import Split
from hybrid_jax.evaluation.evaluate import Evaluation, Images
from hybrid_jax.evaluation.mislabeled import Suspect
from hybrid_jax.programs.augmentation import IMAGES_SHOWN, augmented_rows
from hybrid_jax.reports.overlays import overlays
from hybrid_jax.runs.run import Run
from hybrid_jax.sheets import as_picture

SHOWN = 12  # images of a kind
VIEWS = 8  # augmentations of one image
SIDE = 144  # pixels; larger pictures are shrunk to this side
LOSSLESS = 64  # pixels of a side up to which a picture is PNG, else JPEG


class Picture(NamedTuple):
    """A picture with the parts of its caption.

    Attributes:
      source: a `data:` URI.
      width, height: pixels.
      alt: what it shows, for those who cannot see it.
      name: of the image's file, without its folder; or its number.
      true, predicted: names of classes; empty where nothing was predicted.
      probability: probability of the predicted class.
      beside: pictures to show beside it.
    """

    source: str
    width: int
    height: int
    alt: str
    name: str = ""
    true: str = ""
    predicted: str = ""
    probability: float = 0.0
    beside: tuple["Picture", ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether it has enough pixels to be smoothed where a page enlarges it."""
        return max(self.width, self.height) > LOSSLESS


def answers(run: Run, found: Evaluation, split: Split, right: bool) -> list[Picture]:
    """Return the images that a model was surest of, the surest first.

    Args:
      run: the run that predicted.
      found: the evaluation of the split.
      split: its images.
      right: whether to return right answers; otherwise mistakes.

    Raises:
      UserError: an image cannot be read.
    """
    predictions = found.predictions
    rows = np.flatnonzero(predictions.correct == right)
    surest = np.argsort(-predictions.confidence[rows], kind="stable")[:SHOWN]
    rows = rows[surest]
    if not len(rows):
        return []
    # Repeat the last row, so that right answers and mistakes share a compiled program.
    padded = np.pad(rows, (0, SHOWN - len(rows)), "edge")
    drawn = overlays(run, split, padded)
    return [
        _answer(found, split, int(row), {alt: drawn[alt][n] for alt in drawn})
        for n, row in enumerate(rows)
    ]


def _answer(
    found: Evaluation, split: Split, row: int, drawn: dict[str, np.ndarray]
) -> Picture:
    predictions, classes = found.predictions, found.classes
    true = classes[predictions.labels[row]]
    predicted = classes[predictions.predicted[row]]
    beside = [
        Picture(*encode(image), alt=alt.format(predicted))
        for alt, image in drawn.items()
    ]
    return Picture(
        *encode(split.image(row)),
        alt=f"Image of the class {true}, called {predicted}",
        name=Path(found.names[row]).name,
        true=true,
        predicted=predicted,
        probability=float(predictions.confidence[row]),
        beside=tuple(beside),
    )


def doubtful(
    found: Evaluation, split: Split, suspects: Sequence[Suspect]
) -> list[Picture]:
    """Return the first images whose labels to check.

    Args:
      found: the evaluation of the split.
      split: its images.
      suspects: see `evaluation.mislabeled.find`.

    Raises:
      UserError: an image cannot be read.
    """
    pictures = []
    for each in suspects[:SHOWN]:
        label, likelier = (found.classes[n] for n in (each.label, each.likelier))
        pictures.append(
            Picture(
                *encode(split.image(each.row)),
                alt=f"Image labeled {label}, likelier {likelier}",
                name=Path(found.names[each.row]).name,
                true=label,
                predicted=likelier,
                probability=each.likelier_probability,
            )
        )
    return pictures


def encode(image: np.ndarray) -> tuple[str, int, int]:
    """Return an image as a `data:` URI, with its width and height.

    Args:
      image: uint8 `[h, w, C]`; it is shrunk if it is larger than `SIDE`.
    """
    picture = as_picture(image)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    form = "PNG" if max(picture.size) <= LOSSLESS else "JPEG"
    content = io.BytesIO()
    picture.save(content, form, quality=88, optimize=True)
    text = base64.b64encode(content.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{text}", *picture.size


def augmented(run: Run) -> list[Picture]:
    """Return the first training image, then `VIEWS` augmentations of it.

    Raises:
      UserError: the image is no longer there.
    """
    (_, train), size = Images("train").of(run), run.network.image_size
    # As many images as training drew at its start: that program is compiled.
    count = max(min(IMAGES_SHOWN, run.config.train.batch_size), VIEWS)
    rows = np.zeros(count, int)
    images = augmented_rows(run.config, train, rows, size, len(run.classes))
    views = np.clip(images[:VIEWS], 0, 255).astype(np.uint8)
    original = Picture(*encode(train.image(0)), alt="The image as it is")
    return [original] + [
        Picture(*encode(view), alt=f"Augmentation {number} of the image")
        for number, view in enumerate(views, 1)
    ]
