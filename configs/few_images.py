"""few_images: training from scratch on a few dozen images of each class.

    python -m hybrid_jax.main --config=configs/few_images.py --config.data.path=cells \\
        --config.data.image_size=32,32 --workdir=runs/cells
    python -m hybrid_jax.main --config=configs/few_images.py:astroformer_pico \\
        --config.data.name=cifar10 --config.data.protocol=deic

The network is a wide residual network with attention behind it. astroformer_pico takes
half the time on a CPU, and was five points less accurate on CIFAR-10.

The length is given in steps, since with equal epochs small subsets would train for too
few steps. The optimizer is Muon, and weight decay is stronger than in the other
experiments. TrivialAugment changes every image by one random operation, and mixup
blends pairs of them.

`--config.data.protocol=deic` takes the first 50 images of each class, and validates on
20 of them. With `--config.data.validation=0` too, all 50 are trained on, and the last
weights are tested.
"""

from hybrid_jax.config import default


def get_config(model: str = "wrn_16_2_wwwt"):
    config = default()
    config.data.name = "folder"
    config.data.validation = 0.1
    config.model.name = model

    config.augment.crop_padding = 4
    config.augment.symmetry = "flip"
    config.augment.policy = "trivial_augment"
    config.augment.mixup = 0.2

    config.loss.name = "softmax"
    config.loss.label_smoothing = 0.1
    config.optim.name = "muon"
    config.optim.learning_rate = 5e-3
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 200
    config.optim.weight_decay = 1.0
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.998
    config.train.steps = 5000
    config.train.batch_size = 50
    config.train.eval_every_steps = 500
    config.train.checkpoint = "best"
    return config
