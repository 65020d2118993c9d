"""Fields of the data: which images, and how training changes them.

`hybrid_jax.config.schema` puts the groups together.
"""

import dataclasses
from pathlib import Path

from hybrid_jax.config import rules
from hybrid_jax.config.field import field

IN_MEMORY = "arrays"  # name of images that were handed over


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images are trained on, validated on and tested on."""

    name: str = field(
        "digits", rules.NAME, "a data set of this project or of TFDS, or folder"
    )
    dir: str = field(
        "",
        rules.PATH,
        "where data sets lie; empty is ~/tensorflow_datasets",
        local=True,
    )
    manual_dir: str = field(
        "",
        rules.PATH,
        "where your archives lie; empty is downloads/manual there",
        local=True,
    )
    path: str = field(
        "", rules.PATH, "of folder: its place, or a .csv of path and label", local=True
    )
    label: str = field("label", rules.NAME, "such as coarse_label of cifar100")
    image_size: tuple[int, ...] = field(
        (), rules.IMAGE_SIZE, "images are resized to it; empty keeps theirs"
    )
    fit: str = field(
        "crop",
        rules.row_of("hybrid_jax.data.image_io:FITS"),
        "how images of another shape come to that size",
    )
    background: str = field(
        "white", rules.COLOR, "what lies behind transparent parts of images"
    )
    on_error: str = field(
        "stop",
        rules.one_of("stop", "skip"),
        "at images that cannot be read; those that you held out always stop",
    )
    exclude: str = field(
        "",
        rules.PATH,
        "file that lists images to leave out: a path a line, or a .csv of paths",
        local=True,
    )
    group: str = field(
        "", rules.PATTERN, "finds in a path what belongs together, such as a patient"
    )
    test_fraction: float = field(
        0.2, rules.RATE, "of each class, in a folder that is not split; 0 tests on none"
    )
    validation: float | str = field(
        0.1,
        rules.VALIDATION,
        "share of the training images that chooses the best weights, or a fold as 2/5; "
        "0 trains on all",
        types=(int, float, str),
    )
    test: bool = field(
        True, rules.SWITCH, "load the test split, and evaluate it once, at the end"
    )
    protocol: str = field(
        "none",
        rules.row_of("hybrid_jax.data.protocols:PROTOCOLS", off="none"),
        "deic takes the first per_class (50) images of each class, the last 0.4 of "
        "them to validate on; split_seed=1 the next 50",
    )
    fraction: float = field(1.0, rules.FACTOR, "of each class's training images")
    per_class: int = field(
        0, rules.whole_number(0), "training images a class, 0 for all"
    )
    split_seed: int = field(
        0, rules.SEED, "of test_fraction, validation, fraction, per_class, protocol"
    )
    loader: str = field(
        "auto",
        rules.one_of("auto", "resident", "stream"),
        "images on the device, or decoded on the way; auto goes by their size",
        free=True,
    )
    workers: int = field(
        0,
        rules.whole_number(0),
        "processes that decode a stream; 0 uses threads",
        local=True,
    )

    @property
    def title(self) -> str:
        """What the data are called: of a folder its name, without where it lies."""
        if self.name == IN_MEMORY:
            return "arrays in memory"
        path = Path(self.path).name if self.name == "folder" else ""
        return path or self.name


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training batches, on the device."""

    crop_padding: int = field(
        0, rules.whole_number(0), "black pixels around images before random crops"
    )
    crop_scale: float = field(
        0.0, rules.SHARE, "least share of the area of a random resized crop; 0 is off"
    )
    symmetry: str = field(
        "none",
        rules.row_of("hybrid_jax.augment.affine:SYMMETRIES"),
        "what images are mirrored and turned by",
    )
    policy: str = field(
        "none",
        rules.row_of("hybrid_jax.augment.auto_augment:SPACES", off="none"),
        "random operations on places and colors",
    )
    operations: int = field(
        2, rules.whole_number(1), "that rand_augment applies to an image"
    )
    magnitude: int = field(
        9, rules.MAGNITUDE, "of rand_augment: how strong its operations are"
    )
    color_jitter: float = field(
        0.0,
        rules.NOT_NEGATIVE,
        "how far brightness, contrast and saturation change, as 0.4",
    )
    hue_jitter: float = field(
        0.0, rules.HALF, "share of the color circle by which hues turn"
    )
    erasing: float = field(
        0.0, rules.SHARE, "share of the images in which a box becomes noise"
    )
    mixup: float = field(0.0, rules.NOT_NEGATIVE, "alpha of mixup; 0 is off")
    cutmix: float = field(
        0.0,
        rules.NOT_NEGATIVE,
        "alpha of cutmix; 0 is off; with mixup, either by chance",
    )
