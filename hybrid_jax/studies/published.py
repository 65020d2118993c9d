"""Published accuracies, to be drawn beside those of a study.

The accuracies are claims of their authors. Costs are counted by this project on its own
network of the same name. If this project lacks a network, only the number of
parameters that its authors state is known.
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
    """A published result.

    Attributes:
      model: row of `MODELS`, or the authors' name of a network that is not in `MODELS`.
      accuracy: test accuracy after training from scratch on all images, a share of 1.
      source: publication.
      parameters: number of parameters of a network that is not in `MODELS`, else 0.
    """

    model: str
    accuracy: float
    source: str
    parameters: int = 0


# By `data.name`. No publication has reproduced Dagli 2023. WRN has dropout, and only
# crops and flips as augmentation. CCT trains for 300 epochs.
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
    """Return the published results for a config's data; none if it uses a subset."""
    data = config.data
    takes_part = data.protocol != "none" or data.fraction != 1 or data.per_class
    is_other_task = data.label != "label"  # such as superclasses
    return () if takes_part or is_other_task else PUBLISHED.get(data.name, ())


def count(point: Published, config: Config, splits: Splits) -> Cost:
    """Count the cost of a published network on the images of a study.

    Multiply-accumulates are known only for networks that this project has.
    """
    if point.parameters:
        return Cost(point.parameters)
    height, width = config.data.image_size or splits.image_size
    size = int(height), int(width)
    network = create_model(point.model, len(splits.classes), size)
    counted = cost(network, splits.channels)
    return Cost(counted.parameters, counted.macs)
