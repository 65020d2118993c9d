"""The published archives of a data set: the user's own copies, or downloads."""

from pathlib import Path

import requests
import tensorflow_datasets as tfds

from hybrid_jax.errors import UserError

SECONDS_TO_ANSWER = 10


def fetch(
    builder: tfds.core.DatasetBuilder, dl_manager: tfds.download.DownloadManager
) -> dict[str, Path]:
    """The archives of a builder's `url_infos` by file name, verified by their sha256.

    Those in `<data_dir>/downloads/manual` are taken from there.

    Raises:
      UserError: one is neither there nor to be had, or is not the published one.
    """
    urls = {info.filename: url for url, info in builder.url_infos.items()}
    manual = Path(builder.data_path).parents[1] / "downloads" / "manual"
    way_out = f"put the published {', '.join(urls)} into {manual}"
    if hint := getattr(builder, "HINT", ""):
        way_out += f", or {hint}"
    for name, url in urls.items():
        if not (manual / name).exists():
            _check_reachable(builder.name, name, url, way_out)
    try:
        paths = dl_manager.download(urls)
    except tfds.core.download.download_manager.NonMatchingChecksumError:
        raise UserError(
            f"{builder.name}: a file is not the published one, by its sha256; {way_out}"
        ) from None
    except (requests.RequestException, tfds.core.download.DownloadError) as error:
        raise UserError(
            f"{builder.name}: the download failed ({_reason(error)}); {way_out}"
        ) from None
    return {name: Path(path) for name, path in paths.items()}


def _check_reachable(builder_name: str, file: str, url: str, way_out: str) -> None:
    """Fails at once where TFDS would try for minutes."""
    try:
        requests.head(url, timeout=SECONDS_TO_ANSWER).raise_for_status()
    except requests.RequestException as error:
        raise UserError(
            f"{builder_name}: {file} cannot be downloaded from {url} "
            f"({_reason(error)}); {way_out}"
        ) from None


def _reason(error: Exception) -> str:
    return type(error).__name__
