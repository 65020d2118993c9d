"""RandAugment and TrivialAugment: operations drawn for each image.

Operations and strengths are those of torchvision. Interpolation differs: the geometric
operations join the one bilinear warp of `affine`, before all color operations.
"""

import typing
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax, random

from hybrid_jax.augment import color
from hybrid_jax.augment.affine import affine_through, rotation
from hybrid_jax.augment.resample import materialize
from hybrid_jax.config.schema import AugmentConfig


class Space(typing.NamedTuple):
    """Strengths of the operations at the highest magnitude.

    Attributes:
      shear: shift in pixels per pixel.
      translate: function from the length of a side to a shift in pixels.
      rotate: angle in degrees.
      enhance: largest difference of the factor of an enhancement from 1.
      bits: bits that posterizing leaves of 8.
      wide: whether magnitudes are drawn, and only one operation is applied.
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
MAX_MAGNITUDE = 30

ENHANCEMENTS = (color.brightness, color.saturation, color.contrast, color.sharpness)
COLOR_OPERATIONS = (
    *ENHANCEMENTS,
    color.posterize,
    color.solarize,
    color.autocontrast,
    color.equalize,
)
GEOMETRIC_OPERATIONS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
OPERATIONS = (*COLOR_OPERATIONS, *GEOMETRIC_OPERATIONS, "identity")


class Draws(typing.NamedTuple):
    """The operation of each image in each step.

    Each operation has `share` slots per step, enough for its images.

    Attributes:
      slots: int32 `[steps, B]`, below `len(OPERATIONS) * share`, each used once a step;
        `slots // share` is the index of the operation.
      images: int32 `[steps, len(OPERATIONS) * share]`, the image in each slot, or any
        where the slot is empty.
      amounts: `[steps, B]`, -1 to 1, relative to the highest magnitude.
    """

    slots: jax.Array
    images: jax.Array
    amounts: jax.Array

    @property
    def share(self) -> int:
        """Largest number of images that an operation gets in a step."""
        return self.images.shape[-1] // len(OPERATIONS)

    @property
    def operations(self) -> jax.Array:
        """Indices into `OPERATIONS`, int32 `[steps, B]`."""
        return self.slots // self.share


def draw_operations(key: jax.Array, batch: int, config: AugmentConfig) -> Draws:
    """Draw the operations of each image, in order.

    Each image gets each operation with the same probability. A batch gets all
    operations about equally often, so that each runs only on its own images.

    Args:
      key: random key.
      batch: number of images.
      config: its `policy` is a row of `SPACES`; its `operations` and `magnitude` only
        affect `rand_augment`.
    """
    wide = SPACES[config.policy].wide
    share = -(-batch // len(OPERATIONS))
    slot_key, level_key, sign_key = random.split(key, 3)
    steps = 1 if wide else config.operations
    slots = jnp.arange(len(OPERATIONS) * share)
    slots = jnp.broadcast_to(slots, (steps, len(slots)))
    order = random.permutation(slot_key, slots, axis=1, independent=True)
    level = random.randint(level_key, (steps, batch), 0, MAX_MAGNITUDE + 1)
    signs = random.rademacher(sign_key, (steps, batch), jnp.float32)
    return Draws(
        slots=jnp.argsort(order)[:, :batch],
        images=order % batch,
        amounts=signs * (level if wide else config.magnitude) / MAX_MAGNITUDE,
    )


def affine_matrices(draws: Draws, policy: str, size: tuple[int, int]) -> jax.Array:
    """Return matrices for `affine.warp`, `[steps, B, 2, 3]`.

    Color operations have the identity matrix. Shears keep the upper left corner in
    place, rotations the center.
    """
    space, (height, width) = SPACES[policy], size

    def amount(operation: str, most: float) -> jax.Array:
        is_drawn = draws.operations == OPERATIONS.index(operation)
        return jnp.where(is_drawn, draws.amounts * most, 0.0)

    center = jnp.float32(size) / 2
    rotated = rotation(jnp.deg2rad(amount("rotate", space.rotate)))
    shear = {axis: amount(f"shear_{axis}", space.shear) for axis in "yx"}
    shift = {
        axis: jnp.trunc(amount(f"translate_{axis}", space.translate(side)))
        for axis, side in (("y", height), ("x", width))
    }
    zero = jnp.zeros_like(draws.amounts)
    rows = [[zero, shear["y"], shift["y"]], [shear["x"], zero, shift["x"]]]
    sheared_and_shifted = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
    return affine_through(rotated, center, center) + sheared_and_shifted


def apply_color_operations(images: jax.Array, draws: Draws, policy: str) -> jax.Array:
    """Apply the color operations, step by step, to whole levels `[B, H, W, C]`."""

    def apply(images: jax.Array, step: Draws) -> tuple[jax.Array, None]:
        return _apply_one_step(images, step, policy), None

    images, _ = lax.scan(apply, images, draws)
    if len(draws.slots) > 1:
        return images  # XLA completes a loop before it uses the result
    return materialize(images, draws.amounts[0, 0])


def _apply_one_step(images: jax.Array, step: Draws, policy: str) -> jax.Array:
    share = step.share
    used = len(COLOR_OPERATIONS) * share
    in_slot = step.images[:used]
    inputs, amounts = images[in_slot], step.amounts[in_slot]
    outputs = []
    for number, operation in enumerate(COLOR_OPERATIONS):
        slots = slice(number * share, (number + 1) * share)
        strength = _strength(operation, amounts[slots], SPACES[policy])
        outputs.append(operation(inputs[slots], strength))
    changed = jnp.concatenate(outputs)[step.slots.clip(0, used - 1)]
    return jnp.where((step.slots < used)[:, None, None, None], changed, images)


def _strength(
    operation: Callable[[jax.Array, jax.Array], jax.Array],
    amounts: jax.Array,
    space: Space,
) -> jax.Array:
    """Convert amounts from -1 to 1 to the argument of a color operation."""
    if operation in ENHANCEMENTS:
        return 1 + amounts * space.enhance
    if operation is color.posterize:
        return 8 - jnp.round(jnp.abs(amounts) * (8 - space.bits))
    return 255 * (1 - jnp.abs(amounts))  # a threshold; other operations ignore it
