"""An experiment that compiles in seconds: one residual block on the real digits.

Its models are rows that this file adds, so each worker of a sweep has to load the file.
"""

from hybrid_jax.config import default
from hybrid_jax.models import block_config
from hybrid_jax.models.registry import MODELS, HybridRow

for name, width in {"tiny": 8, "tiny_4": 4}.items():
    MODELS[name] = HybridRow(
        stack=("W",),
        widths=(width,),
        depths=(1,),
        stem_widths=(width,),
        head_hidden=0,
        block_config=block_config.WIDE_RESNET,
        strides=(1, 2),
    )


def get_config(model="tiny"):
    config = default()
    config.data.name = "digits"
    config.data.per_class = 20
    config.data.validation = 0.2
    config.data.image_size = (16, 16)
    config.model.name = model
    config.optim.learning_rate = 1e-2
    config.optim.warmup_epochs = 0.0
    config.optim.ema_decay = 0.0
    config.train.epochs = 4
    config.train.batch_size = 32
    config.train.eval_every = 1
    return config
