"""The arrays of a checkpoint, in orbax's files: read, compared, and merged.

Every process writes its arrays into a folder of its own, `ocdbt.process_0` and so on,
and orbax then merges their indices into `manifest.ocdbt`. Without it nothing is read.
"""

from pathlib import Path

import jax
import orbax.checkpoint as ocp
from etils import epath

from hybrid_jax.paths import plain

INDEX, PARTS = "manifest.ocdbt", "ocdbt.process_"
CANNOT_BE_FOUND = f"orbax wrote no {INDEX}"


def read(folder: Path, template=None):
    """Arrays as nested dictionaries, or in the structure of a template.

    Args:
      folder: theirs.
      template: a tree of `ShapeDtypeStruct` with shardings; None reads all there is,
        onto the first device of this host alone.

    Raises:
      Exception: of many kinds, of orbax and tensorstore, if they cannot be read.
      ValueError: an array is missing, or of another shape or dtype.
    """
    options = _alone() if template is None else {}
    saved = _described(folder)
    if template is None:
        template = jax.tree.map(_here, saved)
    else:
        compare(saved, template)
    with ocp.Checkpointer(
        ocp.StandardCheckpointHandler(**options), **options
    ) as reader:
        return reader.restore(plain(folder), args=ocp.args.StandardRestore(template))


def check(folder: Path, template) -> None:
    """Opens every array, and reads none.

    Args:
      folder: theirs.
      template: a tree of what was saved, arrays or their shapes.

    Raises:
      Exception: of `read`.
    """
    if not (folder / INDEX).exists():
        raise ValueError(CANNOT_BE_FOUND)
    compare(_described(folder), template)


def is_apart(folder: Path) -> bool:
    """Whether arrays are there, and were never merged."""
    return any(folder.glob(f"{PARTS}*")) and not (folder / INDEX).exists()


def merge(folder: Path) -> None:
    """Merges what processes wrote, without reading it.

    Raises:
      Exception: of orbax and tensorstore, if it is damaged.
    """
    handler = ocp.StandardCheckpointHandler(**_alone())
    handler.finalize(epath.Path(plain(folder)))


def compare(saved, template) -> None:
    """Refuses arrays of another shape or dtype; orbax would cast them silently.

    Raises:
      ValueError: names the first.
    """
    theirs = dict(_leaves(saved))
    for path, x in _leaves(template):
        found = theirs.get(path)
        if found is None:
            raise ValueError(f"{path} is missing")
        if (tuple(found.shape), found.dtype) != (x.shape, x.dtype):
            raise ValueError(
                f"{path} is {found.dtype} {tuple(found.shape)} there and "
                f"{x.dtype} {x.shape} here"
            )


def _described(folder: Path):
    """A tree of the shapes and dtypes of all arrays, each of which is opened."""
    handler = ocp.StandardCheckpointHandler(**_alone())
    return handler.metadata(epath.Path(plain(folder))).tree


def _leaves(tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _alone() -> dict:
    """Options of orbax for what one process reads by itself."""
    number = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=number,
        active_processes={number},
        barrier_sync_key_prefix=f"host{number}",
    )
    return {"multiprocessing_options": alone}


def _here(saved) -> jax.ShapeDtypeStruct:
    """An array, whatever devices it was saved from, on the first of this host."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(saved.shape, saved.dtype, sharding=sharding)
