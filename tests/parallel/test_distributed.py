"""Processes of one run: two of them, with two devices each, that really talk."""

import itertools
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hybrid_jax.checkpoints.reader import CheckpointReader
from hybrid_jax.cli.train import parse
from hybrid_jax.errors import ProcessDied, UserError
from hybrid_jax.parallel import distributed
from tests.commands import hybrid_jax
from tests.parallel.runs import ALL, EXPERIMENT, STEPS, environment
from tests.parallel.test_kinds import LATER, losses

ROOT = Path(__file__).parents[2]


def start(workdir, *more, each=((), ()), program=("-m", "hybrid_jax.main")):
    """Start two processes; `each` are further arguments of either."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [
                sys.executable,
                *program,
                *EXPERIMENT,
                f"--workdir={workdir}",
                f"--coordinator=localhost:{port}",
                "--processes=2",
                f"--process={i}",
                *more,
                *each[i],
            ],
            cwd=ROOT,
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]


def ended(processes):
    """Exit codes, and what our command had to say of the end."""
    outputs = [process.communicate(timeout=300) for process in processes]
    last = [
        [line for line in err.splitlines() if line.startswith("hybrid-jax: ")]
        for _, err in outputs
    ]
    for _, err in outputs:
        assert "Traceback" not in err, err
    return [process.returncode for process in processes], last, outputs


def wait_for_lines(workdir, count, process):
    path = workdir / "metrics.jsonl"
    while process.poll() is None:
        if path.exists() and path.read_text().count("\n") >= count:
            return
        time.sleep(0.05)


SHARED = ("--config.parallel.fsdp=4",)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Losses on the one device of this process."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    done = hybrid_jax(*EXPERIMENT, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return losses(workdir)


@pytest.fixture(scope="module")
def signaled(tmp_path_factory):
    """A run of two processes, one of which got a signal; what came of it."""
    workdir = (
        tmp_path_factory.mktemp("signaled") / "run[1]"
    )  # which orbax would misread
    processes = start(workdir, *SHARED)
    wait_for_lines(workdir, 5, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    codes, last, outputs = ended(processes)
    return workdir, codes, last, outputs


def test_a_signal_to_one_ends_both_with_one_step(alone, signaled):
    """Parameters are cut over both, so that each of them saves a part."""
    workdir, codes, last, outputs = signaled
    step = CheckpointReader(workdir / "checkpoints").latest()
    assert codes == [143, 143]
    said = f"hybrid-jax: ended by SIGTERM with step {step} saved; run the same "
    assert last == [[f"{said}command to resume"]] * 2
    assert "on 4 x cpu of 2 hosts, by jit, parameters sharded over 4" in outputs[0][0]
    assert "step" not in outputs[1][0]  # one of them speaks
    assert 0 < step < STEPS
    assert losses(workdir) == pytest.approx(alone[:step], rel=LATER)


@pytest.mark.skipif(not ALL, reason="only with HYBRID_JAX_KINDS=all")
def test_both_go_on(alone, signaled, tmp_path):
    step = CheckpointReader(signaled[0] / "checkpoints").latest()
    workdir = shutil.copytree(signaled[0], tmp_path / "run")
    codes, _, outputs = ended(start(workdir, *SHARED))
    assert codes == [0, 0], outputs
    assert f"Resuming after step {step} of {STEPS}" in outputs[0][0]
    assert losses(workdir) == pytest.approx(alone, rel=LATER)


@pytest.mark.skipif(not ALL, reason="only with HYBRID_JAX_KINDS=all")
def test_pmap_goes_over_hosts_too(alone, tmp_path):
    more = ("--config.parallel.kind=pmap", "--config.data.loader=stream")
    codes, _, _ = ended(start(tmp_path / "run", *more))
    assert codes == [0, 0]
    assert losses(tmp_path / "run") == pytest.approx(alone, rel=LATER)


@pytest.mark.skipif(not ALL, reason="only with HYBRID_JAX_KINDS=all")
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_other_ends_too(alone, tmp_path, victim):
    """By our word or by jax's, which asks after it for 100 seconds."""
    workdir = tmp_path / "run"
    processes = start(workdir, *SHARED)
    wait_for_lines(workdir, 3, processes[0])
    processes[victim].kill()
    codes = [process.wait() for process in processes]
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] in (ProcessDied.code, -signal.SIGABRT)
    codes, _, _ = ended(start(workdir, *SHARED))
    assert codes == [0, 0]
    assert losses(workdir) == pytest.approx(alone, rel=LATER)


# Where jax alone hears of SIGTERM, as of any notice that a cloud may give to it.
UNHEARD = """
import signal, sys
from hybrid_jax.main import main
from hybrid_jax.parallel import signals

signals.SIGNALS = (signal.SIGINT,)
sys.exit(main(sys.argv))
"""


@pytest.mark.skipif(not ALL, reason="only with HYBRID_JAX_KINDS=all")
def test_a_notice_of_the_cloud_ends_both(tmp_path):
    workdir = tmp_path / "run"
    processes = start(workdir, *SHARED, program=("-c", UNHEARD))
    wait_for_lines(workdir, 3, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    codes, _, _ = ended(processes)
    assert codes == [143, 143]
    assert 0 < CheckpointReader(workdir / "checkpoints").latest() < STEPS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--config.optim.weight_decay=0.1",),
            "host 1 has another setting: config.optim.weight_decay is 0.1 there and "
            "0.05 on host 0. Start all hosts with the same setting",
        ),
        (
            ("--config.data.name=folder", "--config.data.path=/nowhere"),
            "host 1 has another setting: config.data.name is folder there and digits "
            "on host 0. Start all hosts with the same setting",
        ),
    ],
)
def test_hosts_that_disagree_stop(tmp_path, arguments, message):
    codes, last, _ = ended(start(tmp_path / "run", each=((), arguments)))
    assert codes == [2, 2]
    assert last == [[f"hybrid-jax: {message}"]] * 2
    assert not (tmp_path / "run").exists()


def test_what_ends_one_ends_both(tmp_path):
    (tmp_path / "run").write_text("a file")
    each = ((), (f"--workdir={tmp_path / 'other'}",))
    codes, last, _ = ended(start(tmp_path / "run", each=each))
    assert codes == [2, 2]
    why = f"--workdir={tmp_path / 'run'} is a file; give a folder"
    twice = "hybrid-jax: --workdir is given 2 times; the last value counts"
    assert last == [
        [f"hybrid-jax: {why}"],
        [twice, f"hybrid-jax: host 0 has ended: {why}"],
    ]


def command(*more):
    return ["--config=configs/digits.py", "--workdir=w", *more]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--processes=2",), "--coordinator is missing"),
        (("--coordinator=host", "--processes=2"), "--coordinator=host is not allowed"),
        (("--coordinator=a:65536", "--processes=2"), "with a port up to 65535"),
        (("--coordinator=a:1",), "--processes is missing"),
        (
            ("--coordinator=a:1", "--processes=2", "--process=2"),
            "--process=2 is not allowed: give a number below --processes=2",
        ),
    ],
)
def test_flags_of_hosts_are_checked(flags, message):
    with pytest.raises(UserError, match=message):
        parse(command(*flags))


def test_a_coordinator_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(distributed, "TIMEOUT", 0.1)
    with pytest.raises(UserError, match="localhost:1 cannot be reached"):
        distributed.initialize("localhost:1", 2, 1)


ALONE = """
import sys
from hybrid_jax.cli.common import guarded
from hybrid_jax.parallel import distributed

distributed.TIMEOUT = 2
sys.exit(guarded(lambda: print(distributed.initialize())))
"""


def test_a_process_of_a_cluster_that_stays_alone_says_so():
    """In an environment as srun makes it; jax would abort the process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        job = free.getsockname()[1]  # jax makes a port from it
    counts = ("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES")
    slurm = {name: "2" for name in counts}
    slurm |= {"SLURM_JOB_ID": str(job), "SLURM_STEP_NODELIST": "localhost"}
    slurm |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=ROOT,
        env=environment(1) | slurm,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "hybrid-jax: not all processes of the run came within 2 s: start all of them "
        "at once, and look for one that has ended"
    )


@pytest.mark.parametrize("port", [None, 99999])
def test_a_port_that_cannot_be_had_is_told(port):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = port or other.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} cannot be opened"):
            distributed.initialize(f"localhost:{port}", 2, 0)


def test_flags_of_hosts():
    flags = ("--coordinator=a:1234", "--processes=2", "--process=1")
    assert parse(command(*flags)).hosts == ("a:1234", 2, 1)


@pytest.mark.parametrize(
    ("variables", "many"),
    [
        ({}, False),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "8"}, True),
        ({"SLURM_STEP_NUM_TASKS": "8"}, False),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, True),
    ],
)
def test_a_cluster_is_known_by_its_variables(monkeypatch, variables, many):
    for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: None)
    asked = []
    monkeypatch.setattr(
        distributed.jax.distributed,
        "initialize",
        lambda **given: asked.append(given["coordinator_address"]),
    )
    found = distributed.initialize()
    assert asked == ([None] if many else [])
    assert not found.is_distributed


class Service:
    """The coordination service, which takes every key once."""

    def __init__(self):
        self._values, self._news = {}, threading.Condition()

    def key_value_set(self, key, value):
        with self._news:
            assert key not in self._values, key
            self._values[key] = value
            self._news.notify_all()

    def blocking_key_value_get(self, key, milliseconds):
        with self._news:
            assert self._news.wait_for(lambda: key in self._values, milliseconds / 1000)
            return self._values[key]

    def key_value_dir_get(self, prefix):
        return [item for item in self._values.items() if item[0].startswith(prefix)]


def test_runs_one_after_the_other_leave_each_other_alone(monkeypatch):
    """A signal, or what was agreed on, is of one run; processes count them alike."""
    service, counts = Service(), [itertools.count(), itertools.count()]
    monkeypatch.setattr(distributed, "_service", lambda: service)

    def next_run(number):
        monkeypatch.setattr(distributed, "_run_numbers", counts[number])
        return distributed.Hosts(number, 2)

    for run in range(2):
        both = [next_run(number) for number in range(2)]

        def talk(one, run=run):
            one.check_equal("setting", lambda: {"run": run})
            return one.broadcast(lambda: run)

        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(talk, both)) == [run, run]
        assert both[0].reported_signal() is None
        both[1].report_signal(signal.SIGTERM)
        assert both[0].reported_signal() == signal.SIGTERM
