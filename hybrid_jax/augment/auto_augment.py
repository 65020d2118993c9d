"""RandAugment and TrivialAugment: operations drawn for each image.

The operations and their strengths are torchvision's; its interpolation is not: moves
join the one bilinear warp of `geometry`, before all changes of colour.
"""

import typing
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax, random

from hybrid_jax.augment import color
from hybrid_jax.augment.affine import about, rotation
from hybrid_jax.augment.resample import once


class Space(typing.NamedTuple):
    """How far operations go at the highest magnitude.

    Attributes:
      shear: pixels a pixel.
      translate: whole pixels, from the length of a side.
      rotate: degrees.
      enhance: what is added to the factor 1 of an enhancement, or taken from it.
      bits: what posterizing leaves of 8.
      wide: magnitudes are drawn, and one operation is applied.
    """

    shear: float
    translate: Callable[[int], float]
    rotate: float
    enhance: float
    bits: int
    wide: bool


SPACES = {
    # Cubuk et al. (2020)
    "rand_augment": Space(0.3, lambda side: 150 / 331 * side, 30.0, 0.9, 4, False),
    # Müller and Hutter (2021), "Wide"
    "trivial_augment": Space(0.99, lambda side: 32.0, 135.0, 0.99, 2, True),
}
HIGHEST = 30  # magnitude

ENHANCEMENTS = (color.brightness, color.saturation, color.contrast, color.sharpness)
COLOURS = (
    *ENHANCEMENTS,
    color.posterize,
    color.solarize,
    color.autocontrast,
    color.equalize,
)
MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
OPERATIONS = (*COLOURS, *MOVES, "identity")


class Steps(typing.NamedTuple):
    """One operation an image and step.

    Attributes:
      slots: int32 `[steps, B]`, places among `len(OPERATIONS) * share`, each taken
        once a step; `slots // share` is the operation's number.
      owners: int32 `[steps, len(OPERATIONS) * share]`, the image at each place, or any
        where it is empty.
      amounts: `[steps, B]`, -1 to 1 of the way to the highest magnitude.
    """

    slots: jax.Array
    owners: jax.Array
    amounts: jax.Array

    @property
    def share(self) -> int:
        """Images that an operation may have at most."""
        return self.owners.shape[-1] // len(OPERATIONS)

    @property
    def operations(self) -> jax.Array:
        """Numbers in `OPERATIONS`, int32 `[steps, B]`."""
        return self.slots // self.share


def draw_steps(
    key: jax.Array, batch: int, policy: str, operations: int, magnitude: int
) -> Steps:
    """What happens to each image, in order.

    Each image has each operation by the same chance, but a batch has about the same
    number of all, so that each of them need be applied to its own images only.

    Args:
      key: of the draws.
      batch: number of images.
      policy: a row of `SPACES`.
      operations, magnitude: of "rand_augment".
    """
    wide = SPACES[policy].wide
    share = -(-batch // len(OPERATIONS))
    slot_key, level_key, sign_key = random.split(key, 3)
    count = 1 if wide else operations
    places = jnp.arange(len(OPERATIONS) * share)
    places = jnp.broadcast_to(places, (count, len(places)))
    order = random.permutation(slot_key, places, axis=1, independent=True)
    level = random.randint(level_key, (count, batch), 0, HIGHEST + 1)
    signs = random.rademacher(sign_key, (count, batch), jnp.float32)
    return Steps(
        slots=jnp.argsort(order)[:, :batch],
        owners=order % batch,
        amounts=signs * (level if wide else magnitude) / HIGHEST,
    )


def matrices_of(steps: Steps, policy: str, size: tuple[int, int]) -> jax.Array:
    """Moves for `geometry.place`, `[steps, B, 2, 3]`; none for changes of colour.

    Shears keep the upper left corner, rotations the centre.
    """
    space, (height, width) = SPACES[policy], size

    def amount(operation, most):
        chosen = steps.operations == OPERATIONS.index(operation)
        return jnp.where(chosen, steps.amounts * most, 0.0)

    centre = jnp.float32(size) / 2
    turned = rotation(jnp.deg2rad(amount("rotate", space.rotate)))
    shear = {axis: amount(f"shear_{axis}", space.shear) for axis in "yx"}
    shift = {
        axis: jnp.trunc(amount(f"translate_{axis}", space.translate(side)))
        for axis, side in (("y", height), ("x", width))
    }
    none = jnp.zeros_like(steps.amounts)
    rows = [[none, shear["y"], shift["y"]], [shear["x"], none, shift["x"]]]
    moved = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
    return about(turned, centre, centre) + moved


def recolour(images: jax.Array, steps: Steps, policy: str) -> jax.Array:
    """Applies the changes of colour to whole levels `[B, H, W, C]`, step by step."""

    def apply(images, step):
        return _recolour_once(images, step, policy), None

    images, _ = lax.scan(apply, images, steps)
    if len(steps.slots) > 1:
        return images  # from a loop, which XLA has to finish before it goes on
    return once(images, steps.amounts[0, 0])


def _recolour_once(images, step, policy):
    share = step.share
    used = len(COLOURS) * share
    owners = step.owners[:used]
    theirs, amounts = images[owners], step.amounts[owners]
    changed = []
    for number, operation in enumerate(COLOURS):
        own = slice(number * share, (number + 1) * share)
        strength = _strength(operation, amounts[own], SPACES[policy])
        changed.append(operation(theirs[own], strength))
    changed = jnp.concatenate(changed)[step.slots.clip(0, used - 1)]
    return jnp.where((step.slots < used)[:, None, None, None], changed, images)


def _strength(operation, amounts, space):
    """What a colour operation takes, from -1 to 1 of the way to the highest."""
    if operation in ENHANCEMENTS:
        return 1 + amounts * space.enhance
    if operation is color.posterize:
        return 8 - jnp.round(jnp.abs(amounts) * (8 - space.bits))
    return 255 * (1 - jnp.abs(amounts))  # a threshold; the others take nothing
