"""What each augmentation costs, as a share of a training step of astroformer_0.

    python benchmarks/augmentation.py

Images are in color, of 32 px, in batches of 64, in a loop of several steps inside one
compiled program, as in training. The network halves its map five times, as timm's does.
By default it would not at this size, and a step would take 16 to 40 times as long. The
step and each augmentation take turns, and the table shows medians over rounds. The last
rows are whole recipes, such as that of `configs/cifar10.py`.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from contenders import experiment
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.datasets import load_sample_images

from hybrid_jax import create_model, runtime
from hybrid_jax.augment import augment
from hybrid_jax.augment.resample import materialize
from hybrid_jax.config.schema import AugmentConfig, OptimConfig
from hybrid_jax.data import Split
from hybrid_jax.data.loader import create_loader
from hybrid_jax.data.sampler import TrainingOrder
from hybrid_jax.training import multi_step, optimizers
from hybrid_jax.training.state import create_state
from hybrid_jax.training.step import Task

PIXELS, BATCH, CLASSES = 32, 64, 10
STEPS = {"step": 4, "augmentation": 64}  # in one call


def recipe(name: str) -> AugmentConfig:
    """Return the augmentation of an experiment."""
    return AugmentConfig(**experiment(name).augment)


AUGMENTATIONS = {
    "crop_padding=4": AugmentConfig(crop_padding=4),
    "crop_scale=0.08": AugmentConfig(crop_scale=0.08),
    "symmetry=flip": AugmentConfig(symmetry="flip"),
    "symmetry=dihedral": AugmentConfig(symmetry="dihedral"),
    "symmetry=rotation": AugmentConfig(symmetry="rotation"),
    "policy=rand_augment": AugmentConfig(policy="rand_augment"),
    "policy=trivial_augment": AugmentConfig(policy="trivial_augment"),
    "color_jitter=0.4": AugmentConfig(color_jitter=0.4),
    "hue_jitter=0.1": AugmentConfig(hue_jitter=0.1),
    "erasing=0.25": AugmentConfig(erasing=0.25),
    "mixup=0.8": AugmentConfig(mixup=0.8),
    "cutmix=1.0": AugmentConfig(cutmix=1.0),
    "mixup=0.8 cutmix=1.0": AugmentConfig(mixup=0.8, cutmix=1.0),
    "configs/cifar10.py": recipe("cifar10"),
    "configs/galaxy10.py": recipe("galaxy10"),
    "all of them": AugmentConfig(
        crop_scale=0.08,
        symmetry="rotation",
        policy="rand_augment",
        color_jitter=0.4,
        hue_jitter=0.1,
        erasing=0.25,
        mixup=0.8,
        cutmix=1.0,
    ),
}


def tiles() -> Split:
    """Return 1,000 tiles of scikit-learn's photographs."""
    rng = np.random.default_rng(0)
    photographs = np.stack(load_sample_images().images)
    images = np.empty((1000, PIXELS, PIXELS, 3), np.uint8)
    for i in range(len(images)):
        y, x = (rng.integers(0, side - PIXELS) for side in photographs.shape[1:3])
        images[i] = photographs[i % 2, y : y + PIXELS, x : x + PIXELS]
    return Split(images, (np.arange(1000) % CLASSES).astype(np.int32))


def training(split: Split) -> Callable[[], float]:
    """Return a function that measures a training step without augmentation."""
    task = Task(
        model=create_model("astroformer_0", CLASSES, PIXELS, strides=(2,) * 5),
        create_optimizer=lambda rates: optimizers.create_optimizer(
            optimizers.adamw, lambda step: rates.learning_rate, OptimConfig()
        ),
        rates=optimizers.Rates(1e-4, OptimConfig.weight_decay),
        image_size=(PIXELS, PIXELS),
        mean=jnp.full(3, 127.0),
        std=jnp.full(3, 64.0),
    )
    loader = create_loader(split, TrainingOrder(split.labels, BATCH, 0), BATCH)
    shape = (PIXELS, PIXELS, 3)
    create = runtime.jit_once(
        lambda: create_state(task.model, task.optimizer, jnp.int32(0), shape, False)
    )
    run = jax.jit(
        lambda *args: multi_step.train_steps(task, loader, *args), donate_argnums=0
    )
    state, count = create(), STEPS["step"]

    def seconds() -> float:
        nonlocal state
        chunk = loader.chunk(0, count)
        start = time.perf_counter()
        state, sums = run(state, loader.data, chunk, count)
        jax.block_until_ready(sums)
        return (time.perf_counter() - start) / count

    return seconds


def augmentation(split: Split, config: AugmentConfig) -> Callable[[], float]:
    """Return a function that measures the gathering and augmentation of a batch."""
    loader = create_loader(split, TrainingOrder(split.labels, BATCH, 0), BATCH)

    @jax.jit
    def run(data, chunk, count):
        def one(i, total):
            images, labels = loader.pick(data, chunk, i)
            key = jax.random.fold_in(jax.random.key(0), i)
            targets = jax.nn.one_hot(labels, CLASSES)
            images, targets = augment(key, images, targets, config, (PIXELS, PIXELS))
            images = materialize(images, targets[0, 0])
            return total + images.sum() + targets.sum()

        return jax.lax.fori_loop(0, count, one, jnp.float32(0))

    chunk, count = loader.chunk(0, loader.steps), STEPS["augmentation"]

    def seconds() -> float:
        start = time.perf_counter()
        run(loader.data, chunk, count).block_until_ready()
        return (time.perf_counter() - start) / count

    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    runtime.set_up(compilation_cache=True)
    split = tiles()
    contenders = {"step": training(split), "none": augmentation(split, AugmentConfig())}
    for name, config in AUGMENTATIONS.items():
        contenders[name] = augmentation(split, config)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in track(range(rounds + 1), "measuring"):
        for name, seconds in contenders.items():
            taken = seconds()
            if round_:  # the first one compiles
                times[name].append(1000 * taken)
    middle = {name: statistics.median(found) for name, found in times.items()}
    step, none = middle.pop("step"), middle.pop("none")
    table = Table(
        "augmentation",
        "ms a batch",
        "share of a step",
        title=f"{BATCH} images of {PIXELS} px, {os.cpu_count()} cores; "
        f"a step of astroformer_0 takes {step:.0f} ms without",
    )
    for name, taken in middle.items():
        cost = max(taken - none, 0)
        table.add_row(name, f"{cost:.2f}", f"{100 * cost / step:.2f} %")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
