"""Every model of this project, a row each. Plain Python: listing costs no jax.

A name is a family (which fixes the vertical layout, the *stack*) and a size (which
fixes widths and depths). Sizes 0 to 5 are those of CoAtNet (Dai et al. 2021, table 3)
and Astroformer (Dagli 2023); pico and nano are this project's own, for small images
and for CPUs.
"""

import dataclasses
import fnmatch


@dataclasses.dataclass(frozen=True)
class Row:
    """What `HybridNet` needs to know about a model.

    Attributes:
      stack: the letter of each stage's blocks, a key of `LETTERS`.
      widths: channels of each stage.
      depths: blocks of each stage.
      stem_width: channels of the stem.
      head_hidden: width of the layer between pooling and classifier.
    """

    stack: tuple[str, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stem_width: int
    head_hidden: int


LETTERS = {"C": "convolution (MBConv)", "T": "transformer with relative attention"}

STACKS = {"astroformer": "C-C-C-T", "coatnet": "C-C-T-T"}

#         widths                   depths          stem  head
SIZES = {
    "pico": ((16, 32, 64, 128), (1, 1, 2, 1), 16, 128),
    "nano": ((32, 64, 128, 256), (1, 2, 3, 2), 32, 256),
    "0": ((96, 192, 384, 768), (2, 3, 5, 2), 64, 768),
    "1": ((96, 192, 384, 768), (2, 6, 14, 2), 64, 768),
    "2": ((128, 256, 512, 1024), (2, 6, 14, 2), 128, 1024),
    "3": ((192, 384, 768, 1536), (2, 6, 14, 2), 192, 1536),
    "4": ((192, 384, 768, 1536), (2, 12, 28, 2), 192, 1536),
    "5": ((256, 512, 1280, 2048), (2, 12, 28, 2), 192, 2048),
}

FAMILIES = {
    "astroformer": ("pico", "nano", "0", "1", "2", "3", "4", "5"),
    "coatnet": ("0", "1", "2", "3", "4"),
}


def parse_stack(stack: str) -> tuple[str, ...]:
    """`"C-C-C-T"`, or `"CCCT"`, as a tuple of letters."""
    return tuple(stack.replace("-", ""))


MODELS = {
    f"{family}_{size}": Row(parse_stack(STACKS[family]), *SIZES[size])
    for family, sizes in FAMILIES.items()
    for size in sizes
}


def list_models(pattern: str = "*") -> list[str]:
    """The names `create_model` takes, those that match a shell pattern."""
    return fnmatch.filter(MODELS, pattern)
