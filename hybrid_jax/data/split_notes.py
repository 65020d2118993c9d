"""Notes on what the splits of a data set lack or leave out."""

from collections.abc import Mapping, Sequence

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.errors import listed, plural


class Expected(str):
    """A note that only says in numbers what the config asks for."""


NO_TEST = Expected("no test split: the data have none, and nothing is held out")


def left_out_note(count: int) -> Expected:
    """Return the note on a validation split that is not used."""
    return Expected(
        f"{plural(count, 'image')} of the validation split left out "
        "(config.data.validation=0)"
    )


def cropped_notes(count: int) -> tuple[str, ...]:
    """Return a note on images of which the ends are left out, if there are any."""
    if not count:
        return ()
    verb = "has" if count == 1 else "have"
    return (
        f"{plural(count, 'image')} {verb} more than twice the aspect ratio of "
        "config.data.image_size: their ends are left out; config.data.fit=pad keeps "
        "them",
    )


def notes_on(
    labels: Mapping[str, np.ndarray], classes: Sequence[str], config: DataConfig
) -> tuple[str, ...]:
    """Return notes on what is missing: a test split, or trained classes in a split.

    Args:
      labels: int32 `[N]` of each split.
      classes: class names, in the order of the labels.
      config: data set configuration.
    """
    notes: list[str] = []
    if "test" not in labels and config.test:
        notes.append(NO_TEST)
    is_trained = np.bincount(labels["train"], minlength=len(classes)) > 0
    unseen = [repr(classes[label]) for label in np.flatnonzero(~is_trained).tolist()]
    if unseen:
        notes.append(
            f"{len(unseen)} of {len(classes)} classes "
            f"{'has' if len(unseen) == 1 else 'have'} no image: {listed(unseen)}"
        )
    for name, split_labels in labels.items():
        is_present = np.bincount(split_labels, minlength=len(classes)) > 0
        absent = np.flatnonzero(is_trained & ~is_present).tolist()
        if absent:
            notes.append(
                f"the {name} split lacks {len(absent)} of {len(classes)} classes: "
                + listed([repr(classes[label]) for label in absent])
            )
    return tuple(notes)
