"""Run one experiment on eight devices of this process, in every kind.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 \\
        python -m tests.parallel.runs FOLDER

Prints a line of JSON: the exit codes by name. Each run has a folder of its name.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from hybrid_jax.main import main

# Augmented, with dropped paths and values, and gradients that are added up.
EXPERIMENT = (
    "--config=tests/small_hybrid.py",
    "--config.data.per_class=22",
    "--config.train.batch_size=32",
    "--config.optim.accumulate=2",
    "--config.train.epochs=2",
    "--config.model.drop_path=0.2",
    "--config.model.dropout=0.2",
    "--config.train.log_every=1",
    "--config.train.eval_every=2",
)
MIXED = "--config.augment.mixup=0.2"  # between images of different devices
STEPS, STOP = 13, 8


def environment(devices: int) -> dict[str, str]:
    """Return the environment of a process with so many devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    flags += f" --xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags}


# kind, devices, fsdp
KINDS = {
    "jit on 1": ("jit", 1, 1),
    "jit on 2": ("jit", 2, 1),
    "jit on 8 x 1": ("jit", 8, 1),
    "jit on 2 x 4": ("jit", 8, 4),
    "jit on 1 x 8": ("jit", 8, 8),
    "pmap on 8": ("pmap", 8, 1),
}
# Each takes half a minute to compile, so what is much like others is left out.
ALL = os.environ.get("HYBRID_JAX_KINDS") == "all"
LEFT_OUT = (
    ()
    if ALL
    else ("jit on 2", "jit on 8 x 1", "jit on 1 x 8", "resumed on 2", "resumed on 4")
)
# From the state of all eight, parameters sharded over four, after step `STOP`.
RESUMED = {
    "resumed on 1": ("jit", 1, 1),
    "resumed on 2": ("jit", 2, 1),
    "resumed on 4": ("pmap", 4, 1),
}


def run(workdir: Path, kind: tuple[str, int, int], *more: str) -> int:
    """Run the experiment; return the exit code."""
    fields = zip(("kind", "devices", "fsdp"), kind, strict=True)
    where = [f"--config.parallel.{name}={value}" for name, value in fields]
    words = [*EXPERIMENT, MIXED, f"--workdir={workdir}", *where, *more]
    return main(["hybrid-jax", *words])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    chosen = {name: kind for name, kind in KINDS.items() if name not in LEFT_OUT}
    codes = {name: run(folder / name, kind) for name, kind in chosen.items()}
    stop = f"--config.debug.inject=term@{STOP}"
    codes["stopped"] = run(folder / "stopped", KINDS["jit on 2 x 4"], stop)
    for name, kind in RESUMED.items():
        if name in LEFT_OUT:
            continue
        shutil.copytree(folder / "stopped", folder / name)
        codes[name] = run(folder / name, kind)
    print(json.dumps(codes))
