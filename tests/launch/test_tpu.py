"""launch/tpu.sh against a gcloud that plays machines, whose shells are real."""

import os
import re
import shutil
import signal
import subprocess

import pytest

from tests.launch.conftest import LAUNCH, refused

HOSTILE = (
    "--config=my configs/a b.py",
    "--config.x='it''s'",
    '--config.y="$(touch pwned)"',
    "--config.z=`touch pwned`; touch pwned & touch pwned",
    "* ? [a] ~ $HOME {a,b} #",
    "two\nlines  and   blanks",
    "",
    "\\",
)
CONFIG = "--config=configs/digits.py"


def tpu(stage, command, *args, **options):
    named = ("--poll=0", *args[: args.index("--")], *args[args.index("--") :])
    return stage.run("tpu.sh", command, *named, **options)


def verbs(stage):
    """The calls of gcloud in short: `tpu-vm create`, or what worker.sh was to do."""
    short = []
    for _, _, _, kind, verb, *args in stage.calls("gcloud"):
        line = next((a for a in args if a.startswith("--command=")), "")
        words = line.partition("worker.sh ")[2].split()
        short.append(words[0] if words else "tail" if line else f"{kind} {verb}")
    return short


def without_looks(stage):
    return [verb for verb in verbs(stage) if verb != "state" and "describe" not in verb]


def trained(stage):
    return [call[1:] for call in stage.calls("hybrid-jax")]


@pytest.fixture
def babysit(stage):
    def babysit(*args, **options):
        return tpu(stage, "babysit", "--bucket=b-1", *args, "--", CONFIG, **options)

    return babysit


@pytest.mark.parametrize(
    "type, version",
    [
        ("v6e-8", "v2-alpha-tpuv6e"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v3-8", "tpu-ubuntu2204-base"),
    ],
)
def test_create_takes_the_software_of_the_type(stage, type, version):
    done = stage.run(
        "tpu.sh", "create", "--name=a", "--zone", "us-west1-c", f"--type={type}"
    )
    assert done.returncode == 0, done.stderr
    assert stage.calls() == [
        [
            "gcloud",
            "compute",
            "tpus",
            "tpu-vm",
            "create",
            "a",
            f"--accelerator-type={type}",
            f"--version={version}",
            "--quiet",
            "--zone=us-west1-c",
        ]
    ]


def test_environment_variables_give_defaults_and_options_win(stage):
    env = {"TPU_NAME": "b", "TPU_ZONE": "z-1", "TPU_PROJECT": "p", "TPU_TYPE": "v4-8"}
    stage.run("tpu.sh", "create", "--spot", "--name=a", env=env)
    assert stage.calls()[0][4:] == [
        "create",
        "a",
        "--accelerator-type=v4-8",
        "--version=tpu-ubuntu2204-base",
        "--spot",
        "--quiet",
        "--zone=z-1",
        "--project=p",
    ]


def test_queue_waits_and_says_each_state_once(stage):
    stage.answers(
        queued_resources="GONE, ACCEPTED, WAITING_FOR_RESOURCES, UNREACHABLE, "
        "WAITING_FOR_RESOURCES, WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE",
        tpu_vm="READY",
    )
    done = stage.run("tpu.sh", "queue", "--name=a", "--poll=0", "--spot")
    assert done.returncode == 0, done.stderr
    assert [call[3:] for call in stage.calls() if "create" in call] == [
        [
            "queued-resources",
            "create",
            "a",
            "--node-id=a",
            "--accelerator-type=v5litepod-8",
            "--runtime-version=v2-alpha-tpuv5-lite",
            "--spot",
            "--quiet",
        ]
    ]
    states = [line.removeprefix("tpu.sh: a is ") for line in done.stdout.splitlines()]
    assert states == [
        "GONE",
        "ACCEPTED",
        "WAITING_FOR_RESOURCES",
        "UNREACHABLE",
        "WAITING_FOR_RESOURCES",
        "PROVISIONING",
        "READY",
    ]


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_queue_ends_with_a_word_when_there_will_be_no_machine(stage, state):
    stage.answers(queued_resources=f"WAITING_FOR_RESOURCES, {state}")
    done = stage.run("tpu.sh", "queue", "--poll=0")
    assert done.returncode == 1
    assert f"hybrid-jax is {state}: see" in done.stderr
    assert "queued-resources create" not in verbs(stage)  # there was one already


def test_setup_installs_what_git_tracks_on_all_workers(stage):
    (stage.folder / "worker-1").mkdir()
    done = stage.run("tpu.sh", "setup", "--bucket=gs://b-1/")
    assert done.returncode == 0, done.stderr
    for worker in ("worker-0", "worker-1"):
        home = stage.folder / worker / "hybrid_jax"
        assert (home / "source" / "setup.py").exists()
        assert not (home / "source" / ".git").exists()
        assert (home / "ready").exists()
        assert (home / "bucket").resolve() == stage.folder / "buckets" / "b-1"
        assert f"{home}/source[tpu,galaxy10,sweep]" in [
            call[-1] for call in stage.calls("uv")
        ]
    mounts = stage.calls("gcsfuse")
    assert len(mounts) == 2
    assert "--implicit-dirs" in mounts[0]
    assert any(option.startswith("--rename-dir-limit=") for option in mounts[0])


def test_run_keeps_hostile_arguments_whole(stage):
    stage.run("tpu.sh", "setup", "--bucket=b-1")
    done = tpu(stage, "run", "--bucket=b-1", "--run=r.1", "--", *HOSTILE)
    assert done.returncode == 0, done.stderr
    workdir = stage.folder / "worker-0" / "hybrid_jax" / "bucket" / "r.1"
    assert trained(stage) == [[*HOSTILE, f"--workdir={workdir}"]]
    assert "hybrid-jax is here" in done.stdout
    assert not list(stage.folder.rglob("pwned"))


@pytest.mark.parametrize("code", [2, 3, 143])
def test_run_ends_with_the_exit_code_of_the_run(stage, code):
    stage.answers(runs=str(code))
    stage.run("tpu.sh", "setup")
    done = tpu(stage, "run", "--", CONFIG)
    assert done.returncode == code


def following(stage, *options, command="run"):
    """The command `run`, which follows the log, in a session to be interrupted."""
    return subprocess.Popen(
        ["bash", LAUNCH / "tpu.sh", command, *options, "--", CONFIG],
        env=stage.env,
        cwd=stage.cwd,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_run_that_is_alive_is_not_started_again_and_outlives_ctrl_c(stage):
    stage.answers(runs="wait")
    stage.run("tpu.sh", "setup")
    first = following(stage, "--zone=z-1")
    for line in first.stdout:
        if "hybrid-jax is here" in line:
            break
    os.killpg(first.pid, signal.SIGINT)
    rest, _ = first.communicate(timeout=120)
    assert first.returncode == 130
    script = LAUNCH / "tpu.sh"
    hints = f"{script} logs --zone=z-1, or end it with {script} stop --zone=z-1\n"
    assert f"the run continues: see {hints}" in rest

    again = following(stage)
    assert "alive already: nothing was started" in again.stdout.readline()
    refused(stage.run("tpu.sh", "setup"), "is alive: stop it first")
    assert (stage.folder / "worker-0" / "hybrid_jax" / "source" / "configs").exists()
    status = stage.run("tpu.sh", "status")
    assert re.search(
        r"^hybrid_jax alive results=0 at=20\S+ newest=checkpoints/1$",
        status.stdout,
        re.MULTILINE,
    )
    stopped = stage.run("tpu.sh", "stop")
    assert "ended with exit code 143" in stopped.stdout
    assert again.wait(timeout=120) == 143
    assert len(trained(stage)) == 1
    assert "is not alive" in stage.run("tpu.sh", "stop").stdout


def started(stage, *options):
    """Start a run that waits, and leave it alone."""
    follower = following(stage, *options)
    assert any("hybrid-jax is here" in line for line in follower.stdout)
    os.killpg(follower.pid, signal.SIGINT)
    follower.communicate(timeout=120)


@pytest.mark.parametrize(
    "options, arguments, told",
    [
        ((), [CONFIG], "hybrid_jax/workdirs/hybrid-jax, not in /"),
        (("--bucket=b-2",), [CONFIG], "is the bucket b-2, not b-1"),
        (("--bucket=b-1",), [CONFIG, "--x=a b"], f"with other arguments ({CONFIG}): "),
    ],
)
def test_babysit_refuses_another_run_that_is_alive(stage, options, arguments, told):
    """Outside the bucket, it would be lost with the machine."""
    stage.answers(tpu_vm="READY", runs="wait")
    stage.run("tpu.sh", "setup")
    started(stage, *options)
    done = tpu(stage, "babysit", "--bucket=b-1", "--", *arguments)
    assert refused(done, told)
    assert len(trained(stage)) == 1


def test_babysit_watches_the_same_run_that_is_alive(stage):
    stage.answers(tpu_vm="READY", runs="wait, 0 9")
    stage.run("tpu.sh", "setup")
    started(stage, "--bucket=b-1")
    watching = following(stage, "--bucket=b-1", "--poll=0", command="babysit")
    assert any("alive already" in line for line in watching.stdout)
    assert len(trained(stage)) == 1
    assert stage.run("tpu.sh", "stop").returncode == 0
    rest, _ = watching.communicate(timeout=120)
    assert watching.returncode == 0
    assert "hybrid-jax is complete" in rest
    assert len(trained(stage)) == 2


def test_run_refuses_other_arguments_than_those_of_a_live_run(stage):
    stage.answers(runs="wait")
    stage.run("tpu.sh", "setup")
    started(stage)
    done = tpu(stage, "run", "--", CONFIG, "--two=\n2")
    assert refused(done, f"with other arguments ({CONFIG})")


def test_a_broken_connection_leaves_the_run_alone(stage):
    stage.answers(runs="wait")
    stage.run("tpu.sh", "setup")
    stage.answers(ssh_fails="the connection was reset")
    done = stage.run("tpu.sh", "logs", "--worker=0")
    assert done.returncode == 1
    assert "the connection broke and the run continues" in done.stderr


def test_babysit_makes_all_that_is_missing_and_ends_with_the_run(stage, babysit):
    stage.answers(tpu_vm="GONE, READY", runs="0 12")
    done = babysit("--spot")
    assert done.returncode == 0, done.stderr
    assert without_looks(stage) == [
        "tpu-vm create",
        "tpu-vm scp",
        "setup",
        "start",
    ]
    assert "checkpoints/12 is saved" in done.stdout
    assert "hybrid-jax is complete" in done.stdout


def test_babysit_makes_another_machine_for_one_that_was_preempted(stage, babysit):
    stage.answers(
        queued_resources="GONE, WAITING_FOR_RESOURCES, ACTIVE, ACTIVE, UNREACHABLE, "
        "ACTIVE, SUSPENDING, SUSPENDED, ACCEPTED, WAITING_FOR_RESOURCES, ACTIVE",
        tpu_vm="READY",
        runs="wait 5, 0 9",
    )
    done = babysit("--queued", "--spot")
    assert done.returncode == 0, done.stderr
    part = ["queued-resources create", "tpu-vm scp", "setup", "start"]
    assert without_looks(stage) == [*part, "queued-resources delete", *part]
    first, second = trained(stage)
    assert first == second  # the same workdir in the same bucket
    deleted = next(call for call in stage.calls("gcloud") if "delete" in call)
    assert "--force" in deleted and "--quiet" in deleted


@pytest.mark.parametrize(
    "state, deleted",
    [("PREEMPTED", ["tpu-vm delete"]), ("TERMINATED", ["tpu-vm delete"]), ("GONE", [])],
)
def test_babysit_knows_a_machine_that_is_lost(stage, babysit, state, deleted):
    stage.answers(tpu_vm=f"READY, READY, {state}, READY", runs="wait 5, 0 9")
    done = babysit()
    assert done.returncode == 0, done.stderr
    part = ["tpu-vm scp", "setup", "start"]
    assert without_looks(stage) == [*part, *deleted, "tpu-vm create", *part]


def test_babysit_waits_for_a_vm_that_is_gone_before_its_queue_knows(stage, babysit):
    stage.answers(
        queued_resources="ACTIVE", tpu_vm="READY, GONE, READY", runs="wait, 0"
    )
    done = babysit("--queued")
    assert done.returncode == 0, done.stderr
    part = ["tpu-vm scp", "setup", "start"]
    renewed = ["queued-resources delete", "queued-resources create"]
    assert without_looks(stage) == [*part, *renewed, *part]


def test_polls_that_fail_are_no_preemption(stage, babysit):
    stage.answers(
        tpu_vm="READY, UNREACHABLE, UNREACHABLE, READY",
        ssh_fails="reset by peer, reset by peer",
    )
    done = babysit()
    assert done.returncode == 0, done.stderr
    assert "tpu-vm delete" not in verbs(stage)
    assert done.stdout.count("no answer from the workers") == 1


@pytest.mark.parametrize("command", ["queue", "babysit", "status"])
def test_without_a_first_answer_nothing_is_made(stage, command):
    stage.answers(tpu_vm="UNREACHABLE", queued_resources="UNREACHABLE")
    done = tpu(stage, command, "--bucket=b-1", "--", CONFIG)
    assert done.returncode == 1
    assert (
        done.stderr
        == "tpu.sh: gcloud does not answer: ERROR: the connection was reset\n"
    )
    assert len(stage.calls()) == 1


def test_status_asks_no_workers_of_a_machine_that_is_not_there(stage):
    stage.answers(queued_resources="WAITING_FOR_RESOURCES")
    done = stage.run("tpu.sh", "status", "--queued")
    assert done.stdout == "tpu.sh: hybrid-jax is WAITING_FOR_RESOURCES\n"
    assert len(stage.calls()) == 1


def test_a_machine_is_waited_for_as_long_as_none_is_free(stage, babysit):
    full = 'There is no more capacity in the zone "us-west1-c"'
    stage.answers(
        tpu_vm=", ".join(["GONE"] * 7 + ["READY"]), create_fails=", ".join([full] * 6)
    )
    done = babysit("--attempts=1")
    assert done.returncode == 0, done.stderr
    assert verbs(stage).count("tpu-vm create") == 7


def test_a_machine_that_cannot_be_made_is_given_up(stage, babysit):
    denied = "PERMISSION_DENIED: ask your administrator"
    stage.answers(tpu_vm="GONE", create_fails=", ".join([denied] * 9))
    done = babysit("--attempts=2")
    assert done.returncode == 1
    assert verbs(stage).count("tpu-vm create") == 3
    assert denied in done.stderr and "given up" in done.stderr


@pytest.mark.parametrize("code", [2, 3])
def test_babysit_stops_for_what_a_user_must_mend(stage, babysit, code):
    stage.answers(tpu_vm="READY", runs=f"{code}")
    done = babysit()
    assert done.returncode == code
    assert "hybrid-jax is here" in done.stdout  # the end of the log
    assert len(trained(stage)) == 1


def test_babysit_starts_again_as_long_as_there_is_progress(stage, babysit):
    stage.answers(tpu_vm="READY", runs="143 1, 1 2, 137 3, 134 4, 143 5, 0 6")
    done = babysit("--attempts=1")
    assert done.returncode == 0, done.stderr
    assert len(trained(stage)) == 6


def test_babysit_sees_the_progress_of_a_sweep(stage, babysit):
    """Its checkpoints are those of trials, and go when a trial has ended."""
    trials = [f"trials/000{i}/seed-0" for i in range(3)]
    saved = [f"{trials[0]}/checkpoints/9", f"{trials[0]}/results.json"]
    saved += [f"{trials[1]}/checkpoints/2", f"{trials[2]}/failure.json"]
    runs = ", ".join(f"143 {path}" for path in saved)
    stage.answers(tpu_vm="READY", runs=f"{runs}, 1 {saved[-1]}")
    done = babysit("--attempts=1")
    assert done.returncode == 1
    assert "(2 failures without a new checkpoint or result in between)" in done.stderr
    assert len(trained(stage)) == 5
    assert f"{saved[0]} is saved" in done.stdout
    assert f"{saved[2]} is saved" in done.stdout
    for results in (1, 2):
        assert f"results so far: {results}\n" in done.stdout


def test_babysit_gives_up_without_progress(stage, babysit):
    stage.answers(tpu_vm="READY", runs="1 7")
    done = babysit("--attempts=3")
    assert done.returncode == 1
    assert len(trained(stage)) == 4
    assert "hybrid-jax ended with exit code 1 (4 failures" in done.stderr


def test_babysit_starts_what_ended_before_its_time(stage, babysit):
    stage.answers(tpu_vm="READY", runs="2, 0")
    assert babysit().returncode == 2
    assert babysit().returncode == 0
    assert len(trained(stage)) == 2


def test_babysit_ends_the_workers_of_a_run_that_has_lost_one(stage, babysit):
    (stage.folder / "worker-1").mkdir()
    stage.answers(tpu_vm="READY", runs="1, wait, 0")
    done = babysit()
    assert done.returncode == 0, done.stderr
    assert "stop" in verbs(stage)
    assert len(trained(stage)) == 4


def test_babysit_needs_a_bucket_and_says_why(stage):
    done = stage.run("tpu.sh", "babysit", "--", CONFIG)
    assert refused(done, "--bucket", "preempted", "lost")
    assert not stage.calls()


def test_delete_finds_the_request_of_a_machine_from_queue(stage):
    """The request would stay, and block the name."""
    request = "projects/p/locations/z/queuedResources/hybrid-jax"
    stage.answers(tpu_vm=request)
    done = stage.run("tpu.sh", "delete", input="hybrid-jax\n")
    assert done.returncode == 0, done.stderr
    assert "hybrid-jax comes from queue: its request is deleted, too" in done.stdout
    looked, deleted = [call[3:] for call in stage.calls()]
    assert looked[1] == "describe" and "--format=value(queuedResource)" in looked
    assert deleted[:2] == ["queued-resources", "delete"] and "--force" in deleted


MACHINE = ("--name=a-1", "--zone=us x", "--project=p-1")
HINTED = r"--name=a-1 --zone=us\ x --project=p-1"


def test_hints_are_for_the_machine_and_the_run_that_were_named(stage):
    script = LAUNCH / "tpu.sh"
    options = (*MACHINE, "--run=r-1", "--queued")
    told = f"{script} status {HINTED} --queued --run=r-1, then {script} delete {HINTED}"
    for command in ("queue", "babysit"):
        stage.answers(queued_resources="FAILED")
        done = tpu(stage, command, "--bucket=b-1", *options, "--", CONFIG)
        assert done.stderr.endswith(f"see {told} --queued\n"), done.stderr
    refused(tpu(stage, "run", *options, "--", CONFIG), f"run {script} setup {HINTED} f")
    stage.answers(ssh_fails="the connection was reset")
    done = stage.run("tpu.sh", "logs", *options)
    assert done.stderr.endswith(f"see {script} logs {HINTED} --run=r-1\n")
    stage.answers(queued_resources="ACTIVE", tpu_vm="READY", runs="0")
    done = tpu(stage, "babysit", "--bucket=b-1", *options, "--", CONFIG)
    assert f"until you run {script} delete {HINTED} --queued\n" in done.stdout


def test_hints_of_a_bare_machine_are_short(stage):
    hint = f"run {LAUNCH / 'tpu.sh'} setup first"
    assert refused(stage.run("tpu.sh", "run", "--", CONFIG), hint)
    # The variable may be gone when the hint is followed.
    done = stage.run("tpu.sh", "run", "--", CONFIG, env={"TPU_NAME": "b"})
    assert refused(done, "setup --name=b first")


@pytest.mark.parametrize("answer", ["", "no", "y", "Hybrid-jax", "hybrid-jax2"])
def test_delete_without_the_name_deletes_nothing(stage, answer):
    done = stage.run("tpu.sh", "delete", input=f"{answer}\n")
    assert done.returncode == 2
    assert "nothing was deleted" in done.stderr
    assert verbs(stage) == ["tpu-vm describe"]


def test_delete_with_the_name_or_with_yes(stage):
    assert stage.run("tpu.sh", "delete", input="hybrid-jax\n").returncode == 0
    assert stage.run("tpu.sh", "delete", "--yes", "--queued").returncode == 0
    assert [call[3:] for call in stage.calls() if "describe" not in call] == [
        ["tpu-vm", "delete", "hybrid-jax", "--quiet"],
        ["queued-resources", "delete", "hybrid-jax", "--force", "--quiet"],
    ]


@pytest.mark.parametrize(
    "command",
    ["create", "queue", "setup", "run", "babysit", "logs", "status", "stop", "delete"],
)
def test_dry_run_shows_lines_that_a_shell_can_read_and_runs_none(stage, command):
    args = (command, "--bucket=b-1", "--dry-run", "--", *HOSTILE)
    done = stage.run("tpu.sh", *args)
    assert done.returncode == 0, done.stderr
    assert not stage.calls()
    assert not list(stage.folder.rglob("pwned"))
    assert "gcloud compute tpus" in done.stdout
    # Typed into a shell, they do what the script would have done.
    lines = [line for line in done.stdout.splitlines() if line.startswith("gcloud")]
    read = subprocess.run(["bash", "-n"], input="\n".join(lines), text=True)
    assert read.returncode == 0


@pytest.mark.parametrize(
    "args, words",
    [
        ((), ["command"]),
        (("fly",), ["fly is no command"]),
        (("create", "delete"), ["one command"]),
        (("create", "--color=red"), ["unknown option --color=red"]),
        (("create", "--@"), ["unknown option --@"]),
        (("create", "--x[$(touch pwned)]=1"), ["unknown option"]),
        (("create", "-x"), ["unknown option -x"]),
        (("create", "--spot=yes"), ["unknown option --spot=yes"]),
        (("create", "--name"), ["--name needs a value"]),
        (("create", "--zone=a", "--zone", "b"), ["--zone is given twice"]),
        (("create", "--name="), ["--name needs a value"]),
        (("create", "--name", "--spot"), ["--name needs a value"]),
        (("create", "--name=a b"), ["no name of a machine"]),
        (("create", "--name=$(touch pwned)"), ["no name of a machine"]),
        (("create", "--name=a\nb"), ["no name of a machine"]),
        (("run", "--run=../up", "--", CONFIG), ["is not allowed"]),
        (("run", "--run=;touch pwned", "--", CONFIG), ["is not allowed"]),
        (("run", "--bucket=a b", "--", CONFIG), ["no name of a bucket"]),
        (("run", "--bucket=gs://b/$(touch pwned)", "--", CONFIG), ["no name of a"]),
        (("run",), ["add -- --config=FILE"]),
        (("babysit", "--bucket=b-1"), ["add -- --config=FILE"]),
        (
            ("run", "--", CONFIG, "--workdir=w"),
            ["--workdir=w is not"],
        ),
        (("logs", "--worker=first"), ["no number"]),
        (("babysit", "--poll=often"), ["no number"]),
    ],
)
def test_mistakes_are_one_line(stage, args, words):
    assert refused(stage.run("tpu.sh", *args), *words)
    assert not stage.calls()
    assert not list(stage.folder.rglob("pwned"))


def test_nothing_is_started_before_setup(stage):
    assert refused(tpu(stage, "run", "--", CONFIG), "setup first")


def test_a_missing_gcloud_is_told(stage):
    tools = stage.folder / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "mktemp", "readlink", "rm", "sed"):
        (tools / tool).symlink_to(shutil.which(tool))
    done = stage.run("tpu.sh", "create", env={"PATH": str(tools)})
    assert refused(done, "gcloud is not installed", "https://")


def test_help_is_the_head_of_the_script(stage):
    done = stage.run("tpu.sh", "--help")
    assert done.returncode == 0
    assert "babysit" in done.stdout and "--bucket=BUCKET" in done.stdout
    assert "set -e" not in done.stdout
