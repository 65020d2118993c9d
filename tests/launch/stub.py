"""What stands in for gcloud, sbatch and others: stub.py TOOL ARGUMENT...

Every call is a line of `calls.jsonl` in the folder $STUBS. What a tool answers is in
files there, one answer a line, the last of which holds on. Workers of a TPU VM are
folders `worker-0`, `worker-1`, ...: their shells are real, and have these for $HOME.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(os.environ["STUBS"])


def main(tool: str, *args: str) -> int:
    with (HERE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps([tool, *args]) + "\n")
    play = globals().get(tool.replace("-", "_"))
    return (play(*args) or 0) if play else int(answer(tool) or 0)


def answer(name: str) -> str:
    """The next line of a file; the last one again and again."""
    path = HERE / name
    if not path.exists():
        return ""
    first, *rest = path.read_text().splitlines()
    if rest:
        path.write_text("\n".join(rest))
    return first


def once(name: str) -> str:
    """The next line of a file, as long as there is one."""
    path = HERE / name
    if not path.exists():
        return ""
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join(rest)) if rest else path.unlink()
    return first


def gcloud(_compute, _tpus, kind, verb, *args) -> int:
    options = dict(arg[2:].partition("=")[::2] for arg in args if arg.startswith("--"))
    if verb == "describe":
        return describe(answer(kind))
    if verb in ("create", "delete"):
        error = once(f"{verb} fails")
        print(error or "done", file=sys.stderr)
        if not error:
            new_disks()
        return bool(error)
    workers = sorted(HERE.glob("worker-*"))
    if options["worker"] != "all":
        workers = [HERE / f"worker-{options['worker']}"]
    if error := once("ssh fails"):
        print(error, file=sys.stderr)
        return 255
    if verb == "scp":
        source, target = args[:2]
        for worker in workers:
            shutil.copy(source, worker / target.partition(":")[2])
        return 0
    return max([ssh(worker, options["command"]) for worker in workers])


def describe(state: str) -> int:
    if state == "GONE":
        print("ERROR: NOT_FOUND: Resource was not found", file=sys.stderr)
    elif state == "UNREACHABLE":
        print("ERROR: the connection was reset", file=sys.stderr)
    else:
        print(state)
    return state in ("GONE", "UNREACHABLE")


def ssh(worker: Path, command: str) -> int:
    """As gcloud and ssh do: the words, joined by spaces, are read by a login shell."""
    env = os.environ | {"HOME": str(worker)}
    line = " ".join(command.split(" "))
    return subprocess.run(["bash", "-c", line], cwd=worker, env=env).returncode


def new_disks() -> None:
    """A machine is deleted or made: what was on its disks and in its memory is lost."""
    for worker in HERE.glob("worker-*"):
        for pid in worker.glob("hybrid_jax/runs/*/pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)
        # The bucket is a link, and stays what it is.
        shutil.rmtree(worker)
        worker.mkdir()


def uv(verb, *args) -> None:
    if verb == "pip":  # install --python VENV/bin/python ...
        path = Path(args[args.index("--python") + 1]).with_name("hybrid-jax")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "bin" / "hybrid-jax", path)


def gcsfuse(*args) -> None:
    *_, bucket, mount = args
    (HERE / "buckets" / bucket).mkdir(parents=True, exist_ok=True)
    os.rmdir(mount)
    os.symlink(HERE / "buckets" / bucket, mount)


def findmnt(*args) -> int:
    mount = Path(args[-1])
    if mount.is_symlink():
        print(mount.resolve().name)
    return not mount.is_symlink()


def hybrid_jax(*args) -> int:
    """Plays a line of `runs`: an exit code, or wait for SIGTERM; and what to save.

    That is a step, or the path of a checkpoint or of a file of results.
    """
    ends, _, saved = (answer("runs") or "0").partition(" ")
    with (HERE / "pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    workdir = next(Path(arg[10:]) for arg in args if arg.startswith("--workdir="))
    path = workdir / (saved if "/" in saved else f"checkpoints/{saved or 1}")
    if not path.suffix:
        path /= "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name == "results.json":  # a sweep deletes checkpoints of ended trials
        shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)
    if not path.exists():
        path.write_text("{}")
    print("hybrid-jax is here", flush=True)
    if ends == "wait":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        time.sleep(600)
    return int(ends)


def srun(*args) -> int:
    """Has the batch shell get a signal meanwhile, where `signals` says so."""
    if number := once("signals"):
        os.kill(os.getppid(), int(number))
        time.sleep(0.1)
    return int(answer("srun") or 0)


def scontrol(verb, *args) -> int:
    if verb == "show":
        print(f"JobId={args[-1]} JobState={answer('job state')} Reason=None")
        return 0
    return int(answer(f"{verb} fails") or 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
