"""scaling/small: eight families in up to three small sizes, on 50 images per class.

    hybrid-jax study scaling --config=scaling/small --config.data.path=cifar10-jpeg
    hybrid-jax study ablation --of=layout --config=scaling/small \\
        --config.data.path=cifar10-jpeg

For two cores of a CPU: 500 steps of 50 images at 32 px. The recipe is that of
configs/few_images.py, except for its length, with AdamW instead of Muon (SGD for wide
residual networks), and without mixup. Feature maps begin at 16x16 and end at 4x4, also
in wide residual networks; a ViT has patches of 4 px. Without other flags, a run trains
on the first 50 images of each class, and tests the last weights.
"""

from hybrid_jax.config import experiment

STUDY_MODELS = (
    "astroformer_femto",
    "astroformer_pico",
    "astroformer_nano",
    "astroformer_femto_cccc",
    "astroformer_pico_cccc",
    "astroformer_nano_cccc",
    "astroformer_femto_cctt",  # CoAtNet's layout
    "astroformer_pico_cctt",
    "astroformer_nano_cctt",
    "astroformer_pico_cttt",
    "astroformer_nano_cttt",
    "cbam_femto",
    "cbam_pico",
    "cbam_nano",
    "sasa_femto",
    "sasa_pico",  # sasa_nano is too slow on two cores
    "vit_femto",
    "vit_pico",
    "vit_nano",
    "wrn_16_1",
    "wrn_16_2",
    "wrn_16_4",
)


def get_config(model: str = "astroformer_pico"):
    config = experiment("few_images", model)
    config.data.image_size = (32, 32)
    config.data.protocol = "deic"
    config.data.validation = 0
    config.model.strides = (2, 1, 2, 2, 1)
    if model.startswith("wrn"):
        config.model.strides = (2, 1, 2, 2)
        config.optim.name = "sgd"
        config.optim.learning_rate = 0.05
        config.optim.weight_decay = 0.005
    else:
        config.optim.name = "adamw"
        config.optim.learning_rate = 2e-3

    config.augment.mixup = 0.0
    config.optim.warmup_steps = 50
    config.optim.ema_decay = 0.99
    config.train.steps = 500
    config.train.eval_every_steps = 500
    config.train.checkpoint = "last"
    return config
