"""folder: your own images, in a folder for each class, or listed in a table.

    python -m hybrid_jax.main --config=configs/folder.py --config.data.path=cells \\
        --config.data.image_size=64,64 --workdir=runs/cells

    cells/train/<class>/*, cells/val/... and cells/test/...  your own splits, or
    cells/<class>/*                                 a fifth is held out for testing, or
    cells.csv                                       columns path and label, if need be
                                                    split and group, such as a patient

If you give no validation images, a tenth of the training images is held out to choose
the best weights (`--config.data.validation`); 0 trains on all images.

First inspect the images, for leaks, damaged files and typos in class names:

    hybrid-jax inspect --config=configs/folder.py \\
        --config.data.path=cells --config.data.image_size=64,64

The recipe suits a few thousand images. Its optimizer is Muon. TrivialAugment changes
every image by one random operation, such as a turn or another contrast. Set
`--config.augment.symmetry=rotation` if your images have no upright direction, such as
those of microscopes and telescopes.
"""

from hybrid_jax.config import default


def get_config(model: str = "astroformer_nano"):
    config = default()
    config.data.name = "folder"
    config.data.validation = 0.1
    config.model.name = model
    config.model.drop_path = 0.1

    config.augment.symmetry = "flip"
    config.augment.policy = "trivial_augment"
    config.augment.fill = "reflect"  # where turns, shears and shifts leave the image
    config.augment.mixup = 0.2

    config.loss.name = "softmax"
    config.loss.label_smoothing = 0.1
    config.optim.name = "muon"
    config.optim.learning_rate = 5e-3
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 5.0
    config.optim.weight_decay = 0.1
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.999
    config.train.epochs = 100
    config.train.batch_size = 64
    config.train.eval_every = 5
    config.train.checkpoint = "best"
    return config
