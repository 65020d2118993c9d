"""CIFAR-10: 50,000 images of 32x32 px in 10 classes, 10,000 to test on.

    python -m hybrid_jax.main --config=configs/cifar10.py --workdir=runs/cifar10
    python -m hybrid_jax.main --config=configs/cifar10.py:astroformer_3 \\
        --workdir=runs/cifar10-3

300 epochs need an accelerator. This project has no result yet. Published:
Astroformer-3 99.12 % (Dagli 2023), CCT-7/3x1 96.5 % in 300 epochs from scratch
(Hassani et al. 2021).
"""

from hybrid_jax.config import default


def get_config(model: str = "astroformer_nano"):
    config = default()
    config.data.name = "cifar10"
    config.data.validation = 0  # on all images, as papers train
    config.model.name = model
    config.model.drop_path = 0.1

    config.augment.crop_padding = 4
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
