"""The models that the Astroformer paper compares, for the configs of studies."""

from hybrid_jax.models.registry import list_models

# Sizes 3 to 5 of the paper's figures, and models that are published in other sizes.
# CoAtNet has the layout C-C-T-T, so `astroformer_3_cctt` would equal `coatnet_3`.
PAPER_SYSTEMS = (
    *list_models("astroformer_[345]"),
    *list_models("coatnet_[345]"),
    *list_models("astroformer_[345]_cccc"),
    *list_models("astroformer_[345]_cttt"),
    *list_models("cbam_[345]"),
    *list_models("sasa_[345]"),
    "vit_tiny",
    "vit_small",
    "vit_base",
    "wrn_16_8",
    "wrn_40_4",
    "wrn_28_10",
)
