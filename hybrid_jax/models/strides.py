"""Strides and map sizes: how an image shrinks on its way through the network.

A hybrid halves its map five times at most, in the stem and in the first block of each
of four stages. On small images that would leave one pixel, on which attention has
nothing to attend to, so the earliest halvings are dropped until the last map is at
least 4x4. Dropping the early ones keeps the cost in proportion to the image and is what
ResNets for CIFAR do. A ViT's patches shrink with the image for the same reason.
"""

import math
import operator
import typing
from collections.abc import Iterable

SMALLEST_IMAGE = 16
SIDE_BITS = 15  # of the sides of images; more would not fit into any memory
SMALLEST_MAP = 4
HEAD_DIM = 32  # channels of an attention head, in every hybrid of the family
LARGEST_PATCH = 16
FEWEST_PATCHES = 7  # per side

Size = tuple[int, int]


def format_size(sides: Iterable[int]) -> str:
    """Format a size as `224x224`."""
    return "x".join(map(str, sides))


def map_sizes(image_size: Size, strides: tuple[int, ...]) -> list[Size]:
    """Return `(height, width)` of the map after each stride; odd sizes round up."""
    sizes, (height, width) = [], image_size
    for stride in strides:
        height, width = -(-height // stride), -(-width // stride)
        sizes.append((height, width))
    return sizes


def choose_strides(image_size: Size, stages: int = 4) -> tuple[int, ...]:
    """Choose strides of stem and stages that leave a last map of 4x4 or more."""
    strides = [2] * (1 + stages)
    for early in range(len(strides)):
        if min(map_sizes(image_size, tuple(strides))[-1]) >= SMALLEST_MAP:
            break
        strides[early] = 1
    return tuple(strides)


def choose_patch(image_size: Size) -> int:
    """Choose the largest patch size, a power of two, that gives 7x7 patches or more.

    It is 16 px at 224 px as published, and 4 px at 32 px, as is usual for CIFAR.
    """
    patch = LARGEST_PATCH
    while patch > 1 and min(image_size) < FEWEST_PATCHES * patch:
        patch //= 2
    return patch


def as_size(image_size: int | Size) -> Size:
    """Convert `224` to `(224, 224)`; return a pair as it is.

    Raises:
      ValueError: it is neither a whole number from 1 to below 2**15 nor two of them.
    """
    try:
        if isinstance(image_size, typing.SupportsIndex):
            height = width = operator.index(image_size)
        else:
            height, width = map(operator.index, image_size)
    except (TypeError, ValueError):
        height = width = 0
    if not 0 < min(height, width) <= max(height, width) < 2**SIDE_BITS:
        raise ValueError(
            f"image_size={image_size!r}: give a side in pixels, or (height, width), "
            f"below 2**{SIDE_BITS}"
        )
    return height, width


def check_strides(image_size: Size, strides: tuple[int, ...]) -> None:
    """Refuse strides other than 1 and 2, and an image that is too small for them.

    Raises:
      ValueError: names the size, the strides, and strides that are possible.
    """
    if {*strides} - {1, 2}:
        raise ValueError(f"strides {tuple(strides)} are not all 1 or 2")
    if min(image_size) < SMALLEST_IMAGE:
        raise ValueError(
            f"an image of {format_size(image_size)} px is too small: the network takes "
            f"{SMALLEST_IMAGE}x{SMALLEST_IMAGE} px and up"
        )
    total = math.prod(strides)
    if total > min(image_size):
        raise ValueError(
            f"strides {tuple(strides)} divide by {total}, but an image of "
            f"{format_size(image_size)} px has a side of only {min(image_size)}: "
            f"{choose_strides(image_size, len(strides) - 1)} would do"
        )
