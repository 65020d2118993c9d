"""launch/slurm.sh against stubs of Slurm. On a real one it was tried by hand."""

import re
import shlex
import shutil

import pytest

from tests.launch.conftest import LAUNCH, refused
from tests.launch.test_tpu import CONFIG, HOSTILE

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4"}


def in_job(stage, *args, **env):
    """As Slurm does it: a copy of the script, far from the other files."""
    copied = stage.folder / "slurm_script"
    shutil.copy(LAUNCH / "slurm.sh", copied)
    return stage.run(str(copied), "--", *args, env=JOB | env)


def test_it_submits_itself(stage):
    options = ("--nodes=2", "--time", "4:00:00", "-p", "gpu")
    done = stage.run("slurm.sh", *options, "--", *HOSTILE)
    assert done.returncode == 0, done.stderr
    script = str(LAUNCH / "slurm.sh")
    assert stage.calls() == [["sbatch", *options, script, "--", *HOSTILE]]
    assert not list(stage.folder.rglob("pwned"))


def test_its_own_options_come_before_any_command():
    head = re.split("^[^#]", (LAUNCH / "slurm.sh").read_text(), flags=re.MULTILINE)[0]
    options = re.findall("^#SBATCH (.+)$", head, re.MULTILINE)
    assert {"--signal=TERM@120", "--requeue", "--open-mode=append"} <= {*options}
    assert "--gpus-per-node=1" in options


def test_dry_run_shows_a_line_that_a_shell_reads_as_the_same(stage):
    done = stage.run("slurm.sh", "--dry-run", "--time=1", "--", CONFIG, "a b;c", "*")
    assert shlex.split(done.stdout) == [
        "sbatch",
        "--time=1",
        str(LAUNCH / "slurm.sh"),
        "--",
        CONFIG,
        "a b;c",
        "*",
    ]
    assert not stage.calls()


def test_a_job_has_one_process_for_each_gpu(stage):
    done = in_job(stage, *HOSTILE)
    assert done.returncode == 0, done.stderr
    [[_, *options]] = stage.calls("srun")
    where = options.index("hybrid-jax")
    assert {"--nodes=2", "--ntasks-per-node=4"} <= {*options[:where]}
    assert options[where + 1 :] == [*HOSTILE]
    assert not list(stage.folder.rglob("pwned"))


def test_options_before_the_dashes_are_passed_over_in_a_job(stage):
    done = stage.run("slurm.sh", "--time=1", "--", CONFIG, env=JOB)
    assert stage.calls("srun")[0][-2:] == ["hybrid-jax", CONFIG]
    assert "these change nothing: --time=1" in done.stderr


def test_a_job_shows_what_it_would_start(stage):
    done = stage.run("slurm.sh", "--dry-run", "--", "a b", env=JOB)
    assert done.returncode == 0
    assert not stage.calls()
    first, *_, last = shlex.split(done.stdout)
    assert (first, last) == ("srun", "a b")
    for head in ("-h", "--help"):
        shown = stage.run("slurm.sh", head, "--", CONFIG, env=JOB).stdout
        assert shown == stage.run("slurm.sh", "--help").stdout
    assert not stage.calls()


def test_a_job_needs_arguments_behind_the_dashes(stage):
    done = stage.run("slurm.sh", CONFIG, "--workdir=w", env=JOB)
    assert done.returncode == 2
    assert "give the arguments of hybrid-jax behind --" in done.stderr
    assert not stage.calls("srun")


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130])
def test_a_job_ends_as_the_run_does(stage, code):
    stage.answers(srun=str(code), job_state="RUNNING")
    assert in_job(stage, CONFIG).returncode == code
    assert not stage.calls("scontrol")


def test_a_job_whose_time_is_up_goes_back_into_the_queue(stage):
    stage.answers(srun="143", job_state="RUNNING")
    done = in_job(stage, CONFIG)
    assert done.returncode == 143
    assert ["scontrol", "requeue", "7"] in stage.calls("scontrol")
    assert "job 7 returns to the queue" in done.stdout


def test_a_job_that_slurm_does_not_take_back_says_so(stage):
    stage.answers(srun="143", job_state="RUNNING", requeue_fails="1")
    done = in_job(stage, CONFIG)
    assert done.returncode == 143
    assert "cannot return to the queue: submit the same command again" in done.stderr
    assert "returns to the queue" not in done.stdout


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "TIMEOUT"])
def test_a_job_that_was_cancelled_does_not(stage, state):
    stage.answers(srun="143", job_state=state)
    assert in_job(stage, CONFIG).returncode == 143
    assert ["scontrol", "requeue", "7"] not in stage.calls("scontrol")


def test_an_array_has_workers_of_a_sweep_each_on_its_own_gpu(stage):
    sweep = ["sweep", CONFIG, "--workdir=s", "--storage=postgresql://h/d"]
    done = stage.run("slurm.sh", "--array=0-7", "--", *sweep)
    assert done.returncode == 0, done.stderr
    assert stage.calls("sbatch")[0][1] == "--array=0-7"
    stage.answers(srun="143", job_state="RUNNING")
    task = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}
    done = stage.run("slurm.sh", "--", *sweep, env=JOB | task)
    [[_, *options]] = stage.calls("srun")
    assert "--gpus-per-task=1" in options and "--gpu-bind=none" not in options
    assert options[options.index("hybrid-jax") + 1 :] == sweep
    # 7 may be the number of the whole array.
    assert ["scontrol", "requeue", "5_2"] in stage.calls("scontrol")


@pytest.mark.parametrize(
    "options, arguments, told",
    [
        (["--array=0-7"], [CONFIG, "--workdir=w"], "--array=0-7 starts several jobs"),
        (["-a", "0-7"], ["train", CONFIG], "-a starts several jobs"),
        (["--array", "0-7"], ["sweep", CONFIG], "--storage=postgresql://"),
    ],
)
def test_an_array_of_anything_else_is_refused(stage, options, arguments, told):
    assert refused(stage.run("slurm.sh", *options, "--", *arguments), told)
    assert not stage.calls()


def test_the_shell_outlives_a_signal_to_the_whole_job(stage):
    stage.answers(srun="143", job_state="RUNNING", signals="15")
    assert in_job(stage, CONFIG).returncode == 143
    assert ["scontrol", "requeue", "7"] in stage.calls("scontrol")


def test_the_shell_leaves_signals_to_the_run(stage):
    (stage.bin / "srun").write_text("#!/bin/sh\nkill -TERM $$\n")
    stage.answers(job_state="CANCELLED")
    assert in_job(stage, CONFIG).returncode == 143  # 0 if it were ignored


def test_mistakes_are_one_line(stage):
    assert refused(stage.run("slurm.sh", "--time=1"), "-- --config=FILE --workdir=DIR")
    assert not stage.calls()


def test_a_missing_sbatch_is_told(stage):
    tools = stage.folder / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "readlink"):
        (tools / tool).symlink_to(shutil.which(tool))
    done = stage.run("slurm.sh", "--", CONFIG, env={"PATH": str(tools)})
    assert refused(done, "sbatch is not installed", "login node")


def test_help_is_the_head_of_the_script(stage):
    done = stage.run("slurm.sh", "--help")
    assert done.returncode == 0
    assert "--gpus-per-node" in done.stdout and "in_job" not in done.stdout
