"""scaling/cifar100: accuracy on CIFAR-100 against the cost of models.

    hybrid-jax study scaling --config=scaling/cifar100

Every model has the recipe of configs/cifar100.py: 300 epochs on all training
images. Nothing is tuned for a single model. The study needs accelerators. This project
has no result yet.
"""

from hybrid_jax.config import experiment
from hybrid_jax.studies.systems import PAPER_SYSTEMS as STUDY_MODELS


def get_config(model: str = STUDY_MODELS[0]):
    return experiment("cifar100", model)
