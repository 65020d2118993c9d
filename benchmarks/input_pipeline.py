"""Images a second into the training step: our loaders against timm's and tf.data.

    pip install torch torchvision timm tensorflow-cpu    # a missing one is left out
    python benchmarks/input_pipeline.py

Images are tiles of the two photographs that come with scikit-learn, PNG at 32 and 64 px
and JPEG at 224 px, in a folder of two classes that every contender reads. Contenders
alternate in processes of their own, each for some seconds a round, and the table shows
the median over rounds and its ratio to timm's. All crop, flip and normalize, and mix
the batch by mixup or cutmix. The second recipe adds RandAugment. Ours augment in the
compiled program, whose batches are written to memory as the step would read them.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from interleaved import measure_interleaved
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images

WORKERS = 2
# pixels: (images, batch size, kind of file)
SIZES = {32: (4096, 128, "png"), 64: (4096, 128, "png"), 224: (512, 32, "jpg")}
RECIPES = {"crop, flip, mix": False, "and RandAugment": True}


def write_tiles(folder: Path, pixels: int, count: int, kind: str) -> None:
    """Write tiles of the two photographs at random positions: `<photograph>/*`."""
    rng = np.random.default_rng(0)
    photographs = load_sample_images()
    for photograph, name in zip(photographs.images, photographs.filenames, strict=True):
        class_folder = folder / Path(name).stem
        class_folder.mkdir(parents=True)
        for i in range(count // 2):
            y, x = (rng.integers(0, side - pixels) for side in photograph.shape[:2])
            tile = Image.fromarray(photograph[y : y + pixels, x : x + pixels])
            options = {"quality": 90} if kind == "jpg" else {}
            tile.save(class_folder / f"{i}.{kind}", **options)


def ours(
    folder: str, pixels: int, policy: bool, batch: int, **options
) -> Iterator[int]:
    """Yield batch sizes of one of our loaders, with augmentation."""
    import jax
    import jax.numpy as jnp

    from hybrid_jax import data, runtime
    from hybrid_jax.augment import augment, normalize
    from hybrid_jax.augment.resample import materialize
    from hybrid_jax.config.schema import AugmentConfig, DataConfig
    from hybrid_jax.data.loader import create_loader
    from hybrid_jax.data.sampler import TrainingOrder

    runtime.set_up(compilation_cache=True)
    splits = data.load(DataConfig("folder", f"{folder}.kept", path=folder, **options))
    order = TrainingOrder(splits.train.labels, batch, seed=0)
    loader = create_loader(
        splits.train, order, batch, workers=options.get("workers", 0)
    )
    mean, std = splits.statistics
    crop = {"crop_scale": 0.08} if pixels == 224 else {"crop_padding": pixels // 8}
    config = AugmentConfig(
        symmetry="flip",
        policy="rand_augment" if policy else "none",
        mixup=0.8,
        cutmix=1.0,
        **crop,
    )

    @jax.jit
    def consume(data, chunk, key, count):
        def one(i, total):
            images, labels = loader.pick(data, chunk, i)
            targets = jax.nn.one_hot(labels, 2)
            images, targets = augment(
                jax.random.fold_in(key, i), images, targets, config, (pixels, pixels)
            )
            images = materialize(normalize(images, mean, std), targets[0, 0])
            return total + images.sum() + targets.sum()

        return jax.lax.fori_loop(0, count, one, jnp.float32(0))

    def run():
        before = None
        for step in itertools.count(0, loader.steps):
            chunk = loader.chunk(step, loader.steps)
            after = consume(loader.data, chunk, jax.random.key(step), loader.steps)
            jax.block_until_ready(before)  # one call ahead, as in training
            before = after
            yield loader.steps * batch

    return run()


def timms(folder: str, pixels: int, policy: bool, batch: int) -> Iterator[int]:
    """Yield batch sizes of timm's loader and augmentation, or torchvision's crop."""
    from timm.data import Mixup, create_dataset, create_loader, create_transform
    from torchvision import transforms

    loader = create_loader(
        create_dataset("", root=folder),
        input_size=(3, pixels, pixels),
        batch_size=batch,
        is_training=True,
        no_aug=True,
        use_prefetcher=False,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    transform = create_transform(
        pixels,
        is_training=True,
        scale=(0.08, 1.0),
        hflip=0.5,
        color_jitter=None,
        auto_augment="rand-m9-n2" if policy else None,
    )
    if pixels != 224:  # the first transform is the resized crop
        padded = transforms.RandomCrop(pixels, padding=pixels // 8)
        transform.transforms[0] = padded
    loader.dataset.transform = transform
    mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=2)

    def run():
        while True:
            for images, labels in loader:
                if len(labels) == batch:
                    images, _ = mixup(images, labels)
                    yield len(images)

    return run()


def tf_data(folder: str, pixels: int, policy: bool, batch: int) -> Iterator[int]:
    """Yield batch sizes of tf.data with crop and flip; it has no RandAugment."""
    import tensorflow as tf

    if policy:
        raise ImportError("tf.data has no RandAugment")
    paths = sorted(str(path) for path in Path(folder).rglob("*.*"))
    names = sorted({Path(path).parent.name for path in paths})
    labels = [names.index(Path(path).parent.name) for path in paths]

    def load(path, label):
        image = tf.io.decode_image(
            tf.io.read_file(path), channels=3, expand_animations=False
        )
        image = tf.cast(image, tf.float32)
        if pixels == 224:
            begin, size, _ = tf.image.sample_distorted_bounding_box(
                tf.shape(image),
                tf.zeros((1, 0, 4)),
                area_range=(0.08, 1.0),
                use_image_if_no_bounding_boxes=True,
            )
            image = tf.slice(image, begin, size)
            image = tf.image.resize(image, (pixels, pixels))
        else:
            edge = pixels // 8
            image = tf.pad(image, ((edge, edge), (edge, edge), (0, 0)))
            image = tf.image.random_crop(image, (pixels, pixels, 3))
        image = tf.image.random_flip_left_right(image)
        return (image - 127.0) / 64.0, tf.one_hot(label, 2)

    def mix(images, targets):
        share = tf.random.uniform(())
        return (
            share * images + (1 - share) * images[::-1],
            share * targets + (1 - share) * targets[::-1],
        )

    ready = (
        tf.data.Dataset.from_tensor_slices((paths, labels))
        .shuffle(len(paths))
        .repeat()
        .map(load, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch, drop_remainder=True)
        .map(mix, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    return (len(images) for images, _ in ready)


CONTENDERS: dict[str, Callable[..., Iterator[int]]] = {
    "timm": timms,
    "tf.data": tf_data,
    "ours, resident": partial(ours, loader="resident"),
    "ours, stream": partial(ours, loader="stream"),
    "ours, stream, 2 processes": partial(ours, loader="stream", workers=WORKERS),
}


def throughput_timer(
    make: Callable[..., Iterator[int]], args: tuple, seconds: float
) -> Callable[[], float]:
    """Return a function that measures images a second, over some seconds."""
    batches = make(*args)
    next(batches)

    def rate() -> float:
        count, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            count += next(batches)
        return count / passed

    return rate


def compare(args: tuple, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return images a second of each contender that can run here, by round."""
    contenders = {
        name: partial(throughput_timer, make, args, seconds)
        for name, make in CONTENDERS.items()
    }
    return measure_interleaved(contenders, rounds)


def rows(args: tuple, rates: dict[str, list[float]]) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for each contender."""
    _, pixels, policy, batch = args
    recipe = next(name for name, value in RECIPES.items() if value == policy)
    peer = statistics.median(rates["timm"]) if "timm" in rates else None
    for name, found in rates.items():
        middle = statistics.median(found)
        ratio = f"{middle / peer:.2f}" if peer else ""
        spread = f"{min(found):,.0f} to {max(found):,.0f}"
        yield f"{pixels} px, {batch}", recipe, name, f"{middle:,.0f}", spread, ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    options = parser.parse_args()
    columns = ("images, batch", "recipe", "loader", "images/s", "range", "of timm's")
    table = Table(*columns, title=f"into the step, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        cases = []
        for pixels in options.sizes:
            count, batch, kind = SIZES[pixels]
            folder = Path(scratch) / f"{pixels}px"
            write_tiles(folder, pixels, count, kind)
            cases += [(str(folder), pixels, p, batch) for p in RECIPES.values()]
        for case in cases:
            for row in rows(case, compare(case, options.rounds, options.seconds)):
                table.add_row(*row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
