"""Contenders of the benchmarks: one network and one task, here and in timm on PyTorch.

Each `train_` or `infer_` function is called in the contender's process
(`interleaved.Contender`). It sets up a network, and returns a function that measures
the seconds of one step over about `SECONDS` of steps. All strides are 2, as in timm.
"""

import contextlib
import runpy
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

CLASSES = 10
SECONDS = 1.5  # of one measurement, or one step if that takes longer
BATCHES = 4  # of random images, whose content does not change the cost
CONFIGS = Path(__file__).parents[1] / "configs"


class Case(NamedTuple):
    """A model, the side of its images, and how many of them make a batch."""

    model: str
    pixels: int
    batch: int

    def __str__(self) -> str:
        return f"{self.model}, {self.pixels} px, batch {self.batch}"


Measure = Callable[[], float]


def experiment(name: str) -> ConfigDict:
    """Return the config of `configs/<name>.py`."""
    return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()


def ours(
    case: Case,
    batches: int = BATCHES,
    augment: dict[str, Any] | None = None,
    **overrides: Any,
) -> tuple[Any, Any]:
    """Return the training task of a network and a loader of random images.

    Args:
      case: model, image size and batch size.
      batches: of random images.
      augment: fields of `AugmentConfig`.
      **overrides: fields of the model.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from hybrid_jax import create_model, runtime
    from hybrid_jax.config.schema import AugmentConfig, OptimConfig
    from hybrid_jax.data import Split
    from hybrid_jax.data.loader import create_loader
    from hybrid_jax.data.sampler import TrainingOrder
    from hybrid_jax.training import optimizers
    from hybrid_jax.training.step import Task

    runtime.set_up(compilation_cache=True)
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    fields = {"strides": (2,) * 5, "dtype": jnp.dtype(dtype)} | overrides
    model = create_model(case.model, CLASSES, case.pixels, **fields)
    task = Task(
        model=model,
        create_optimizer=lambda rates: optimizers.adamw(
            lambda step: rates.learning_rate, OptimConfig()
        ),
        rates=optimizers.Rates(*np.float32([1e-4, OptimConfig.weight_decay])),
        image_size=model.image_size,
        mean=jnp.full(3, 127.0),
        std=jnp.full(3, 64.0),
        augmentation=AugmentConfig(**(augment or {})),
    )
    rng, count = np.random.default_rng(0), batches * case.batch
    images = rng.integers(0, 256, (count, case.pixels, case.pixels, 3), np.uint8)
    split = Split(images, (np.arange(count) % CLASSES).astype(np.int32))
    order = TrainingOrder(split.labels, case.batch, 0)
    return task, create_loader(split, order, case.batch)


def train_ours(case: Case, steps: int | None = None, **options: Any) -> Measure:
    """Measure training steps, several in one dispatch as in a run.

    Args:
      case: model, image size and batch size.
      steps: how many to measure; None measures for about `SECONDS`.
      **options: arguments of `ours`.
    """
    import jax
    import numpy as np

    from hybrid_jax.parallel.mesh import create_devices
    from hybrid_jax.programs.compile import compiler_threads
    from hybrid_jax.programs.programs import initialization_program, training_program

    task, loader = ours(case, **options)
    devices = create_devices(count=1)
    initialize = initialization_program(devices, task, 3)
    run = training_program(devices, task, initialize.shapes, loader)
    with compiler_threads() as threads:
        initialize.compile(threads)
        run.compile(threads)
        state = initialize(np.int32(0))
        run.wait()

    def train(count: int) -> None:
        nonlocal state
        for step in range(0, count, loader.steps):
            most = min(loader.steps, count - step)
            chunk = loader.chunk(step, most)
            state, sums = run(task, state, loader.data, chunk, np.int32(most))
        jax.block_until_ready(sums)

    return step_timer(train, steps)


def infer_ours(case: Case) -> Measure:
    """Measure the computation of logits of float images."""
    import jax
    import jax.numpy as jnp

    from hybrid_jax import runtime
    from hybrid_jax.programs.compile import Program, compiler_threads

    task, _ = ours(case)
    images = jax.random.normal(jax.random.key(0), (case.batch, *task.image_size, 3))
    create = runtime.jit_once(task.model.init)
    variables = create(jax.random.key(0), jnp.zeros((1, *task.image_size, 3)))
    with compiler_threads() as threads:
        apply = Program(jax.jit(task.model.apply).trace, variables, images)
        apply.compile(threads).wait()

    def steps(count: int) -> None:
        for _ in range(count):
            logits = apply(variables, images)
        logits.block_until_ready()

    return step_timer(steps)


def theirs(case: Case) -> tuple[Any, Any, Any, Any]:
    """Return torch, its device, and timm's network and images there, channels last."""
    import timm
    import torch

    from hybrid_jax import create_model
    from hybrid_jax.weights.timm_models import timm_arguments

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")  # for what autocast leaves in float32
    model = create_model(case.model, CLASSES, case.pixels, strides=(2,) * 5)
    name, arguments = timm_arguments(model)
    network = timm.create_model(name, **arguments)
    network = network.to(device, memory_format=torch.channels_last)
    images = torch.randn(case.batch, 3, case.pixels, case.pixels, device=device)
    images = images.to(memory_format=torch.channels_last)
    return torch, device, network, images


def train_theirs(case: Case, compiled: bool) -> Measure:
    """Measure training steps, one by one as in a loop over batches."""
    return step_timer(steps_of_theirs(case, compiled))


def steps_of_theirs(case: Case, compiled: bool) -> Callable[[int], None]:
    """Return a function that runs steps: forward, backward and fused AdamW.

    On a GPU, the forward pass runs under autocast.
    """
    torch, device, network, images = theirs(case)
    network.train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-4, weight_decay=0.05, fused=True
    )
    labels = torch.arange(case.batch, device=device) % CLASSES
    half = device.type == "cuda"

    def compute_loss(images: Any, labels: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = network(images)
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    compute_loss = torch.compile(compute_loss) if compiled else compute_loss

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = compute_loss(images, labels)
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device

    return steps


def infer_theirs(case: Case, compiled: bool) -> Measure:
    """Measure the computation of logits; on a GPU under autocast.

    If it is compiled, the weights are frozen into the program.
    """
    torch, device, network, images = theirs(case)
    if compiled:
        torch._inductor.config.freezing = True
    network = torch.compile(network.eval()) if compiled else network.eval()
    half = device.type == "cuda"

    def steps(count: int) -> None:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            for _ in range(count):
                logits = network(images)
        logits.float().sum().item()  # waits for the device

    return step_timer(steps)


def peak_memory(make: Callable[[], Measure]) -> Measure:
    """Measure the peak of bytes that a contender's steps take after all imports."""
    import resource

    import jax

    import hybrid_jax.engine.fit  # noqa: F401

    with contextlib.suppress(ImportError):  # the contender reports it
        import timm  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    make()()
    if jax.default_backend() == "cpu":
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        return lambda: 1024.0 * grown
    in_use = jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    if "torch" in sys.modules:
        in_use = max(in_use, sys.modules["torch"].cuda.max_memory_allocated())
    return lambda: float(in_use)


def step_timer(steps: Callable[[int], None], count: int | None = None) -> Measure:
    """Return a function that measures the seconds of a compiled step.

    Args:
      steps: runs a number of steps.
      count: how many to measure; None measures for about `SECONDS`.
    """

    def seconds(count: int) -> float:
        start = time.perf_counter()
        steps(count)
        return (time.perf_counter() - start) / count

    seconds(1)
    seconds(1)
    steps_per_round = count or max(round(SECONDS / seconds(1)), 1)

    def measure() -> float:
        # Between two rounds the machine may have taken back freed memory.
        seconds(1)
        return seconds(steps_per_round)

    return measure


PEERS = {"timm, eager": False, "timm, torch.compile": True}

# The compared networks by platform.
CASES = {
    "cpu": (
        Case("astroformer_0", 32, 64),
        Case("astroformer_0", 64, 32),
        Case("astroformer_0", 224, 8),
    ),
    "gpu": tuple(Case(f"astroformer_{size}", 224, 256) for size in (0, 1, 3)),
}


def beside_timm(
    ours: Callable[..., Measure], theirs: Callable[..., Measure], case: Case
) -> dict[str, Callable[[], Measure]]:
    """Return contenders by name: ours, and PyTorch's in eager and compiled form."""
    return {
        **{name: partial(theirs, case, how) for name, how in PEERS.items()},
        "hybrid_jax": partial(ours, case),
    }
