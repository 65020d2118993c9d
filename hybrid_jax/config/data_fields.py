"""Config fields about data: which images to use, and how to augment them.

`hybrid_jax.config.schema` joins all groups of fields.
"""

import dataclasses
from pathlib import Path

from hybrid_jax.config import rules
from hybrid_jax.config.field import field
from hybrid_jax.models.strides import SIDE_BITS

IN_MEMORY = "arrays"  # `data.name` of images that are passed as arrays
# Fields of folders that say nothing of images in memory.
OF_FOLDERS = ("data.path", "data.test_fraction")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images to train, validate and test on."""

    name: str = field(
        "digits",
        rules.NAME,
        "data set of this project or of TensorFlow Datasets (TFDS), or folder for your "
        "own images",
    )
    dir: str = field(
        "",
        rules.PATH,
        "folder that stores data sets; empty means ~/tensorflow_datasets",
        local=True,
    )
    manual_dir: str = field(
        "",
        rules.PATH,
        "folder of archives that you downloaded; empty means downloads/manual in "
        "data.dir",
        local=True,
    )
    path: str = field(
        "",
        rules.PATH,
        "for name=folder: your folder, or a .csv with columns path and label",
        local=True,
    )
    label: str = field(
        "label", rules.LABEL, "label to learn, such as coarse_label of cifar100"
    )
    image_size: tuple[int, ...] = field(
        (),
        rules.IMAGE_SIZE,
        "images are resized to this size; empty keeps their own size",
    )
    fit: str = field(
        "crop",
        rules.row_of("hybrid_jax.data.image_io:FITS"),
        "how an image with another aspect ratio is brought to image_size",
    )
    background: str = field(
        "white", rules.COLOR, "color behind the transparent parts of images"
    )
    on_error: str = field(
        "stop",
        rules.one_of("stop", "skip"),
        "at an unreadable image, stop ends with an error and skip leaves it out; in a "
        "validation or test split that you made, it always ends with an error",
    )
    exclude: str = field(
        "",
        rules.PATH,
        "file that lists images to leave out: one path on each line, or a .csv with a "
        "column path",
        local=True,
    )
    group: str = field(
        "",
        rules.PATTERN,
        "finds the group of an image, such as a patient, in its path; a group is never "
        "divided between splits",
    )
    test_fraction: float = field(
        0.2,
        rules.RATE,
        "share of each class to test on, in a folder without splits; 0 tests on none",
    )
    validation: float | str = field(
        0.1,
        rules.VALIDATION,
        "share of the training images that is held out to choose the best weights, or "
        "a fold such as 2/5; 0 trains on all images; 0.1 with a protocol stands for "
        "the protocol's share",
        types=(int, float, str),
    )
    test: bool = field(
        True, rules.SWITCH, "load the test split, and evaluate it once, at the end"
    )
    protocol: str = field(
        "none",
        rules.row_of("hybrid_jax.data.protocols:PROTOCOLS", off="none"),
        "published subset of the training images; deic takes the first per_class (50) "
        "images of each class, and validates on the last 0.4 of them unless validation "
        "is another number than 0.1; split_seed=1 takes the next 50",
    )
    fraction: float = field(
        1.0, rules.FACTOR, "share of the training images of each class to use"
    )
    per_class: int = field(
        0, rules.whole_number(0), "training images of each class; 0 uses all"
    )
    split_seed: int = field(
        0,
        rules.SEED,
        "seed of the images that test_fraction, validation, fraction, per_class and "
        "protocol select",
    )
    loader: str = field(
        "auto",
        rules.one_of("auto", "resident", "stream"),
        "resident decodes all images once and keeps those for training on the device, "
        "stream decodes them during training; auto chooses by their size",
        free=True,
    )
    workers: int = field(
        0,
        rules.whole_number(0, rules.PROCESS_BITS),
        "for loader=stream: processes that decode images; 0 uses threads",
        local=True,
    )

    @property
    def title(self) -> str:
        """Return the name of the data set; for a folder, the last part of its path."""
        if self.name == IN_MEMORY:
            return "arrays in memory"
        path = Path(self.path).name if self.name == "folder" else ""
        return path or self.name


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training batches, on the device."""

    crop_padding: int = field(
        0,
        rules.whole_number(0, SIDE_BITS),
        "width of a border that is added before a random crop, in pixels of the "
        "stored image, which may be larger than image_size; not used with crop_scale",
    )
    crop_scale: float = field(
        0.0,
        rules.SHARE,
        "smallest area of a random resized crop, as a share of the image; 0 is off",
    )
    symmetry: str = field(
        "none",
        rules.row_of("hybrid_jax.augment.affine:SYMMETRIES"),
        "random mirroring and turning: flip mirrors left to right, flips also top to "
        "bottom, dihedral adds quarter turns, rotation any angle",
    )
    fill: str = field(
        "black",
        rules.row_of("hybrid_jax.augment.resample:FILLS"),
        "what random crops, turns and shears show outside of an image: black, the "
        "nearest pixel of its edge, or its mirror image",
    )
    policy: str = field(
        "none",
        rules.row_of("hybrid_jax.augment.auto_augment:SPACES", off="none"),
        "random geometric and color operations",
    )
    operations: int = field(
        2,
        rules.whole_number(1),
        "for policy=rand_augment: operations applied to each image",
    )
    magnitude: int = field(
        9, rules.MAGNITUDE, "for policy=rand_augment: strength of its operations"
    )
    color_jitter: float = field(
        0.0,
        rules.JITTER,
        "largest relative change of brightness, contrast and saturation, such as 0.4; "
        "0 is off",
    )
    hue_jitter: float = field(
        0.0,
        rules.HALF,
        "largest shift of the hue, as a share of the color circle; 0 is off",
    )
    erasing: float = field(
        0.0,
        rules.SHARE,
        "share of the images in which a random box becomes noise; 0 is off",
    )
    mixup: float = field(0.0, rules.ALPHA, "alpha of mixup; 0 is off")
    cutmix: float = field(
        0.0,
        rules.ALPHA,
        "alpha of cutmix; 0 is off; if mixup is on too, each image gets one of the two",
    )
