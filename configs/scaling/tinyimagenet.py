"""scaling/tinyimagenet: accuracy on Tiny ImageNet against the cost of models.

    hybrid-jax study scaling --config=scaling/tinyimagenet

Every model has the recipe of configs/tinyimagenet.py: 300 epochs on all training
images. Nothing is tuned for a single model. The study needs accelerators. This project
has no result yet.
"""

from hybrid_jax.config import experiment
from hybrid_jax.studies.systems import PAPER_SYSTEMS as STUDY_MODELS


def get_config(model: str = STUDY_MODELS[0]):
    return experiment("tinyimagenet", model)
