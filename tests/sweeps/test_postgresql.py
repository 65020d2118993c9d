"""Workers that share a sweep through a real PostgreSQL, one of them killed."""

import csv
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import event, text

from hybrid_jax.config.files import load_config
from hybrid_jax.config.resolve import resolve
from hybrid_jax.sweeps.search import create_search
from hybrid_jax.sweeps.storage import KEEPALIVES, Store
from tests.commands import hybrid_jax
from tests.sweeps.test_sweep import (
    FIELDS,
    TINY,
    kill_half_way,
    start,
)

PLACES = [*Path("/usr/lib/postgresql").glob("*/bin"), *os.get_exec_path()]
BINARIES = next((p for p in map(Path, PLACES) if (p / "initdb").exists()), None)
# It refuses to run as root.
USER = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.fixture(scope="module")
def database():
    """The URL of a new database, which listens in its folder and on this machine."""
    if BINARIES is None:
        pytest.skip("PostgreSQL is not installed")
    folder = tempfile.mkdtemp(prefix="hybrid_jax-postgresql-", dir="/tmp")
    if USER:
        shutil.chown(folder, "nobody")
    data = f"{folder}/data"

    def run(*words):
        subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL, **USER)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [str(BINARIES / "pg_ctl"), "-D", data, "-w"]
    run(str(BINARIES / "initdb"), "-D", data, "-U", "sweeper", "--no-sync")
    run(*control, "-o", options, "-l", f"{folder}/log", "start")
    try:
        yield f"postgresql://sweeper@/postgres?host={folder}&port={port}"
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_a_host_that_vanishes_does_not_keep_its_lock(database, tmp_path, digits):
    """PostgreSQL notices it by TCP, which a socket in a folder has not."""
    config = resolve(load_config(TINY[0].partition("=")[2], {}))
    search = create_search(config, {"optim.clip_norm": "1,2"})
    port = database.rpartition("=")[2]
    url = f"postgresql://sweeper@127.0.0.1:{port}/postgres"
    store = Store(search, tmp_path / "tcp", url)
    held = []
    event.listen(store._storage.engine, "engine_connect", held.append)
    with store.exclusive():
        told = [held[-1].execute(text(f"SHOW {name}")).scalar() for name in KEEPALIVES]
    assert told == ["30", "10", "3"]


def test_a_worker_completes_what_another_began_that_was_killed(
    database, tmp_path, digits
):
    folder = tmp_path / "sweep"
    words = [*TINY, FIELDS[0], FIELDS[1], "--config.train.epochs=8"]
    words += [f"--workdir={folder}", f"--storage={database}"]
    workers = [start(*words), start(*words)]  # by hand, as on two machines
    pids = [worker.pid for worker in workers]
    killed = kill_half_way(folder, workers[0], lambda: pids)
    ends = [worker.communicate(timeout=300)[0] for worker in workers]
    assert sorted(worker.returncode for worker in workers) == [-9, 0], ends
    assert "2 trials: 2 complete" in "".join(ends)
    rows = [*csv.DictReader((folder / "results.csv").open(encoding="utf-8"))]
    tried = sorted((int(row["trial"]), row["train.sampling"]) for row in rows)
    assert tried == [(0, "uniform"), (1, "balanced")]
    assert "Resuming after step " in (killed / "log.txt").read_text()
    for run in folder.glob("trials/*/seed-0"):
        steps = (run / "metrics.jsonl").read_text().count('"split": "validation"')
        assert steps == 8  # each epoch once, whoever trained it
    assert not (folder / "study.sqlite3").exists()
    folder.rename(tmp_path / "elsewhere")
    refused = hybrid_jax("sweep", *words)
    assert refused.returncode == 2
    assert (
        "--storage knows 2 trials of this sweep, whose runs are not" in refused.stderr
    )
    (tmp_path / "elsewhere" / "trials").rename(folder / "trials")
    again = hybrid_jax("sweep", *words)
    assert "2 trials: 2 complete" in again.stdout, again.stderr
    moved = database.replace("/postgres?", "/template1?")  # as far as the folder knows
    refused = hybrid_jax("sweep", *words, f"--storage={moved}")
    assert "--storage knows no trial of the sweep in --workdir=" in refused.stderr
