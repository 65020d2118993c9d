"""Strides and map sizes: how an image shrinks on its way through the network.

A network halves its map five times at most, in the stem and in the first block of each
of four stages. On small images that would leave one pixel, on which attention has
nothing to attend to, so the earliest halvings are dropped until the last map is at
least 4x4. Dropping the early ones keeps the cost in proportion to the image and is what
ResNets for CIFAR do.
"""

SMALLEST_IMAGE = 16
SMALLEST_MAP = 4
HEAD_DIM = 32  # channels of an attention head, in every model of the family

Size = tuple[int, int]


def map_sizes(image_size: Size, strides: tuple[int, ...]) -> list[Size]:
    """`(height, width)` of the map behind each stride; odd sizes round up."""
    sizes, (height, width) = [], image_size
    for stride in strides:
        height, width = -(-height // stride), -(-width // stride)
        sizes.append((height, width))
    return sizes


def choose_strides(image_size: Size, stages: int = 4) -> tuple[int, ...]:
    """The strides of stem and stages that leave a last map of 4x4 or more."""
    strides = [2] * (1 + stages)
    for early in range(len(strides)):
        if min(map_sizes(image_size, strides)[-1]) >= SMALLEST_MAP:
            break
        strides[early] = 1
    return tuple(strides)


def as_size(image_size: int | Size) -> Size:
    """`224` as `(224, 224)`; a pair stays as it is."""
    if isinstance(image_size, int):
        return image_size, image_size
    height, width = image_size
    return height, width


def check_heads(stack: tuple[str, ...], widths: tuple[int, ...]) -> None:
    """Refuses transformer stages that are no whole number of heads wide.

    Raises:
      ValueError: names the stage and its width.
    """
    for stage, (letter, width) in enumerate(zip(stack, widths, strict=True), start=1):
        if letter == "T" and width % HEAD_DIM:
            raise ValueError(
                f"stage {stage} is {width} channels wide, and a T takes a multiple of "
                f"{HEAD_DIM}: begin with C there, or take a wider model"
            )


def check_geometry(image_size: Size, strides: tuple[int, ...]) -> None:
    """Refuses an image that is too small, or smaller than what the strides divide by.

    Raises:
      ValueError: with the sizes, the strides and what would do.
    """
    shown = "x".join(map(str, image_size))
    if min(image_size) < SMALLEST_IMAGE:
        raise ValueError(
            f"an image of {shown} px is too small: the network takes "
            f"{SMALLEST_IMAGE}x{SMALLEST_IMAGE} px and up"
        )
    total = 1
    for stride in strides:
        total *= stride
    if total > min(image_size):
        raise ValueError(
            f"strides {tuple(strides)} divide by {total}, more than an image of "
            f"{shown} px has; {choose_strides(image_size, len(strides) - 1)} would do"
        )
