"""Ablations: variants of one model, each defined by fields of the config.

This table imports nothing, so that the command's help can name its rows.
"""

from typing import Any


def _stacks(*stacks: str) -> dict[str, dict[str, Any]]:
    return {stack: {"model.stack": stack} for stack in stacks}


def _shifts(padding: str, bias: str, downsample: str) -> dict[str, Any]:
    return {
        "model.padding": padding,
        "model.relative_bias": bias,
        "model.downsample": downsample,
    }


# Values of fields, by the name of the variant, by the property in which the variants
# differ. The first variant is compared with all others.
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    # Where attention begins.
    "layout": _stacks("C-C-C-C", "C-C-C-T", "C-C-T-T", "C-T-T-T"),
    # Whether the relative bias is added before or after the softmax, or not at all.
    "attention": {
        "pre": {"model.attention": "pre", "model.relative_bias": ""},
        "post": {"model.attention": "post", "model.relative_bias": ""},
        "no-bias": {"model.attention": "pre", "model.relative_bias": "none"},
    },
    # Block attention or local self-attention, in three stages or in all.
    "blocks": _stacks("C-C-C-T", "B-B-B-T", "S-S-S-T", "C-C-C-C", "B-B-B-B", "S-S-S-S"),
    # What makes logits invariant to cyclic shifts, one change at a time.
    "shifts": {
        "plain": _shifts("", "", "strided"),
        "circular": _shifts("circular", "torus", "strided"),
        "circular-blur": _shifts("circular", "torus", "blur"),
        "circular-aps": _shifts("circular", "torus", "aps"),
    },
}
