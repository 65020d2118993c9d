"""How much memory a process may have, by trees of cgroups that need not be there."""

import math
import os

import psutil
import pytest

from hybrid_jax.data import memory_budget

V2 = "31 23 0:28 {root} {place} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "35 31 0:32 {root} {place} rw,relatime - cgroup cgroup rw,memory"
CPU = "32 31 0:29 {root} {place} rw,relatime - cgroup cgroup rw,cpu,cpuacct"
SLURM = "system.slice/slurmstepd.scope/job_7/step_0/user/task_0"
NO_LIMIT = str(2**63 - 4096)


@pytest.fixture
def allowed(tmp_path):
    def allowed(cgroup, mounts, limits):
        """Limits by file below the mounts, which are `NAME=line of mountinfo`."""
        process = tmp_path / "proc"
        process.mkdir()
        (process / "cgroup").write_text(cgroup)
        lines = [
            line.format(
                root=root, place=str(tmp_path / name).replace(" ", r"\040"), name=name
            )
            for name, (line, root) in mounts.items()
        ]
        (process / "mountinfo").write_text("\n".join(lines))
        for file, limit in limits.items():
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{limit}\n")
        return memory_budget._cgroup_limit(process)

    return allowed


@pytest.mark.parametrize(
    ("cgroup", "mounts", "limits", "least"),
    [
        # Slurm limits the step, two groups above the process's own.
        (
            f"0::/{SLURM}",
            {"fs": (V2, "/")},
            {
                f"fs/{SLURM}/memory.max": "max",
                "fs/system.slice/slurmstepd.scope/job_7/step_0/memory.max": 4000,
                "fs/system.slice/slurmstepd.scope/job_7/memory.max": 8000,
                "fs/system.slice/memory.max": "max",
            },
            4000,
        ),
        (
            "4:memory:/slurm/uid_0/job_7/step_0/task_0\n1:cpu,cpuacct:/\n0::/",
            {"m": (V1, "/"), "cpu": (CPU, "/"), "unified": (V2, "/")},
            {
                "m/slurm/uid_0/job_7/step_0/task_0/memory.limit_in_bytes": NO_LIMIT,
                "m/slurm/uid_0/job_7/step_0/memory.limit_in_bytes": 5000,
                "m/slurm/memory.limit_in_bytes": NO_LIMIT,
                "m/memory.limit_in_bytes": NO_LIMIT,
                "cpu/memory.limit_in_bytes": 1,
            },
            5000,
        ),
        # systemd nests a user's services.
        (
            "0::/user.slice/user-1.slice/user@1.service/app.slice/x.scope",
            {"a fs": (V2, "/")},
            {"a fs/user.slice/user-1.slice/memory.max": 6000},
            6000,
        ),
        # A container sees its own group as the root, whatever it is told.
        ("0::/", {"fs": (V2, "/")}, {"fs/memory.max": 7000}, 7000),
        ("0::/../other", {"fs": (V2, "/")}, {"fs/memory.max": 7000}, 7000),
        (
            "4:memory:/docker/ab/job",
            {"m": (V1, "/docker/ab")},
            {
                "m/memory.limit_in_bytes": 9000,
                "m/job/memory.limit_in_bytes": 8000,
            },
            8000,
        ),
        (
            "4:memory:/docker/abc",
            {"m": (V1, "/docker/ab")},
            {"m/memory.limit_in_bytes": 9000},
            9000,
        ),
        ("0::/a", {"fs": (V2, "/")}, {"fs/a/memory.max": "max"}, math.inf),
        ("4:memory:/", {"m": (V1, "/")}, {"m/memory.limit_in_bytes": NO_LIMIT}, None),
        ("", {}, {}, math.inf),
    ],
)
def test_the_tightest_of_all_groups_around_counts(
    allowed, cgroup, mounts, limits, least
):
    assert allowed(cgroup, mounts, limits) == (least or math.inf)


def test_names_of_mounts_may_hold_any_character(tmp_path):
    group = tmp_path / "fs"
    group.mkdir()
    (group / "memory.max").write_text("3000\n")
    (tmp_path / "cgroup").write_text("0::/\n")
    other = "31 23 8:1 / /media/a\x0cb\x85\u2028 rw - ext4 /dev/sdb1 rw"
    own = V2.format(root="/", place=group, name="fs")
    lines = [other.encode(), b"32 23 8:2 / /media/caf\xe9 rw - ext4 x rw", own.encode()]
    (tmp_path / "mountinfo").write_bytes(b"\n".join(lines))
    assert memory_budget._cgroup_limit(tmp_path) == 3000


def test_without_cgroups_there_is_no_limit(tmp_path):
    assert memory_budget._cgroup_limit(tmp_path / "nowhere") == math.inf


@pytest.mark.skipif(not os.path.exists("/proc/self/cgroup"), reason="of Linux")
def test_this_process_may_have_no_more_than_the_machine():
    assert 0 < memory_budget.device_memory() <= psutil.virtual_memory().total
