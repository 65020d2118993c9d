"""Both loaders give the same batches, whatever reads them and wherever they go."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import memory_budget
from hybrid_jax.data.loader import create_loader
from hybrid_jax.data.prefetch import PrefetchedBatches
from hybrid_jax.data.sampler import SAMPLINGS, EvaluationOrder, TrainingOrder
from hybrid_jax.errors import ProcessDied
from tests.data.files import write_folder
from tests.parallel.runs import environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same folder as arrays and as files to be decoded."""
    place = write_folder(tmp_path_factory.mktemp("loaders") / "cells", each=10)
    return place, {
        loader: data.load(
            DataConfig(
                "folder", f"{place}.kept", path=str(place), loader=loader, validation=0
            )
        )
        for loader in ("resident", "stream")
    }


def batches(loader, chunk, count):
    return [loader.pick(loader.data, chunk, i) for i in range(count)]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    batch_size=st.integers(1, 30),
    first=st.integers(0, 50),
    sampling=st.sampled_from(sorted(SAMPLINGS)),
)
def test_batches_are_those_of_the_order(both, seed, batch_size, first, sampling):
    _, splits = both
    train = splits["resident"].train
    for kind in splits:
        split = splits[kind].train
        order = TrainingOrder(split.labels, batch_size, seed, sampling)
        loader = create_loader(split, order, batch_size)
        for i, (images, labels) in enumerate(
            batches(loader, loader.chunk(first, 2), 2)
        ):
            rows = order(first + i)
            assert images.dtype == np.uint8
            np.testing.assert_array_equal(images, train.images[rows])
            np.testing.assert_array_equal(labels, train.labels[rows])


def test_two_evaluations_count_every_image_once(both):
    _, splits = both
    for kind in splits:
        split = splits[kind].test
        order = EvaluationOrder(len(split), 4)
        loader = create_loader(split, order, 4)
        for evaluation in range(2):
            first = evaluation * len(order)
            seen = batches(loader, loader.chunk(first, len(order)), len(order))
            seen = np.concatenate([np.asarray(images) for images, _ in seen])
            np.testing.assert_array_equal(
                seen[: len(split)], splits["resident"].test.images
            )


def test_shapes_are_those_of_chunks(both):
    for splits in both[1].values():
        order = TrainingOrder(splits.train.labels, 8, 0)
        loader = create_loader(splits.train, order, 8)
        chunk = loader.chunk(0, 2)
        shapes = jax.tree.map(lambda x: (x.shape, x.dtype), chunk)
        assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), loader.shapes)


def start(place, workers=0, devices=1, processes=()):
    command = [sys.executable, "-m", "tests.data.loading", str(place), str(workers)]
    return subprocess.Popen(
        [*command, *map(str, processes)],
        cwd=ROOT,
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process):
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


def test_workers_devices_and_hosts_do_not_matter(both):
    place, _ = both
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    alone = result(start(place))
    assert len({*alone["stream"]}) == 5
    assert alone["stream"] == alone["resident"]
    many = result(start(place, workers=2, devices=8))
    hosts = [start(place, processes=(port, i, 4)) for i in range(4)]
    hosts = [result(host) for host in hosts]
    devices = [found.pop("devices") for found in (alone, many, *hosts)]
    assert devices == [1, 8, 4, 4, 4, 4]
    for found in (many, *hosts):
        assert found == alone


@pytest.mark.parametrize("signal_", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_processes_of_a_stream_end_with_the_one_that_started_them(both, signal_):
    process = start(both[0], workers="wait")
    children = [psutil.Process(pid) for pid in json.loads(process.stdout.readline())]
    assert len(children) >= 2
    process.send_signal(getattr(signal, signal_))
    gone, alive = psutil.wait_procs(children, timeout=120)
    for child in alive:
        child.kill()
    _, error = process.communicate(timeout=120)
    assert not alive
    assert len(gone) == len(children)
    assert "grain" not in error


class Deadly:
    """Batches that end the process which reads them: 0 by a signal, others by exit."""

    def __getitem__(self, step):
        os._exit(step) if step else os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "step, said", [(0, "by SIGKILL: .* to resume"), (3, "code 3, .*__main__")]
)
def test_a_process_that_ends_is_told(step, said):
    """As one that the system kills for memory, or one that a script cannot start."""
    with pytest.raises(ProcessDied, match=rf"^a process that decodes .*{said}"):
        PrefetchedBatches(Deadly(), workers=1)[step]


def test_what_fits_is_resident(digits, monkeypatch):
    size = 1797 * 64
    for room, resident in ((size, False), (5 * size, True)):
        monkeypatch.setattr(memory_budget, "device_memory", lambda room=room: room)
        assert data.load(DataConfig("digits", validation=0)).train.resident is resident
    assert data.load(
        DataConfig("digits", loader="resident", validation=0)
    ).test.resident
    assert not data.load(
        DataConfig("digits", loader="stream", validation=0)
    ).test.resident
    assert digits.train.resident


def test_statistics_do_not_depend_on_the_loader(digits):
    streamed = data.load(DataConfig("digits", loader="stream", validation=0))
    for ours, theirs in zip(streamed.statistics, digits.statistics, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_pixels_are_decoded_once_when_they_are_asked_for():
    decoded = []

    def decode():
        decoded.append(1)
        return np.zeros((5, 4, 4, 3), np.uint8)

    split = data.LazySplit((5, 4, 4, 3), decode, np.zeros(5, np.int32))
    assert (len(split), split.shape, split.resident) == (5, (5, 4, 4, 3), True)
    assert not decoded
    assert split.images is split.images
    assert len(decoded) == 1
