"""launch/sky.sh against a stub of sky, and what sky.yaml has that a run needs."""

import subprocess

import pytest

from tests.launch.conftest import LAUNCH, refused
from tests.launch.test_tpu import CONFIG, HOSTILE

BUCKET = "--bucket=s3://my-runs"


@pytest.fixture(scope="module")
def job() -> dict:
    yaml = pytest.importorskip("yaml")  # flax brings it
    return yaml.safe_load((LAUNCH / "sky.yaml").read_text())


def test_it_launches_a_managed_job(stage):
    options = ("--gpus", "L4:1", "--infra=gcp")
    done = stage.run("sky.sh", BUCKET, "--run=r1", *options, "--", CONFIG)
    assert done.returncode == 0, done.stderr
    assert stage.calls() == [
        [
            "sky",
            "jobs",
            "launch",
            "--name",
            "r1",
            "--workdir",
            f"{LAUNCH}/..",
            "--env",
            "BUCKET=s3://my-runs",
            "--env",
            "RUN=r1",
            "--env",
            f"ARGUMENTS={CONFIG}",
            *options,
            f"{LAUNCH}/sky.yaml",
        ]
    ]


def test_hostile_arguments_reach_the_run_whole(stage, job):
    stage.run("sky.sh", BUCKET, "--", *HOSTILE)
    call = stage.calls("sky")[0]
    env = dict(x.split("=", 1) for x in call if x.startswith(("RUN=", "ARGUMENTS=")))
    program = stage.folder / "hybrid_jax" / "bin" / "hybrid-jax"
    program.parent.mkdir(parents=True)
    program.symlink_to(stage.bin / "hybrid-jax")
    done = subprocess.run(["bash", "-c", job["run"]], env=stage.env | env)
    assert done.returncode == 0
    workdir = stage.folder / "runs" / "hybrid-jax"
    assert stage.calls("hybrid-jax")[0][1:] == [*HOSTILE, f"--workdir={workdir}"]
    assert not list(stage.folder.rglob("pwned"))


def test_a_machine_may_be_a_worker_of_a_sweep(stage, job):
    stage.run("sky.sh", BUCKET, "--run=lr", "--", "sweep", CONFIG)
    assert f"ARGUMENTS=sweep {CONFIG}" in stage.calls("sky")[0]
    assert "[gpu,galaxy10,sweep]" in job["setup"]


def test_the_job_survives_a_preemption(job):
    assert job["resources"]["use_spot"] is True
    recovery = job["resources"]["job_recovery"]
    assert recovery["recover_on_exit_codes"] == [143]
    assert "max_restarts_on_errors" not in recovery  # 2 and 3 end it
    [(folder, mount)] = job["file_mounts"].items()
    assert mount["source"] == "${BUCKET}" and mount["mode"] == "MOUNT_CACHED"
    assert f"$HOME/{folder.removeprefix('~/')}/$RUN" in job["run"]
    assert {"BUCKET", "RUN", "ARGUMENTS"} == job["envs"].keys()


@pytest.mark.parametrize("part", ["setup", "run"])
def test_its_scripts_are_bash(job, part):
    assert subprocess.run(["bash", "-n"], input=job[part], text=True).returncode == 0


def test_dry_run_calls_nothing(stage):
    done = stage.run("sky.sh", "--dry-run", BUCKET, "--", *HOSTILE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sky jobs launch --name hybrid-jax")
    assert not stage.calls()
    assert not list(stage.folder.rglob("pwned"))


@pytest.mark.parametrize(
    "args, words",
    [
        (("--", CONFIG), ["--bucket=", "s3://my-runs", "preempted"]),
        (("--bucket=my-runs", "--", CONFIG), ["--bucket=my-runs is no URL"]),
        (("--bucket=s3://$(touch pwned)", "--", CONFIG), ["is no URL"]),
        ((BUCKET,), ["-- --config=FILE"]),
        ((BUCKET, "--run=a b", "--", CONFIG), ["is not allowed"]),
        ((BUCKET, "--", CONFIG, "--workdir=w"), ["leave it out"]),
    ],
)
def test_mistakes_are_one_line(stage, args, words):
    assert refused(stage.run("sky.sh", *args), *words)
    assert not stage.calls()
    assert not list(stage.folder.rglob("pwned"))
