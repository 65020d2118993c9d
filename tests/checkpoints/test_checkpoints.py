"""CheckpointWriter: which are kept, and what is done about those that are damaged."""

import contextlib
import os
import resource
import shutil
from pathlib import Path
from unittest import mock

import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from hybrid_jax.checkpoints import manifest
from hybrid_jax.checkpoints.reader import (
    CheckpointReader,
    is_evaluated,
    steps_in_words,
)
from hybrid_jax.checkpoints.writer import CheckpointWriter
from hybrid_jax.errors import UserError
from hybrid_jax.parallel.mesh import create_devices
from hybrid_jax.training.state import TrainState

DEVICES = create_devices(count=1)


def state(value: float, shape=(2, 3), dtype=jnp.float32) -> TrainState:
    params = {"kernel": jnp.full(shape, value, dtype)}
    return TrainState(
        step=jnp.int32(value),
        seed=jnp.int32(0),
        params=params,
        batch_stats={"mean": jnp.full(3, value)},
        opt_state=optax.adam(1.0).init(params),
        average=None,
    )


def save(checkpoints, step, accuracy, loss=1.0):
    checkpoints.save(step, state(step), {"accuracy": accuracy, "loss": loss})
    checkpoints.wait()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder of steps 1 and 2, not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with CheckpointWriter(folder, keep=2) as checkpoints:
        save(checkpoints, 1, 0.5)
        save(checkpoints, 2, 0.6)
    return folder


def steps_of(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_newest_and_best_checkpoints_are_kept(tmp_path):
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:
        for step, accuracy in enumerate([0.1, 0.9, 0.2, 0.3, 0.4], start=1):
            save(checkpoints, step, accuracy)
        assert checkpoints.latest() == 5
        assert checkpoints.best() == (2, {"accuracy": 0.9, "loss": 1.0})
    assert steps_of(tmp_path) == [2, 4, 5]


def test_what_killed_runs_were_writing_is_deleted(tmp_path):
    left = tmp_path / f"3{ocp.utils.TMP_DIR_SUFFIX}-1700000000"
    left.mkdir()
    (left / "part").touch()
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:
        assert not left.exists()
        save(checkpoints, 1, 0.5)
    assert steps_of(tmp_path) == [1]


def test_the_best_stays_though_it_was_evaluated_later(tmp_path):
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:
        checkpoints.save(1, state(1), {"seconds": 5.0, "unfinished": {}})
        save(checkpoints, 1, 0.9)
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:  # which reads it from disk
        for step in (2, 3, 4):
            save(checkpoints, step, 0.1 * step)
        assert checkpoints.best()[0] == 1
    assert steps_of(tmp_path) == [1, 3, 4]


def test_of_equal_accuracies_that_of_the_lower_loss_is_kept_and_named(tmp_path):
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:
        for step, loss in enumerate([1.0, 0.8, 0.9, 0.8], start=1):
            save(checkpoints, step, 0.5, loss)
        for step in (5, 6):
            save(checkpoints, step, 0.4, 0.1)
        assert checkpoints.best() == (2, {"accuracy": 0.5, "loss": 0.8})
    assert steps_of(tmp_path) == [2, 5, 6]


def test_a_checkpoint_returns_what_was_saved(two):
    saved = CheckpointReader(two)
    assert saved.notes == []
    restored = saved.restore(saved.latest(), state(0), DEVICES)
    assert saved.metrics(2) == {"accuracy": 0.6, "loss": 1.0}
    assert int(restored.step) == 2
    np.testing.assert_array_equal(restored.params["kernel"], np.full((2, 3), 2.0))
    np.testing.assert_array_equal(restored.batch_stats["mean"], np.full(3, 2.0))
    assert restored.average is None


def test_the_variables_to_evaluate_are_the_moving_averages(tmp_path):
    average = {"params": {"kernel": jnp.ones((2, 3))}, "batch_stats": {}}
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:
        averaged = state(2).replace(average=average)
        checkpoints.save(2, averaged, {"accuracy": 0.5, "loss": 1.0})
    found = CheckpointReader(tmp_path).load_variables(2)
    np.testing.assert_array_equal(found["params"]["kernel"], np.ones((2, 3)))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, delete])
def test_of_damaged_checkpoints_the_one_before_is_used(two, tmp_path, damage):
    victims = [path.relative_to(two) for path in files_of(two / "2")]
    assert len(victims) > 5
    for i, victim in enumerate(victims):
        if not (two / victim).stat().st_size:
            continue
        folder = tmp_path / str(i)
        shutil.copytree(two, folder)
        damage(folder / victim)
        assert CheckpointReader(folder).latest() == 1, victim
        with CheckpointWriter(folder, keep=2) as checkpoints:
            assert checkpoints.latest() == 1
            [note] = checkpoints.notes
            assert note.startswith(f"skipping checkpoint {folder / '2'}: ")
            assert note.endswith("; renamed to damaged-2")
            assert int(checkpoints.restore(1, state(0), DEVICES).step) == 1
            save(checkpoints, 2, 0.7)  # trained again
        assert sorted(p.name for p in folder.iterdir()) == ["1", "2", "damaged-2"]


@pytest.mark.parametrize("file", ["manifest.json", "_CHECKPOINT_METADATA"])
def test_a_checkpoint_that_may_not_be_read_is_no_damaged_one(
    file, two, tmp_path, monkeypatch
):
    """The next run may read it: nothing is renamed, and no older one is taken."""
    folder = shutil.copytree(two, tmp_path / "copy")
    opened = Path.open

    def refused(path, *args, **options):
        if path == folder / "2" / file:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UserError, match=r"copy/2 cannot be read \(Permission denied\)"):
        CheckpointWriter(folder, keep=2).__enter__()
    monkeypatch.undo()
    assert steps_of(folder) == [1, 2]
    assert CheckpointReader(folder).latest() == 2


def test_an_older_checkpoint_is_compared_with_its_manifest_when_it_is_read(
    two, tmp_path, monkeypatch
):
    monkeypatch.setattr(manifest, "SMALL_FILE_BYTES", 0)  # all are large
    folder = shutil.copytree(two, tmp_path / "run")
    large = max(files_of(folder / "1" / "state"), key=lambda p: p.stat().st_size)
    flip_a_bit(large)
    saved = CheckpointReader(folder)
    assert saved.steps == [1, 2]
    for read in (saved.load_variables, saved.load_state):
        with pytest.raises(UserError, match=r"1 cannot be read \(.* differs from what"):
            read(1)
    assert saved.load_variables(2)["params"]["kernel"].shape == (2, 3)


def test_a_folder_that_was_killed_in_its_first_save_holds_no_checkpoint(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "run")
    shutil.rmtree(folder / "2")
    assert manifest.any_saved(folder)
    (folder / "1" / manifest.NAME).unlink()
    assert not manifest.any_saved(folder)
    assert not manifest.any_saved(tmp_path / "missing")


def test_a_checkpoint_counts_once_it_has_its_manifest(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "killed")
    (folder / "2" / manifest.NAME).unlink()
    saved = CheckpointReader(folder)
    assert saved.latest() == 1
    [note] = saved.notes
    assert note == f"skipping checkpoint {folder / '2'}: it is incomplete"
    shutil.rmtree(folder / "1")
    assert (
        CheckpointReader(folder).latest() is None
    )  # killed as it saved for the first time


def test_metrics_of_a_later_evaluation_are_added(tmp_path):
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:
        checkpoints.save(1, state(1), {"seconds": 5.0, "unfinished": {"loss": 2.5}})
        checkpoints.wait()
        assert not is_evaluated(checkpoints.metrics(1))
        save(checkpoints, 1, 0.5)
    saved = CheckpointReader(tmp_path)
    assert saved.notes == []
    assert saved.metrics(1)["accuracy"] == 0.5
    assert saved.metrics(1)["seconds"] == 5.0
    assert saved.best()[0] == 1
    flip = tmp_path / "1" / "evaluation.json"
    flip.write_text(flip.read_text()[:-4])
    assert not is_evaluated(CheckpointReader(tmp_path).metrics(1))


def test_where_no_checkpoint_is_whole_nothing_is_begun_anew(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "both")
    truncate(folder / "1" / "metrics" / "metrics")
    (folder / "2" / manifest.NAME).unlink()
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"no checkpoint of .* is intact \(2: .* 1:"
        ):
            CheckpointWriter(folder, keep=2)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (state(0, shape=(3, 3)), r"params/kernel is float32 \(2, 3\) there and "),
        (state(0, dtype=jnp.bfloat16), r"kernel is float32 \(2, 3\) there and bfloat"),
    ],
)
def test_arrays_of_another_shape_or_dtype_are_refused(two, like, message):
    with pytest.raises(UserError, match=message):
        CheckpointReader(two).restore(2, like, DEVICES)


@pytest.mark.parametrize(
    "name", [b"a[1] *?'\"%#{}:\xc3\xa9 caf\xe9/[] .", rb"back\slash", b"a b.+-\xc3\xa9"]
)
def test_checkpoints_lie_in_a_folder_of_any_name(tmp_path, name):
    folder = tmp_path / os.fsdecode(name)
    for step in (1, 2, 3):
        with CheckpointWriter(folder, keep=2) as checkpoints:
            assert checkpoints.notes == []
            save(checkpoints, step, 0.5)
    assert steps_of(folder) == [1, 2, 3]
    assert int(CheckpointReader(folder).restore(3, state(0), DEVICES).step) == 3
    assert (
        float(CheckpointReader(folder).load_variables(1)["params"]["kernel"][0, 0])
        == 1.0
    )


def test_the_mean_of_several_steps_is_that_of_their_arrays(two):
    saved = CheckpointReader(two)
    one, other = (saved.load_variables(step)["params"]["kernel"] for step in (1, 2))
    for named in ("1,2", "2, 1", "all", "best,1", "last,1,2"):
        assert saved.find_steps(named) == (1, 2)
    mean = saved.load_variables((1, 2))["params"]["kernel"]
    assert mean.dtype == one.dtype
    np.testing.assert_allclose(mean, (np.asarray(one) + other) / 2)
    assert saved.find_steps("best,last") == 2  # they are one
    assert steps_in_words((1, 1200)) == "the mean of steps 1 and 1,200"


@pytest.mark.parametrize("named", ["1,3", "1,", ",", "1 2", "-1", "1.0", "²"])
def test_a_mean_of_steps_that_are_not_there_is_refused(two, named):
    with pytest.raises(UserError, match=r"best, last, a step, or all \(saved: 1, 2\)"):
        CheckpointReader(two).find_steps(named)


def test_all_checkpoints_are_no_more_with_others(two):
    with pytest.raises(UserError, match="all takes every checkpoint: give it alone"):
        CheckpointReader(two).find_steps("all,1")


def left_in_parts(folder):
    """As orbax left what was saved where a path held `[1]`, sealed all the same."""
    for step in (1, 2):
        (folder / str(step) / "state" / "manifest.ocdbt").unlink()
        shutil.rmtree(folder / str(step) / "state" / "d")
        manifest.write(folder / str(step))
    return folder


@pytest.mark.parametrize("name", ["runs", "a[1]"])
def test_what_orbax_left_in_parts_is_merged_and_used(two, tmp_path, name):
    folder = left_in_parts(shutil.copytree(two, tmp_path / name))
    before = {path: path.read_bytes() for path in files_of(folder)}
    saved = CheckpointReader(folder)
    said = [f"merged the arrays of checkpoint {folder / step}" for step in "21"]
    assert [note.split(", left")[0] for note in saved.notes] == said
    assert int(saved.restore(2, state(0), DEVICES).step) == 2
    assert float(saved.load_variables(1)["params"]["kernel"][0, 0]) == 1.0
    assert before == {path: path.read_bytes() for path in files_of(folder)}
    with CheckpointWriter(folder, keep=2) as checkpoints:
        assert [note.split(", left")[0] for note in checkpoints.notes] == said
        assert int(checkpoints.restore(2, state(0), DEVICES).step) == 2
    again = CheckpointReader(folder)
    assert (again.latest(), again.notes) == (2, [])
    assert "state/manifest.ocdbt" in (folder / "2" / manifest.NAME).read_text()


def test_parts_that_cannot_be_merged_are_passed_over(two, tmp_path):
    folder = left_in_parts(shutil.copytree(two, tmp_path / "runs"))
    truncate(folder / "2" / "state" / "ocdbt.process_0" / "manifest.ocdbt")
    manifest.write(folder / "2")
    saved = CheckpointReader(folder)
    assert saved.latest() == 1
    assert "2: its arrays cannot be merged (" in saved.notes[-1]


@pytest.mark.parametrize("lost", ["manifest.ocdbt", "d", "_METADATA"])
def test_a_checkpoint_that_could_not_be_read_back_does_not_count(
    tmp_path, monkeypatch, lost
):
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:
        save(checkpoints, 1, 0.5)
        finished = checkpoints._manager.wait_until_finished

        def lose():
            finished()
            victim = tmp_path / "2" / "state" / lost
            if victim.exists():
                shutil.rmtree(victim) if victim.is_dir() else victim.unlink()

        monkeypatch.setattr(checkpoints._manager, "wait_until_finished", lose)
        with pytest.raises(UserError, match=r"2 cannot be written \(.*; step 1 is sav"):
            save(checkpoints, 2, 0.6)
        assert not (tmp_path / "2" / "state" / lost).exists()
        monkeypatch.undo()
    assert CheckpointReader(tmp_path).latest() == 1


@contextlib.contextmanager
def files_of_at_most(count: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_named_and_loses_nothing(tmp_path):
    noise = np.random.default_rng(0).normal(size=(400, 400))
    big = state(2).replace(params={"kernel": jnp.asarray(noise, jnp.float32)})
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:
        save(checkpoints, 1, 0.5)
        with files_of_at_most(100_000), pytest.raises(UserError) as error:
            checkpoints.save(2, big, {"accuracy": 0.6})
            checkpoints.wait()
    message = str(error.value)
    assert f"{tmp_path / '2'} cannot be written (File too large): it takes" in message
    assert "step 1 is saved before it. Free space" in message
    assert CheckpointReader(tmp_path).latest() == 1


@pytest.mark.parametrize(
    "details", ["", ' [tensorstore_spec=\'{"path":"a: b/"}\']'], ids=["short", "long"]
)
def test_the_reason_of_the_system_is_told_wherever_the_writing_failed(
    tmp_path, monkeypatch, details
):
    text = f"Failed to write 9 bytes to file 27: Whatever{details} [os_error_code='27']"
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:
        failed = mock.Mock(side_effect=ValueError(f"OUT_OF_RANGE: {text}"))
        with monkeypatch.context() as patch, pytest.raises(UserError) as error:
            patch.setattr(checkpoints._manager, "wait_until_finished", failed)
            save(checkpoints, 1, 0.5)
    assert "cannot be written (File too large): it takes" in str(error.value)


def test_a_disk_without_room_is_noticed_before_writing(tmp_path, monkeypatch):
    with CheckpointWriter(tmp_path, keep=2) as checkpoints:
        save(checkpoints, 1, 0.5)
        full = shutil.disk_usage(tmp_path)._replace(free=10)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
        with pytest.raises(UserError, match=r"is full\): it takes \d+ bytes, and 10 b"):
            checkpoints.save(2, state(2), {"accuracy": 0.6})
    assert CheckpointReader(tmp_path).latest() == 1
