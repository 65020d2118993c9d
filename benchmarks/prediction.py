"""How fast a run predicts, against its bare forward pass and timm; and its memory.

    pip install torch torchvision timm
    python benchmarks/prediction.py

One network of random weights, all strides 2. From memory: `run.predict` against its
compiled forward pass on batches that are on the device already. From JPEG files:
`run.predict_files` against the same network in timm as its `inference.py` runs it: in
eager form, with timm's loader and two workers. Contenders alternate in processes of
their own. The table shows images a second, medians over rounds.

Memory: how much the peak of a process grows while it predicts 1,000 and 100,000 images,
which are in memory already, and as many files.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from contenders import CLASSES, Case, theirs
from input_pipeline import WORKERS, write_tiles
from interleaved import measure_interleaved, table_title
from rich.console import Console
from rich.table import Table

CASE = Case("astroformer_nano", 32, 256)
IMAGES = 8192  # of a measurement from memory
FILES = 2048


def open_run() -> Any:
    """Return a run whose network was trained for a step, on noise."""
    import hybrid_jax

    config = hybrid_jax.default_config()
    config.model.name, config.model.strides = CASE.model, (2,) * 5
    config.train.steps, config.optim.warmup_epochs = 1, 0.0
    config.train.batch_size, config.data.validation = 2 * CLASSES, 0
    images, labels = noise(2 * CLASSES), np.arange(2 * CLASSES) % CLASSES
    return hybrid_jax.fit(config, {"train": (images, labels)}, verbose=False)


def noise(count: int) -> np.ndarray:
    """Return random images uint8 `[count, h, w, 3]`."""
    shape = (count, CASE.pixels, CASE.pixels, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def bare_forward_pass() -> Callable[[], float]:
    """Measure images a second of the compiled network on batches in memory."""
    import jax

    from hybrid_jax.training.step import compute_logits

    run, batch = open_run(), CASE.batch
    batches = jax.device_put([*noise(IMAGES).reshape(-1, batch, *noise(1).shape[1:])])
    forward = jax.jit(partial(compute_logits, run.network))
    variables = jax.device_put(run.variables)
    return rate(
        lambda: jax.block_until_ready([forward(variables, x) for x in batches]), IMAGES
    )


def from_memory() -> Callable[[], float]:
    """Measure images a second of `run.predict`."""
    run, images = open_run(), noise(IMAGES)
    return rate(lambda: run.predict(images, CASE.batch), IMAGES)


def from_files(folder: str) -> Callable[[], float]:
    """Measure images a second of `run.predict_files`."""
    run, paths = open_run(), sorted(Path(folder).rglob("*.jpg"))
    return rate(lambda: [*run.predict_files(paths, CASE.batch)], len(paths))


def timm_from_files(folder: str) -> Callable[[], float]:
    """Measure images a second of timm's `inference.py`: its data set, loader, network.

    Raises:
      ImportError: torchvision is missing, or is that of another PyTorch.
    """
    torch, device, network, _ = theirs(CASE)
    from timm.data import create_dataset, create_loader

    network.eval()
    dataset = create_dataset("", root=folder)
    loader = create_loader(
        dataset,
        input_size=(3, CASE.pixels, CASE.pixels),
        batch_size=CASE.batch,
        num_workers=WORKERS,
        persistent_workers=True,
        crop_pct=1.0,
        device=device,
    )

    def predict() -> None:
        with torch.inference_mode():
            for images, _ in loader:
                images = images.contiguous(memory_format=torch.channels_last)
                network(images).softmax(-1).topk(5)

    return rate(predict, len(dataset))


def rate(predict: Callable[[], Any], images: int) -> Callable[[], float]:
    """Return a function that measures images a second."""
    predict()

    def measure() -> float:
        start = time.perf_counter()
        predict()
        return images / (time.perf_counter() - start)

    return measure


def peak_growth(count: int, folder: str, pipe: Any) -> None:
    """Send the bytes by which predicting `count` images raises the process's peak.

    Args:
      count: number of images; from files, one file is named as often.
      folder: folder of JPEG files; empty predicts from memory.
      pipe: pipe to send to.
    """
    run = open_run()
    paths = [*Path(folder).rglob("*.jpg")][:1] * count if folder else []
    images = noise(0 if folder else count)
    run.predict(noise(2 * CASE.batch), CASE.batch)
    for _ in run.predict_files(paths[: 2 * CASE.batch], CASE.batch):
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if folder:
        for _ in run.predict_files(paths, CASE.batch):
            pass
    else:
        run.predict(images, CASE.batch)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send(1024 * (after - before))


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_tiles(Path(folder, "images"), CASE.pixels, FILES, "jpg")
        show_rates(folder, options.rounds)
        show_memory(folder)


def show_rates(folder: str, rounds: int) -> None:
    """Print images a second, and ratios within each pair."""
    pairs = (
        {"bare forward pass": bare_forward_pass, "from memory": from_memory},
        {
            "timm, from JPEG files": partial(timm_from_files, folder),
            "from JPEG files": partial(from_files, folder),
        },
    )
    table = Table("", "images/s", "ratio", title=table_title(f"predicting, {CASE}"))
    for pair in pairs:
        measured = measure_interleaved(pair, rounds)
        middle = {name: statistics.median(v) for name, v in measured.items()}
        first = next(iter(middle.values()))
        for name, value in middle.items():
            table.add_row(name, f"{value:,.0f}", f"{value / first:.2f}x")
        table.add_section()
    Console(width=100).print(table)


def show_memory(folder: str) -> None:
    """Print by how much the peak grows with the number of images."""
    spawn = multiprocessing.get_context("spawn")
    table = Table("", "1,000 images", "100,000 images", title="growth of the peak, MiB")
    for name, where in (("from memory", ""), ("from JPEG files", folder)):
        cells = []
        for count in (1000, 100_000):
            ours, child = spawn.Pipe()
            process = spawn.Process(target=peak_growth, args=(count, where, child))
            process.start()
            cells.append(f"{ours.recv() / 2**20:,.0f}")
            process.join()
        table.add_row(name, *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
