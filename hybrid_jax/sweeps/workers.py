"""Start workers as processes on this machine, and share its devices among them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import hybrid_jax
from hybrid_jax.errors import ProcessDied, UserError
from hybrid_jax.parallel.signals import Interrupted, Interruption
from hybrid_jax.sweeps.progress import WorkProgress

POLL_SECONDS = 0.5
GPU_MEMORY = 0.9  # share of a GPU's memory for all its workers


class WorkerDied(ProcessDied):
    """A worker was killed by a signal.

    Attributes:
      what: the worker and the signal, in words.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: run the same command to resume")
        self.what = what


def run_workers(
    count: int, command: Sequence[str], watch: Callable[[], None] = lambda: None
) -> None:
    """Run a command of this program in several processes until all have ended.

    Args:
      count: number of processes.
      command: subcommand and arguments; standard output is discarded.
      watch: called twice a second until the processes have ended.

    Raises:
      UserError: a worker ended with an error, which it has printed.
      WorkerDied: a worker was killed; the others have ended their work.
      Interrupted: a signal arrived; it was passed on, and all workers have ended.
    """
    words = [sys.executable, "-P", "-m", "hybrid_jax.main", *command]
    with Interruption() as interruption:
        children: list[subprocess.Popen] = []
        try:
            for number in range(count):
                environment = os.environ | worker_environment(number, count)
                child = subprocess.Popen(  # noqa: S603
                    words, env=environment, stdout=subprocess.DEVNULL
                )
                children.append(child)
                _share_cores(child.pid, number, count)
            while any(child.poll() is None for child in children):
                watch()
                time.sleep(POLL_SECONDS)
            watch()
        except BaseException as error:
            interruption.handled = True
            _end(children, error)
            raise
    _check([child.returncode for child in children])


def share_work(
    count: int,
    command: Sequence[str],
    progress: WorkProgress,
    is_done: Callable[[], bool],
) -> None:
    """Run several workers; accept the death of one if the others complete its work.

    Args:
      count: number of processes.
      command: subcommand and arguments of each, which ask for one worker.
      progress: shows the progress of the workers.
      is_done: returns whether all work is done.

    Raises:
      UserError, Interrupted: like `run_workers`.
      WorkerDied: a worker was killed, and its work is not complete.
    """
    try:
        run_workers(count, command, progress.update)
    except WorkerDied as error:
        if not is_done():
            raise
        progress.say(f"{error.what}, and the others have completed its work")


def worker_environment(number: int, count: int) -> dict[str, str]:
    """Return what a worker's environment adds: the path of the code, and its GPU."""
    root = str(Path(hybrid_jax.__file__).parents[1])
    before = os.environ.get("PYTHONPATH")
    paths = root + (os.pathsep + before if before else "")
    return {"PYTHONPATH": paths} | _gpu(_gpus(), number, count)


def _gpus() -> list[str]:
    """Return the names of the GPUs that jax would see."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    nodes = Path("/dev").glob("nvidia[0-9]*")
    return [str(number) for number, _ in enumerate(nodes)]


def _gpu(gpus: Sequence[str], number: int, count: int) -> dict[str, str]:
    """Return the variables that give a worker its GPU and its share of the memory."""
    if not gpus:
        return {}
    sharing = -(-count // len(gpus))
    given = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}
    if sharing > 1 and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
        given["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{GPU_MEMORY / sharing:.3f}"
    return given


def _share_cores(pid: int, number: int, count: int) -> None:
    """Give a worker its own cores; otherwise it would start a thread for every core."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if count <= len(cores):
        os.sched_setaffinity(pid, cores[number::count])


def _end(children: Sequence[subprocess.Popen], error: BaseException) -> None:
    """Pass a signal on to the workers, and wait until they have saved their steps."""
    number = signal.SIGTERM
    if isinstance(error, Interrupted):
        number = signal.Signals(error.code - 128)
    for child in children:
        if child.poll() is None:
            child.send_signal(number)
    for child in children:
        child.wait()


def _check(codes: Sequence[int]) -> None:
    """Raise an error if a worker did not succeed.

    Raises:
      UserError, WorkerDied: see `run_workers`.
    """
    wrong = {number: code for number, code in enumerate(codes, 1) if code}
    if not wrong:
        return
    # A positive exit code, an error that a user can fix, goes before a signal.
    number, code = max(wrong.items(), key=lambda item: item[1])
    if code > 0:
        error = UserError(f"worker {number} ended with exit code {code}, see above")
        error.code = code
        raise error
    name = signal.Signals(-code).name
    raise WorkerDied(f"worker {number} was ended by {name}")
