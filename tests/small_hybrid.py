"""The digits and a hybrid of two blocks, for what needs no larger network.

Its programs compile in a third of the time that those of `astroformer_pico` take.
"""

from pathlib import Path

from hybrid_jax.config.files import load_config
from hybrid_jax.models import create_model
from hybrid_jax.models.registry import MODELS, HybridRow

CONFIG = Path(__file__)  # as commands are given it
DIGITS = CONFIG.parents[1] / "configs" / "digits.py"
ROW = HybridRow(
    stack=("C", "T"),
    widths=(16, 32),
    depths=(1, 1),
    stem_widths=(8, 8),
    head_hidden=16,
)


def add_row():
    """Names the network in the table of models, until the module's tests end."""
    MODELS["small_hybrid"] = ROW


def create(classes, image_size, **overrides):
    """Create the network without a name."""
    fields = {name: x for name, x in vars(ROW).items() if name != "timm"}
    fields["strides"] = (2, 2, 1)
    return create_model("astroformer_pico", classes, image_size, **fields | overrides)


def get_config():
    add_row()
    fields = {"model.name": "small_hybrid", "model.strides": (2, 1, 2)}
    fields["optim.warmup_epochs"] = 1.0  # as short as the runs of tests
    fields["train.report"] = False  # `tests/reports` has pages
    fields["augment.mixup"] = 0.0  # whose draws take long to compile
    return load_config(str(DIGITS), fields)
