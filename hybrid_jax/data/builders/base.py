"""Base class of the builders."""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

DownloadManager = tfds.download.DownloadManager
# The key of each example, with its values by feature.
Examples = Iterator[tuple[str | int, dict[str, Any]]]


class Builder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]  # TFDS's types lack it
):
    """A builder of labeled images that is not registered with TFDS."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(skip_registration=True, **kwargs)

    def make_info(
        self,
        features: dict[str, Any],
        *,
        description: str,
        homepage: str,
        citation: str,
    ) -> tfds.core.DatasetInfo:
        """Return the metadata of a set with the features `image` and `label`."""
        return tfds.core.DatasetInfo(
            builder=self,
            description=description,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=homepage,
            citation=citation,
        )
