"""Tiny ImageNet: 100,000 images of 64x64 px in 200 classes, 10,000 to test on.

    python -m hybrid_jax.main --config=configs/tinyimagenet.py --workdir=runs/tiny
    python -m hybrid_jax.main --config=configs/tinyimagenet.py:astroformer_5 \\
        --workdir=runs/tiny5

The test split is the published validation split, as is customary, since the test images
have no labels. 300 epochs need an accelerator. This project has no result yet.
Published: Astroformer-5 92.98 % (Dagli 2023).
"""

from hybrid_jax.config import default


def get_config(model: str = "astroformer_0"):
    config = default()
    config.data.name = "tiny_imagenet"
    config.data.validation = 0  # on all images, as papers train
    config.model.name = model
    config.model.drop_path = 0.2

    config.augment.crop_padding = 8
    config.augment.symmetry = "flip"
    config.augment.policy = "trivial_augment"
    config.augment.mixup = 0.8
    config.augment.cutmix = 1.0

    config.loss.name = "softmax"
    config.loss.label_smoothing = 0.1
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-3
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 5.0
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.999
    config.train.epochs = 300
    config.train.batch_size = 256
    config.train.eval_every = 5
    return config
