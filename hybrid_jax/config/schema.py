"""The fields of an experiment: what each means, its default, and what it may be."""

import importlib
import math
import re
import typing
from collections.abc import Callable

from hybrid_jax.data.image_io import FITS, is_gray
from hybrid_jax.data.sampler import SAMPLINGS
from hybrid_jax.models.registry import LETTERS, MODELS, family_patterns, parse_stack
from hybrid_jax.paths import LOCAL_ONLY, is_local


class Rule(typing.NamedTuple):
    """What a field may be: in words, or what gives them, and as a test."""

    allowed: str | Callable[[], str]
    holds: Callable[[typing.Any], bool]


def _whole(least: int) -> Rule:
    return Rule(f"a whole number from {least}", lambda v: v >= least)


def _one_of(*choices: str) -> Rule:
    return Rule(f"one of {', '.join(choices)}", lambda v: v in choices)


def _row_of(module: str, table: str) -> Rule:
    """None, or a row of a table beside code that needs jax, which is slow to import."""

    def rows() -> tuple[str, ...]:
        return tuple(getattr(importlib.import_module(module), table))

    return Rule(
        lambda: f"one of {', '.join(dict.fromkeys(('none', *rows())))}",
        lambda v: v == "none" or v in rows(),
    )


def _tuple_of(meaning: str, holds: Callable[[tuple], bool]) -> Rule:
    def whole_and_holds(value):
        return all(type(v) is int for v in value) and (not value or holds(value))

    return Rule(meaning, whole_and_holds)


def _is_fold(text: str) -> bool:
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    return bool(match) and 1 <= int(match[1]) <= int(match[2]) and int(match[2]) >= 2


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _is_color(text: str) -> bool:
    try:
        is_gray(text)
    except ValueError:
        return False
    return True


# Comparisons with NaN are false, so every rule on numbers refuses it.
PATH = Rule(LOCAL_ONLY, is_local)
NAME = Rule(
    "a name such as digits, or of TFDS such as imagenette/160px-v2",
    lambda v: re.fullmatch(r"\w+(/[\w.-]+)?(:[\d.]+)?", v),
)
SWITCH = Rule("true or false", lambda v: True)
SEED = Rule("a whole number from 0 to below 2**31", lambda v: 0 <= v < 2**31)
RATE = Rule("a number from 0 to below 1", lambda v: 0 <= v < 1)
POSITIVE = Rule("a finite number above 0", lambda v: 0 < v < math.inf)
SHARE = Rule("a number from 0 to 1", lambda v: 0 <= v <= 1)
FACTOR = Rule("a number above 0 up to 1", lambda v: 0 < v <= 1)
NOT_NEGATIVE = Rule("a finite number from 0", lambda v: 0 <= v < math.inf)
MODEL = Rule(f"one of {family_patterns()}", lambda v: v in MODELS)
SYMMETRY = _row_of("hybrid_jax.augment.affine", "SYMMETRIES")
POLICY = _row_of("hybrid_jax.augment.auto_augment", "SPACES")
PART = Rule("a number above 0 and below 1", lambda v: 0 < v < 1)
VALIDATION = Rule(
    "a number from 0 to below 1, or a fold such as 2/5: the second of five",
    lambda v: _is_fold(v) if isinstance(v, str) else 0 <= v < 1,
)
PATTERN = Rule(
    r"empty, or a regular expression such as (patient\d+)",
    lambda v: not v or _compiles(v),
)
STACK = Rule(
    f"empty, or four stages such as C-C-C-T or C-C-CT-T, of {', '.join(LETTERS)}",
    lambda v: not v or (len(parse_stack(v)) == 4 and {*v} <= {*LETTERS, "-"}),
)
STRIDES = _tuple_of(
    "empty, or five strides (stem and four stages), each 1 or 2",
    lambda v: len(v) == 5 and set(v) <= {1, 2},
)
SIZE = _tuple_of(
    "empty, or (height, width) in pixels such as 64,64, each from 16",
    lambda v: len(v) == 2 and min(v) >= 16,
)

COLOR = Rule("a color such as white, gray or #ff8800", _is_color)
FAULT = Rule(
    "empty, or nan@STEP or term@STEP, counted from 1",
    lambda v: re.fullmatch(r"((nan|term)@[1-9]\d*)?", v),
)
CHECKPOINT = Rule(
    "empty, best, last, or the step of a checkpoint",
    lambda v: re.fullmatch(r"(best|last|[1-9]\d*)?", v),
)
PATTERNS = Rule(
    "a tuple of regular expressions, such as ('stem/', 'stage[12]_')",
    lambda v: all(isinstance(p, str) and p and _compiles(p) for p in v),
)


class Field(typing.NamedTuple):
    """One field: `free` ones may differ between a run and its resumption.

    Its values have the type of the default, or one of `types`.
    """

    default: typing.Any
    rule: Rule
    meaning: str
    free: bool = False
    types: tuple[type, ...] = ()


# Of the machine rather than of the run: hosts of one run may differ in them.
LOCAL = {
    *("compilation_cache", "data.dir", "data.exclude", "data.manual_dir", "data.path"),
    "data.workers",
}

FIELDS = {
    "seed": Field(0, SEED, "of initialisation, data order and augmentation"),
    "dtype": Field(
        "auto",
        _one_of("auto", "float32", "bfloat16"),
        "of activations and products; auto is bfloat16 on accelerators",
    ),
    "compilation_cache": Field(
        True, SWITCH, "keep compiled programs in the user's cache folder", free=True
    ),
    # Data
    "data.name": Field(
        "digits", NAME, "a data set of this project or of TFDS, or folder"
    ),
    "data.dir": Field(
        "", PATH, "where data sets lie; empty is ~/tensorflow_datasets", free=True
    ),
    "data.manual_dir": Field(
        "", PATH, "where your archives lie; empty is downloads/manual there", free=True
    ),
    "data.path": Field(
        "", PATH, "of folder: its place, or a .csv of path and label", free=True
    ),
    "data.label": Field("label", NAME, "such as coarse_label of cifar100"),
    "data.image_size": Field((), SIZE, "images are resized to it; empty keeps theirs"),
    "data.fit": Field(
        "crop", _one_of(*FITS), "how images of another shape come to that size"
    ),
    "data.background": Field(
        "white", COLOR, "what lies behind transparent parts of images"
    ),
    "data.on_error": Field(
        "stop",
        _one_of("stop", "skip"),
        "at images that cannot be read; those that you held out always stop",
    ),
    "data.exclude": Field(
        "",
        PATH,
        "file that lists images to leave out: a path a line, or a .csv of paths",
        free=True,
    ),
    "data.group": Field(
        "", PATTERN, "finds in a path what belongs together, such as a patient"
    ),
    "data.test_fraction": Field(
        0.2, PART, "of each class, in a folder that is not split"
    ),
    "data.validation": Field(
        0.1,
        VALIDATION,
        "share of the training images that chooses the best weights, or a fold as 2/5; "
        "0 trains on all",
        types=(int, float, str),
    ),
    "data.fraction": Field(1.0, FACTOR, "of each class's training images"),
    "data.per_class": Field(0, _whole(0), "training images a class, 0 for all"),
    "data.split_seed": Field(
        0, SEED, "of test_fraction, validation, fraction and per_class"
    ),
    "data.loader": Field(
        "auto",
        _one_of("auto", "resident", "stream"),
        "images on the device, or decoded on the way; auto goes by their size",
        free=True,
    ),
    "data.workers": Field(
        0, _whole(0), "processes that decode a stream; 0 uses threads", free=True
    ),
    # Augmentation, on the device, of the training batch only
    "augment.crop_padding": Field(
        0, _whole(0), "random crop after padding by so many black pixels"
    ),
    "augment.crop_scale": Field(
        0.0, SHARE, "least share of the area of a random resized crop; 0 is off"
    ),
    "augment.symmetry": Field(
        "none", SYMMETRY, "what images are mirrored and turned by"
    ),
    "augment.policy": Field("none", POLICY, "random operations on places and colours"),
    "augment.operations": Field(
        2, _whole(1), "how many of them rand_augment applies to an image"
    ),
    "augment.magnitude": Field(
        9,
        Rule("a whole number from 0 to 30", lambda v: 0 <= v <= 30),
        "how far those of rand_augment go",
    ),
    "augment.color_jitter": Field(
        0.0, NOT_NEGATIVE, "how far brightness, contrast and saturation change, as 0.4"
    ),
    "augment.hue_jitter": Field(
        0.0,
        Rule("a number from 0 to 0.5", lambda v: 0 <= v <= 0.5),
        "share of the colour circle by which hues turn",
    ),
    "augment.erasing": Field(
        0.0, SHARE, "share of the images in which a box becomes noise"
    ),
    "augment.mixup": Field(0.0, NOT_NEGATIVE, "alpha of mixup; 0 is off"),
    "augment.cutmix": Field(
        0.0, NOT_NEGATIVE, "alpha of cutmix; 0 is off; with mixup, either by chance"
    ),
    # Model
    "model.name": Field("astroformer_nano", MODEL, "row of the model table"),
    "model.stack": Field("", STACK, "letters of each stage; empty is the model's own"),
    "model.strides": Field(
        (), STRIDES, "of a hybrid; empty leaves a last map of 4x4 or more"
    ),
    "model.patch_size": Field(
        0, _whole(0), "of a ViT; 0 is 16 px, or what leaves 7x7 patches or more"
    ),
    "model.attention": Field(
        "pre", _one_of("pre", "post"), "relative bias before or after the softmax"
    ),
    "model.drop_path": Field(0.0, RATE, "stochastic depth of the last block"),
    "model.dropout": Field(0.0, RATE, "before the classifier"),
    # Fine-tuning
    "init_from": Field(
        "", PATH, "weights to start from: .safetensors, .pth, or the folder of a run"
    ),
    "init_checkpoint": Field(
        "",
        CHECKPOINT,
        "of such a folder: best, last or a step; empty is the one that was tested",
    ),
    "freeze": Field(
        (), PATTERNS, "parameters that are kept, by patterns of their paths"
    ),
    # Optimisation
    "optim.learning_rate": Field(1e-3, POSITIVE, "peak, at the end of warm-up"),
    "optim.warmup_epochs": Field(5.0, NOT_NEGATIVE, "linear, from 0"),
    "optim.weight_decay": Field(
        0.05, NOT_NEGATIVE, "of weights, not of biases or norms"
    ),
    "optim.layer_decay": Field(
        1.0, FACTOR, "of the learning rate from a layer to the one before it"
    ),
    "optim.clip_norm": Field(1.0, NOT_NEGATIVE, "global gradient norm; 0 is off"),
    "optim.label_smoothing": Field(0.1, RATE, "share of the label spread over all"),
    "optim.class_weights": Field(
        "none", _one_of("none", "balanced"), "in the loss; balanced favors rare classes"
    ),
    "optim.ema_decay": Field(
        0.999, RATE, "of the weights that are evaluated; 0 evaluates the last ones"
    ),
    "optim.accumulate": Field(
        1, _whole(1), "micro-batches a step; each is batch_size / accumulate images"
    ),
    # Training
    "train.epochs": Field(100, _whole(1), "passes over the training split"),
    "train.batch_size": Field(128, _whole(1), "images a step"),
    "train.micro_batch": Field(
        "auto",
        Rule("auto or off", lambda v: v in ("auto", "off", "")),
        "auto adds up gradients of as many images at a time as fit into memory",
        free=True,
    ),
    "train.sampling": Field(
        "uniform", _one_of(*SAMPLINGS), "of images, or of classes first"
    ),
    "train.scan": Field(
        "auto",
        _one_of("auto", "on", "off"),
        "compile alike blocks once, and loop over them; auto does on accelerators",
        free=True,
    ),
    "train.remat": Field(
        "none",
        _one_of("none", "products", "full"),
        "what backward computes again, to save memory: all but products, or all",
        free=True,
    ),
    "train.eval_every": Field(
        1, _whole(1), "epochs between checkpoints, and evaluations", free=True
    ),
    "train.eval_batch_size": Field(256, _whole(1), "images a device pass", free=True),
    "train.log_every": Field(
        50, _whole(1), "steps between lines of metrics", free=True
    ),
    "train.checkpoint": Field(
        "best",
        _one_of("best", "last"),
        "whose weights are tested: the best on validation, or the last",
    ),
    "train.patience": Field(
        0, _whole(0), "evaluations without a better one that end a run; 0 is off"
    ),
    "train.non_finite": Field(
        "stop",
        _one_of("stop", "skip"),
        "at a loss that is not finite: end, or go back and leave two batches out",
        free=True,
    ),
    "train.max_skips": Field(3, _whole(1), "how often to go back, at most", free=True),
    "train.keep": Field(
        2, _whole(2), "newest checkpoints kept, beside the best", free=True
    ),
    # Devices
    "parallel.kind": Field(
        "jit",
        _one_of("jit", "pmap"),
        "one program over all devices, or one on each, the old way",
        free=True,
    ),
    "parallel.devices": Field(
        0, _whole(0), "how many share a batch; 0 is all of all hosts", free=True
    ),
    "parallel.fsdp": Field(
        1,
        _whole(1),
        "of jit: devices that each keep a part of the parameters, to save memory",
        free=True,
    ),
    # Faults, to see what a run makes of them
    "debug.inject": Field(
        "", FAULT, "a fault with the batch of a step: nan@30 or term@30", free=True
    ),
}
