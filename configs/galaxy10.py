"""Galaxy10 DECaLS: 17,736 galaxies of 256x256 px in 10 classes, a tenth to test on.

    python -m hybrid_jax.main --config=configs/galaxy10.py --workdir=runs/galaxy10
    python -m hybrid_jax.main --config=configs/galaxy10.py:astroformer_4 \\
        --workdir=runs/galaxy10-4

300 epochs need an accelerator. This project has no result yet. Published:
Astroformer-4 94.86 % (Dagli 2023). We know of no publication that reproduces it.
"""

from hybrid_jax.config import default


def get_config(model: str = "astroformer_0"):
    config = default()
    config.data.name = "galaxy10"
    config.data.validation = 0  # on all images, as papers train
    config.model.name = model
    config.model.drop_path = 0.2

    config.augment.crop_padding = 16
    config.augment.symmetry = "rotation"  # the sky has no up
    config.augment.mixup = 0.8  # cutmix hurts here (Dagli 2023)

    config.loss.name = "softmax"
    config.loss.label_smoothing = 0.1
    config.optim.name = "adamw"
    config.optim.learning_rate = 5e-4
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 5.0
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.999
    config.train.epochs = 300
    config.train.batch_size = 64
    config.train.eval_every = 5
    return config
