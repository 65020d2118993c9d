"""scaling/galaxy10: accuracy on Galaxy10 against what models cost.

    hybrid-jax study scaling --config=scaling/galaxy10

The recipe is that of configs/galaxy10.py for every model, but at 224 px, the size that
the networks are published for; nothing is tuned for one of them. For accelerators; no
result of this project's own yet.
"""

from hybrid_jax.config import experiment
from hybrid_jax.studies.systems import PAPER_SYSTEMS as STUDY_MODELS


def get_config(model: str = STUDY_MODELS[0]):
    config = experiment("galaxy10", model)
    config.data.image_size = (224, 224)
    return config
