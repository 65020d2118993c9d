"""Fashion-MNIST: 60,000 images of clothes to train on, 10,000 to test on, 28x28 gray.

    python -m hybrid_jax.main --config=configs/fashion_mnist.py --workdir=runs/fashion

If Debian's package dataset-fashion-mnist is installed, it is used. Otherwise 30 MB are
downloaded.

The 20 epochs below would take about half an hour on two CPU cores. They have not been
run. Other lengths and optimizers have been: one epoch reaches about 81 % of the test
split, and 20 epochs of astroformer_nano with Muon and without mixup about 95 %.
docs/explanation/results.md has their commands and times.
"""

from hybrid_jax.config import default


def get_config(model: str = "astroformer_pico"):
    config = default()
    config.data.name = "fashion_mnist"
    config.data.validation = 0  # on all images, as papers train
    config.model.name = model
    config.model.strides = (2, 1, 1, 2, 2)  # feature maps of 14x14, 7x7 and 4x4

    config.augment.crop_padding = 2
    config.augment.symmetry = "flip"
    config.augment.mixup = 0.2

    config.loss.name = "softmax"
    config.loss.label_smoothing = 0.1
    config.optim.name = "adamw"
    config.optim.learning_rate = 2e-3
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 1.0
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.999
    config.train.epochs = 20
    config.train.batch_size = 128
    return config
