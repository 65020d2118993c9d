"""scaling/cifar100: accuracy on CIFAR-100 against what models cost.

    hybrid-jax study scaling --config=scaling/cifar100

The recipe is that of configs/cifar100.py for every model, 300 epochs of all
training images; nothing is tuned for one of them. For accelerators; no result of this
project's own yet.
"""

from hybrid_jax.config import experiment
from hybrid_jax.studies.systems import PAPER_SYSTEMS as STUDY_MODELS


def get_config(model: str = STUDY_MODELS[0]):
    return experiment("cifar100", model)
