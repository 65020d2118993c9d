"""Read, compare and merge the arrays of a checkpoint, in orbax's files.

Every process writes its arrays into a folder of its own (`ocdbt.process_0`, …). Then
orbax merges their indices into `manifest.ocdbt`, without which nothing can be read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import tensorstore
from etils import epath

from hybrid_jax.paths import library_path

INDEX, TREE, PROCESS = "manifest.ocdbt", "_METADATA", "ocdbt.process_"
ARRAY_KEYS = (b"/.zarray", b"/zarr.json")  # ends of the keys of arrays' metadata


def read(folder: Path, template: Any = None) -> Any:
    """Return the arrays of a checkpoint.

    Args:
      folder: folder of the arrays.
      template: tree of `ShapeDtypeStruct` with shardings, whose structure is returned.
        None returns all arrays as nested dictionaries, on the first device of this
        host.

    Raises:
      ValueError: an array is missing, or differs in shape or dtype.
      Exception: reading fails; orbax and tensorstore raise many kinds.
    """
    options: dict[str, Any] = {}
    saved = _metadata(folder)
    if template is None:
        options = _single_process()
        template = jax.tree.map(_on_first_device, saved)
    else:
        check_matches(saved, template)
    handler = ocp.StandardCheckpointHandler(**options)
    with ocp.Checkpointer(handler, **options) as reader:
        return reader.restore(
            library_path(folder), args=ocp.args.StandardRestore(template)
        )


def read_entries(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return some entries of a checkpoint, on the first device of this host.

    Args:
      folder: folder of the arrays.
      names: names of the entries. Entries that were saved empty are left out.

    Raises:
      Exception: reading fails; orbax and tensorstore raise many kinds.
    """
    saved = _metadata(folder)
    template = {
        name: jax.tree.map(_on_first_device, saved[name])
        for name in names
        if saved.get(name)
    }
    if not template:
        return {}
    arguments = ocp.args.PyTreeRestore(
        template,
        restore_args=ocp.checkpoint_utils.construct_restore_args(template),
        partial_restore=True,
    )
    options = _single_process()
    handler = ocp.PyTreeCheckpointHandler(**options)
    with ocp.Checkpointer(handler, **options) as reader:
        return reader.restore(library_path(folder), args=arguments)


def check_complete(folder: Path, count: int) -> None:
    """Check within milliseconds that all arrays can be found; open none of them.

    Args:
      folder: folder of the arrays.
      count: number of arrays that were saved.

    Raises:
      ValueError: an index or an array is missing.
      Exception: reading fails; tensorstore raises many kinds.
    """
    for name in (INDEX, TREE):
        if not (folder / name).exists():
            raise ValueError(f"orbax wrote no {name}")
    files = {"driver": "file", "path": f"{library_path(folder)}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": files}).result()
    found = sum(key.endswith(ARRAY_KEYS) for key in store.list().result())
    if found != count:
        raise ValueError(f"{INDEX} lists {found} of {count} arrays")


def is_unmerged(folder: Path) -> bool:
    """Return whether processes wrote arrays that orbax has not merged."""
    return any(folder.glob(f"{PROCESS}*")) and not (folder / INDEX).exists()


def merge(folder: Path) -> None:
    """Merge the indices that the processes wrote; read no array.

    Raises:
      Exception: an index is damaged; orbax and tensorstore raise many kinds.
    """
    handler = ocp.StandardCheckpointHandler(**_single_process())
    handler.finalize(epath.Path(library_path(folder)))


def check_matches(saved: Any, template: Any) -> None:
    """Refuse arrays of other shapes or dtypes, which orbax would cast silently.

    Raises:
      ValueError: an array differs; the message names the first one.
    """
    saved_leaves = dict(_leaves(saved))
    for path, x in _leaves(template):
        found = saved_leaves.get(path)
        if found is None:
            raise ValueError(f"{path} is missing")
        if (tuple(found.shape), found.dtype) != (x.shape, x.dtype):
            raise ValueError(
                f"{path} is {found.dtype} {tuple(found.shape)} there and "
                f"{x.dtype} {x.shape} here"
            )


def _metadata(folder: Path) -> Any:
    """Open every array, and return the tree of their shapes and dtypes."""
    handler = ocp.StandardCheckpointHandler(**_single_process())
    return handler.metadata(epath.Path(library_path(folder))).tree


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _single_process() -> dict[str, Any]:
    """Return orbax's options for reading in this process alone."""
    number = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=number,
        active_processes={number},
        barrier_sync_key_prefix=f"host{number}",
    )
    return {"multiprocessing_options": options}


def _on_first_device(saved: Any) -> jax.ShapeDtypeStruct:
    """Return shape and dtype of a saved array, placed on this host's first device."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(saved.shape, saved.dtype, sharding=sharding)
