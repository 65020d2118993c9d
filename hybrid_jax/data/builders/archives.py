"""Published archives of a data set: the user's copies, or downloads.

Builders read an archive's files by their exact names and write none of them to disk.
Nevertheless, an archive with a member outside of its folder is refused as a whole.
"""

import glob
import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import resource

from hybrid_jax.errors import UserError
from hybrid_jax.paths import user_path

CONNECT_SECONDS = 10


def fetch(
    builder: tfds.core.DatasetBuilder, dl_manager: tfds.download.DownloadManager
) -> dict[str, Path]:
    """Return the archives of a builder's `url_infos` by file name.

    Archives in `<data_dir>/downloads/manual`, or in the builder's `manual_dir` if it
    has one, are not downloaded, nor are those that TFDS downloaded before. All are
    verified by their sha256.

    Raises:
      UserError: an archive cannot be downloaded, or is not the published one.
    """
    urls = {info.filename: url for url, info in builder.url_infos.items()}
    manual, way_out = manual_folder(builder), how_to_get(builder)
    for name, url in urls.items():
        if (manual / name).exists():
            _check_file(manual / name, way_out)
        elif not _is_downloaded(dl_manager, builder, url):
            if os.path.lexists(manual / name):
                _check_file(manual / name, way_out)
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


def manual_folder(builder: tfds.core.DatasetBuilder) -> Path:
    """Return the folder of archives that the user downloaded."""
    return Path(
        getattr(builder, "manual_dir", "")
        or user_path(builder.data_path).parents[1] / "downloads" / "manual"
    )


def how_to_get(builder: tfds.core.DatasetBuilder) -> str:
    """Return how a user gets the archives of a builder, without a network."""
    names = ", ".join(info.filename for info in builder.url_infos.values())
    hint = getattr(builder, "HINT", "")
    return f"put the published {names} into {manual_folder(builder)}" + (
        f", or {hint}" if hint else ""
    )


def check_member(archive: Path, name: str, regular: bool) -> None:
    """Refuse a member that would lie, or point, outside of the archive's folder.

    Args:
      archive: path, for the message.
      name: path of the member in the archive.
      regular: whether the member is a file or a folder, not a link or a device.

    Raises:
      UserError: the member is not safe.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.anchor or ".." in windows.parts:
        raise UserError(f"{archive} is not safe: {name!r} lies outside of its folder")
    if not regular:
        raise UserError(f"{archive} is not safe: {name!r} is a link or device")


def _check_file(path: Path, way_out: str) -> None:
    """Refuse what is no file, or may not be read.

    Raises:
      UserError: it is one of these; a pipe, for example, would be read forever.
    """
    if path.is_dir():
        reason = "it is a folder"
    elif not path.exists():
        reason = "it is a link to a missing file"
    elif not path.is_file():
        reason = "it is no regular file"
    elif not os.access(path, os.R_OK):
        reason = "permission denied"
    else:
        return
    raise UserError(f"{path} cannot be read ({reason}): remove it, and {way_out}")


def _is_downloaded(
    dl_manager: tfds.download.DownloadManager,
    builder: tfds.core.DatasetBuilder,
    url: str,
) -> bool:
    """Return whether TFDS has downloaded the published file before."""
    name = resource.get_dl_fname(url, builder.url_infos[url].checksum)
    found = Path(dl_manager.download_dir).rglob(glob.escape(name))
    return any(resource.is_locally_cached(path) for path in found)


def _check_reachable(builder_name: str, file: str, url: str, way_out: str) -> None:
    """Refuse an unreachable URL at once; TFDS would retry it for minutes."""
    try:
        requests.head(url, timeout=CONNECT_SECONDS).raise_for_status()
    except requests.RequestException as error:
        raise UserError(
            f"{builder_name}: {file} cannot be downloaded from {url} "
            f"({_reason(error)}); {way_out}"
        ) from None


def _reason(error: Exception) -> str:
    return type(error).__name__
