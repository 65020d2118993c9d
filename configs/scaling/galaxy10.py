"""scaling/galaxy10: accuracy on Galaxy10 against the cost of models.

    hybrid-jax study scaling --config=scaling/galaxy10

Every model has the recipe of configs/galaxy10.py, but at 224 px, the size that the
networks are published for. Nothing is tuned for a single model. The study needs
accelerators. This project has no result yet.
"""

from hybrid_jax.config import experiment
from hybrid_jax.studies.systems import PAPER_SYSTEMS as STUDY_MODELS


def get_config(model: str = STUDY_MODELS[0]):
    config = experiment("galaxy10", model)
    config.data.image_size = (224, 224)
    return config
