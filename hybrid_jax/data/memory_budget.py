"""Whether a data set lies on the device whole, or is streamed to it."""

import math
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import jax
import psutil

from hybrid_jax.data.lazy_images import Encoded

SHARE = 0.25  # of the memory, for pixels; the rest is the network's
UNLIMITED = 2**62  # how the first version of cgroups writes that there is no limit


def is_resident(loader: str, splits: Iterable[Encoded]) -> bool:
    """Row of `config.data.loader`: `resident`, `stream`, or by size what fits."""
    if loader != "auto":
        return loader == "resident"
    return sum(math.prod(images.shape) for images in splits) <= SHARE * memory()


def memory() -> int:
    """Bytes of the device; on a CPU, of the machine, or what of it we may have."""
    of_device = jax.local_devices()[0].memory_stats() or {}
    total = psutil.virtual_memory().total
    return of_device.get("bytes_limit") or int(min(_allowed(), total))


def _allowed(process: Path = Path("/proc/self")) -> float:
    """Bytes that a container or a scheduler's job may have (Linux's cgroups).

    A group may have as much as the tightest of the groups around it: Slurm's limits are
    those of a step, some groups above the process's own.

    Args:
      process: what Linux tells of a process.
    """
    limits = [
        int(limit)
        for folder in _groups(process)
        for file in ("memory.max", "memory.limit_in_bytes")
        if (limit := _text(folder / file)).isdigit()
    ]
    return min((limit for limit in limits if limit < UNLIMITED), default=math.inf)


def _groups(process: Path) -> list[Path]:
    """Folders of the groups that a process is in, and of all around them."""
    lines = (line.split(":", 2) for line in _text(process / "cgroup").splitlines())
    paths = {controllers: path for _, controllers, path in lines}
    folders = []
    for line in _text(process / "mountinfo").splitlines():
        about, _, of_system = line.partition(" - ")
        kind, _, options = (*of_system.split(" ", 2), "", "")[:3]
        root, place = map(_unescaped, about.split()[3:5])
        if kind == "cgroup2":
            path = paths.get("")
        elif kind == "cgroup" and "memory" in options.split(","):
            path = next((p for c, p in paths.items() if "memory" in c.split(",")), None)
        else:
            continue
        if path is not None:
            # A container's root is a group, whose path may be that on the host.
            within = PurePosixPath(path).is_relative_to(root)
            inside = PurePosixPath(path).relative_to(root if within else "/")
            group = Path(place) / inside
            folders += [group, *group.parents[: len(inside.parts)]]
    return folders


def _unescaped(path: str) -> str:
    """A path of `mountinfo`, where a space is written `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), path)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
