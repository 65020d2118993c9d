"""Accuracies that others have published, to be drawn beside those of a study.

They are their authors' claims. What these networks cost is counted by this project, of
its own network of that name; of one that it lacks, its authors tell the parameters.
"""

from typing import NamedTuple

from hybrid_jax.config.schema import Config
from hybrid_jax.data import Splits
from hybrid_jax.models import create_model
from hybrid_jax.models.cost import cost
from hybrid_jax.studies.costs import Cost

ASTROFORMER = "Dagli 2023"
CCT = "Hassani et al. 2021"
WRN = "Zagoruyko & Komodakis 2016"


class Published(NamedTuple):
    """A result of others.

    Attributes:
      model: the row of `MODELS` that is the network, or its authors' name.
      accuracy: on the test split, of training from scratch on all images; a share of 1.
      source: who says so.
      parameters: of a network that is no row of `MODELS`.
    """

    model: str
    accuracy: float
    source: str
    parameters: int = 0


# By `data.name`. Nobody has reproduced those of Dagli 2023 in print. WRN has dropout,
# and augments by crops and flips alone; CCT trains for 300 epochs.
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "cifar10": (
        Published("astroformer_3", 0.9912, ASTROFORMER),
        Published("astroformer_4", 0.9893, ASTROFORMER),
        Published("astroformer_5", 0.9323, ASTROFORMER),
        Published("wrn_28_10", 0.9611, WRN),
        Published("CCT-7/3x1", 0.965, CCT, 3_700_000),
    ),
    "cifar100": (
        Published("astroformer_3", 0.8765, ASTROFORMER),
        Published("astroformer_4", 0.9336, ASTROFORMER),
        Published("astroformer_5", 0.8938, ASTROFORMER),
        Published("wrn_28_10", 0.8115, WRN),
        Published("CCT-7/3x1", 0.809, CCT, 3_700_000),
    ),
    "tiny_imagenet": (
        Published("astroformer_3", 0.8686, ASTROFORMER),
        Published("astroformer_4", 0.9112, ASTROFORMER),
        Published("astroformer_5", 0.9298, ASTROFORMER),
    ),
    "galaxy10": (
        Published("astroformer_3", 0.9239, ASTROFORMER),
        Published("astroformer_4", 0.9486, ASTROFORMER),
        Published("astroformer_5", 0.9481, ASTROFORMER),
    ),
}


def published_for(config: Config) -> tuple[Published, ...]:
    """Return what is published for a config's data, if it trains on all of them."""
    data = config.data
    takes_part = data.protocol != "none" or data.fraction != 1 or data.per_class
    is_other_task = data.label != "label"  # such as superclasses
    return () if takes_part or is_other_task else PUBLISHED.get(data.name, ())


def count(point: Published, config: Config, splits: Splits) -> Cost:
    """Count what a network costs on the images of a study.

    Multiply-accumulates are those of this project's network; there are none of others.
    """
    if point.parameters:
        return Cost(point.parameters)
    height, width = config.data.image_size or splits.image_size
    size = int(height), int(width)
    network = create_model(point.model, len(splits.classes), size)
    counted = cost(network, splits.channels)
    return Cost(counted.parameters, counted.macs)
