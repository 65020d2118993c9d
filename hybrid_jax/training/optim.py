"""The optimiser: AdamW under a warm-up and cosine schedule.

Weight decay acts on kernels alone. Norms, biases and relative bias tables are left
alone, as in CoAtNet and timm.
"""

import jax
import optax


def schedule(peak: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear from 0 to `peak`, then a cosine to 0 at `total_steps`."""
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup_steps, total_steps)


def decayed(params) -> dict:
    """A tree of bools: True for kernels."""

    def is_kernel(path, _):
        return path[-1].key == "kernel"

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def adamw(
    learning_rate: optax.Schedule, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) behind a clip of the global gradient norm."""
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    return optax.chain(
        clip, optax.adamw(learning_rate, weight_decay=weight_decay, mask=decayed)
    )
