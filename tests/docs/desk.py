"""A folder as the readers of the documents have it: images, a run, experiments.

The images are real digits. Experiments have their own names and recipes, but train a
network of two blocks for a few steps.
"""

import os
import shutil
import textwrap

import numpy as np
from PIL import Image

import hybrid_jax
from hybrid_jax.config import files
from tests import small_hybrid
from tests.data.files import digit, scans, write, write_folder

CLASSES = 6  # top-5 accuracy is not printed for fewer
LENGTH = {"train.steps": 4, "train.eval_every_steps": 2, "optim.warmup_steps": 1}
# What takes long to compile. `tests/augment` and `tests/training` have it.
PLAIN = {"augment.policy": "none", "augment.mixup": 0.0, "augment.cutmix": 0.0}
TRAINED = {**LENGTH, **PLAIN, "model.name": "small_hybrid", "model.strides": (2, 2, 1)}
SHORT = {
    **TRAINED,
    "train.batch_size": 16,
    "train.report": False,  # `tests/reports` has pages
}
EXPERIMENT = """
    from hybrid_jax.config.files import load_config
    from tests.docs.desk import SHORT

    def get_config(model=None):
        return load_config({path!r}, SHORT)
"""


def write_experiments(folder):
    """Write each experiment of this project, shortened."""
    for name, path in files.experiments().items():
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(EXPERIMENT.format(path=str(path))))


def lay_out(folder):
    """Write images of some classes, new images, and a run that is trained on them."""
    small_hybrid.add_row()
    write_experiments(folder / "configs")
    for name in ("cells", "plankton"):
        write_folder(folder / name, each=24, classes=CLASSES)
    copy_digits(folder / "plankton")
    shutil.copytree(folder / "cells", folder / "new_classes")
    for place in sorted((folder / "new_classes").iterdir()):
        place.rename(place.with_name(f"new {place.name}"))
    for row in range(1700, 1708):
        for name in ("new_cells", "new_plankton"):
            write(folder / name / f"{row}.png", row)
    here = os.getcwd()
    os.chdir(folder)
    try:
        changed = {"data.path": str(folder / "cells"), "data.image_size": (16, 16)}
        config = files.load_config("configs/folder.py", changed)
        hybrid_jax.fit(config, workdir="runs/cells")
        os.symlink("cells", "runs/known")
    finally:
        os.chdir(here)


def copy_digits(place):
    """Write two scans once more, as another class, with one pixel changed."""
    for original in sorted((place / "digit 0").iterdir())[:2]:
        with Image.open(original) as image:
            copy = np.asarray(image).copy()
        copy[12, 12] ^= 1
        Image.fromarray(copy).save(place / "digit 1" / f"copy of {original.name}")


def names():
    """What Python blocks are given: images and labels as a reader has them."""
    images = np.stack([np.asarray(digit(row))[..., None] for row in range(120)])
    labels = scans().target
    return {
        "images": images[:100],
        "labels": labels[:100],
        "other_images": images[100:],
        "other_labels": labels[100:120],
    }
