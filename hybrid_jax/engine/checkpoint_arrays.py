"""The arrays of a checkpoint, in orbax's files: read, compared, and merged.

Every process writes its arrays into a folder of its own, `ocdbt.process_0` and so on,
and orbax then merges their indices into `manifest.ocdbt`. Without it nothing is read.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import orbax.checkpoint as ocp
import tensorstore
from etils import epath

from hybrid_jax.paths import plain

INDEX, TREE, PARTS = "manifest.ocdbt", "_METADATA", "ocdbt.process_"
ARRAY = (b"/.zarray", b"/zarr.json")  # how the keys of an array's description end


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


def read_parts(folder: Path, names: Sequence[str]) -> dict:
    """Some of the entries of what was saved, onto the first device of this host.

    Args:
      folder: of the arrays.
      names: of entries; those that were saved empty are left out.

    Raises:
      Exception: of `read`.
    """
    saved = _described(folder)
    wanted = {
        name: jax.tree.map(_here, saved[name]) for name in names if saved.get(name)
    }
    if not wanted:
        return {}
    arguments = ocp.args.PyTreeRestore(
        wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=True,
    )
    with ocp.Checkpointer(
        ocp.PyTreeCheckpointHandler(**_alone()), **_alone()
    ) as reader:
        return reader.restore(plain(folder), args=arguments)


def check(folder: Path, arrays: int) -> None:
    """Looks up what `read` needs, in milliseconds; no array is opened.

    Args:
      folder: theirs.
      arrays: how many were saved.

    Raises:
      Exception: of `read`.
      ValueError: something is missing.
    """
    for name in (INDEX, TREE):
        if not (folder / name).exists():
            raise ValueError(f"orbax wrote no {name}")
    files = {"driver": "file", "path": f"{plain(folder)}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": files}).result()
    found = sum(key.endswith(ARRAY) for key in store.list().result())
    if found != arrays:
        raise ValueError(f"{INDEX} lists {found} of {arrays} arrays")


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
