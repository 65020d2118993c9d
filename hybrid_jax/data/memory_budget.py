"""Memory budget: whether a data set fits on the device, or is streamed to it."""

import math
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import jax
import psutil

from hybrid_jax import runtime
from hybrid_jax.data.lazy_images import LazyImages

SHARE = 0.25  # share of the memory for pixels; the rest is for the network
UNLIMITED = 2**62  # cgroups v1 writes larger numbers for no limit


def is_resident(loader: str, splits: Iterable[LazyImages]) -> bool:
    """Return whether all images are decoded once, and stay in memory.

    Then training images lie on the device, and others in the host's memory.

    Args:
      loader: value of `config.data.loader`.
      splits: images of each split that is used.
    """
    if loader != "auto":
        return loader == "resident"
    return sum(math.prod(images.shape) for images in splits) <= SHARE * device_memory()


def device_memory() -> int:
    """Return the device's memory in bytes; on a CPU, what this process may use.

    Raises:
      UserError: see `check_device`.
    """
    runtime.check_device()
    stats = jax.local_devices()[0].memory_stats() or {}
    total = psutil.virtual_memory().total
    return stats.get("bytes_limit") or int(min(_cgroup_limit(), total))


def _cgroup_limit(process: Path = Path("/proc/self")) -> float:
    """Return the bytes that a container or a scheduler's job may use (Linux cgroups).

    The tightest limit of a cgroup and its parents counts: Slurm sets the limit on a
    step, some levels above the process's cgroup.

    Args:
      process: folder of the process in `/proc`.
    """
    limits = [
        int(limit)
        for folder in _cgroup_folders(process)
        for file in ("memory.max", "memory.limit_in_bytes")
        if (limit := _read_text(folder / file)).isdigit()
    ]
    return min((limit for limit in limits if limit < UNLIMITED), default=math.inf)


def _cgroup_folders(process: Path) -> list[Path]:
    """Return the folders of a process's cgroups and of all their parents."""
    lines = (line.split(":", 2) for line in _read_lines(process / "cgroup"))
    paths = {controllers: path for _, controllers, path in lines}
    folders = []
    for line in _read_lines(process / "mountinfo"):
        mount_fields, _, mount_info = line.partition(" - ")
        kind, _, config = (*mount_info.split(" ", 2), "", "")[:3]
        root, mount_point = map(_unescaped, mount_fields.split(" ")[3:5])
        if kind == "cgroup2":
            path = paths.get("")
        elif kind == "cgroup" and "memory" in config.split(","):
            path = next((p for c, p in paths.items() if "memory" in c.split(",")), None)
        else:
            continue
        if path is not None:
            # A container's root is a cgroup; its path may be the path on the host.
            within = PurePosixPath(path).is_relative_to(root)
            inside = PurePosixPath(path).relative_to(root if within else "/")
            group = Path(mount_point) / inside
            folders += [group, *group.parents[: len(inside.parts)]]
    return folders


def _unescaped(path: str) -> str:
    r"""Decode a path of `mountinfo`, where a space is written `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), path)


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a file, in which names may hold any other line break."""
    return [line for line in _read_text(path).split("\n") if line]


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="surrogateescape").strip()
    except OSError:
        return ""
