"""digits: 1,797 scans of 8x8 px that come with scikit-learn. Needs no download.

    python -m hybrid_jax.main --config=configs/digits.py --workdir=runs/digits

A run takes a minute or two on two CPU cores, and reaches about 99 % of the test split,
no more than simple methods do (`hybrid-jax baselines --config=digits`).
docs/explanation/results.md has each seed and method.
"""

from hybrid_jax.config import default


def get_config(model: str = "astroformer_pico"):
    config = default()
    config.data.name = "digits"
    config.data.validation = 0.1
    config.data.image_size = (16, 16)  # then strokes are two pixels wide
    config.model.name = model
    config.model.strides = (
        2,
        1,
        1,
        2,
        1,
    )  # feature maps of 8x8 and 4x4, no finer than the scans

    # No flip: a mirrored digit is no digit.
    config.augment.crop_scale = 0.7
    config.augment.mixup = 0.2

    config.loss.name = "softmax"
    config.loss.label_smoothing = 0.1
    config.optim.name = "adamw"
    config.optim.learning_rate = 2e-3
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 5.0
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.999
    config.train.epochs = 40
    config.train.batch_size = 64
    config.train.eval_every = 5
    config.train.checkpoint = "best"
    return config
