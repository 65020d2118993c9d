"""Seconds from the start of a process to the end of its first training step.

    pip install torch timm
    python benchmarks/compile_time.py
    python benchmarks/compile_time.py --models astroformer_3 --without timm

Every row is a fresh process. Ours is the command itself, on the digits at 32 px in
batches of 64. timm's is its network on PyTorch, compiled with torch.compile: forward,
backward and fused AdamW on random images of the same size. Each runs with an empty
cache of compiled programs, and then with the cache that it has filled. Strides are 2
everywhere, as timm's are.

Besides tracing, compiling and the first step, the total has Python's start, imports,
the data and the initial state. In PyTorch, tracing, compiling and the first step are
one call. Networks of `--compile-only` scan over equal blocks. They are traced and
compiled, but never run, so their state need not fit this machine.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interleaved import table_title
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
MODELS, COMPILE_ONLY = ["astroformer_1", "astroformer_0"], ["astroformer_5"]
PIXELS, BATCH = 32, 64
LACKING = 3  # exit code of a child that lacks a package
COLUMNS = ("total", "traced", "compiled", "first step")
READY = re.compile(
    r"traced in ([\d.]+) s, (?:compiled|read from the cache) in ([\d.]+) s, "
    r"first step ([\d.]+) s"
)


def ours(model: str, environment: dict[str, str], folder: str) -> tuple[float, ...]:
    """Return the seconds of `COLUMNS`, up to the command's line about its start."""
    command = [
        sys.executable,
        "-m",
        "hybrid_jax.main",
        f"--workdir={folder}/{time.time()}",
        f"--config={ROOT}/configs/digits.py:{model}",
        f"--config.data.image_size={PIXELS},{PIXELS}",
        "--config.model.strides=2,2,2,2,2",
        f"--config.train.batch_size={BATCH}",
    ]
    start = time.perf_counter()
    with subprocess.Popen(  # noqa: S603
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if found := READY.search(line):
                total = time.perf_counter() - start
                process.kill()
                return total, *map(float, found.groups())
    raise SystemExit(f"{model} ended before its first step; what it said is above")


def child(what: str, model: str, environment: dict[str, str]) -> tuple[float, ...]:
    """Return the seconds of `COLUMNS` for a function of `CHILDREN` in a new process.

    An empty tuple says that a package is missing.
    """
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, __file__, "--child", what, model],
        env=environment,
        stdout=subprocess.PIPE,
    )
    total = time.perf_counter() - start
    if done.returncode == LACKING:
        return ()
    done.check_returncode()
    return total, *json.loads(done.stdout.splitlines()[-1])


def theirs(model: str) -> tuple[float, ...]:
    """Trace, compile and run one step of timm's network."""
    from contenders import Case, steps_of_theirs

    steps = steps_of_theirs(Case(model, PIXELS, BATCH), compiled=True)
    start = time.perf_counter()
    steps(1)
    return 0.0, time.perf_counter() - start, 0.0


def compile_only(model: str) -> tuple[float, ...]:
    """Trace and compile our scanned training step, without arrays of its size."""
    import jax
    import jax.numpy as jnp
    from contenders import Case
    from contenders import ours as make

    from hybrid_jax.parallel.mesh import create_devices
    from hybrid_jax.programs.compile import Program, compiler_threads
    from hybrid_jax.programs.programs import initialization_program
    from hybrid_jax.training import multi_step
    from hybrid_jax.training.step import Task

    task, loader = make(Case(model, PIXELS, BATCH), scan="on")

    def train_steps(task: Task, *arguments: Any) -> Any:
        return multi_step.train_steps(task, loader, *arguments)

    shapes = initialization_program(create_devices(count=1), task, 3).shapes
    count = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = (task, shapes, loader.data_shapes, loader.shapes, count)
    with compiler_threads() as threads:
        program = Program(jax.jit(train_steps, donate_argnums=1).trace, *arguments)
        program.compile(threads).wait()
    return program.trace_seconds, program.compile_seconds, 0.0


CHILDREN = {"timm, torch.compile": theirs, "scanned, compiled only": compile_only}


def rows(
    options: argparse.Namespace,
) -> Iterator[tuple[tuple[str, str, str], tuple[float, ...]]]:
    """Yield model, contender and cache with the seconds of `COLUMNS`, one by one."""
    names = ("hybrid_jax", "timm, torch.compile")
    cases = [(model, name) for model in options.models for name in names]
    cases += [(model, "scanned, compiled only") for model in options.compile_only]
    for model, name in cases:
        if any(part in name for part in options.without):
            continue
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {
                "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
                "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch",
            }
            for cache in ("empty", "filled"):
                if name in CHILDREN:
                    times = child(name, model, environment)
                else:
                    times = ours(model, environment, folder)
                yield (model, name, cache), times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--compile-only", nargs="*", default=COMPILE_ONLY)
    parser.add_argument("--without", nargs="*", default=[], help="contenders")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, model = options.child
        try:
            print(json.dumps(CHILDREN[what](model)))
        except ImportError as error:
            print(f"left out: {what} ({error})", file=sys.stderr)
            raise SystemExit(LACKING) from None
        return
    title = table_title("seconds to the first step")
    table = Table("", "", "cache", *COLUMNS, title=title)
    for names, times in rows(options):
        table.add_row(*names, *(f"{t:.1f}" if t else "" for t in times))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
