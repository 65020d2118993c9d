"""Suggest fields that a user may have meant by a name that does not exist."""

import difflib

from hybrid_jax.config.schema import FIELDS, Config

# Names in other programs, and the last part of the field's name here.
ALIASES = {
    "bs": "batch_size",
    "checkpoint": "init_from",
    "early_stopping": "patience",
    "ema": "ema_decay",
    "flip": "symmetry",
    "fold": "validation",
    "grad_clip": "clip_norm",
    "input_size": "image_size",
    "lr": "learning_rate",
    "num_workers": "workers",
    "pretrained": "init_from",
    "resolution": "image_size",
    "val_fraction": "validation",
    "wd": "weight_decay",
}
NEAR = 0.7  # least similarity of names, as difflib measures it


def unknown_field(name: str) -> str:
    """Return a message that a field does not exist, with fields that may be meant."""
    group = name.rpartition(".")[0]
    if inside := _members(name):
        return (
            f"config.{name} is a group of fields: give one of them, such as "
            f"config.{name}.{inside[0]}"
        )
    absent, siblings = f"config.{name} does not exist", _members(group)
    if group in FIELDS:
        return f"{absent}: config.{group} has no fields of its own"
    groups = dict.fromkeys(field.rpartition(".")[0] for field in FIELDS if "." in field)
    near = nearest(name)
    if not (near or siblings):
        near = difflib.get_close_matches(name, groups, 1, NEAR)
    if near:
        shown = [f"config.{field}" for field in near]
        return f"{absent}, did you mean {' or '.join(shown)}?"
    if siblings:
        return f"{absent}: config.{group} has {', '.join(siblings)}"
    return absent


def nearest(name: str) -> list[str]:
    """Return the fields that a wrong name may mean.

    The last part of the name, or its alias, is looked up in all groups, and then names
    that are spelled like it.
    """
    leaves = {field: field.rpartition(".")[2] for field in FIELDS}
    leaf = name.rpartition(".")[2].replace("-", "_")
    meant = ALIASES.get(leaf, leaf)
    alike = [meant, *difflib.get_close_matches(leaf, leaves.values(), 3, NEAR)]
    found = next((near for near in alike if near in leaves.values()), None)
    return [field for field in FIELDS if leaves[field] == found]


def _members(group: str) -> list[str]:
    """Return the names of a group's fields."""
    fields = [field for field in FIELDS if field.startswith(f"{group}.")]
    return [field.removeprefix(f"{group}.") for field in fields]


def warmup_field(config: Config) -> str:
    """Return the field that sets the length of warm-up, in words."""
    in_steps = config.optim.warmup_steps or config.train.steps
    return f"config.optim.{'warmup_steps' if in_steps else 'warmup_epochs'}"


def shorter_warmup(steps: int) -> str:
    """Return the flags of a warm-up that fits into a run of some steps."""
    if steps == 1:
        return "--config.optim.warmup_steps=0 --config.optim.warmup_epochs=0"
    return f"--config.optim.warmup_steps={max(steps // 10, 1)}"
