"""Images that a network was trained on are told where they judge it."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import hybrid_jax
from hybrid_jax.errors import UserError
from hybrid_jax.main import main
from hybrid_jax.runs import seen_images
from hybrid_jax.runs.seen_images import FILE, notes_on_given
from tests.experiments import flags, small
from tests.runs.test_run import write_digits

ONE_EPOCH = {"train__epochs": 1, "optim__warmup_epochs": 0.0}


def names_of(run, *splits):
    return {Path(name).name for split in splits for name in run.splits[split].names}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A run on 200 images, and one from its weights on these and 60 more."""
    folder = tmp_path_factory.mktemp("grown")
    fields = {"data__name": "folder", "data__path": str(folder / "cells"), **ONE_EPOCH}
    fields["data__per_class"] = 0
    write_digits(folder / "cells", slice(0, 200))
    hybrid_jax.fit(small(**fields), workdir=folder / "first", verbose=False)
    first = names_of(hybrid_jax.load_run(folder / "first"), "train", "validation")
    trained_on = names_of(hybrid_jax.load_run(folder / "first"), "train")
    write_digits(folder / "cells", slice(200, 260))
    fields["init_from"] = str(folder / "first")
    run = hybrid_jax.fit(small(**fields), workdir=folder / "second", verbose=False)
    return folder, run, first, trained_on


def test_a_run_from_the_weights_of_another_tells_which_images_that_one_saw(grown):
    _, run, first, trained_on = grown
    expected = {
        "test": len(names_of(run, "test") & first),
        "validation": len(names_of(run, "validation") & trained_on),
    }
    assert min(expected.values()) > 0
    for name, count in expected.items():
        of = f"{count} of the {len(run.splits[name])} {name} images have served to"
        assert [note for note in run.notes if note.startswith(of)]


def test_images_of_a_run_are_known_when_its_folder_has_changed(grown, capsys):
    """Also those of the run whose weights it began from."""
    folder, run, _, trained_on = grown
    judged = folder / "judged"
    write_digits(judged, slice(300, 340))
    new = names_of(run, "test") - trained_on
    taken = [min(names_of(run, "train") & trained_on), min(new)]
    for number, name in enumerate(taken):
        (path,) = (folder / "cells").glob(f"*/{name}")
        shutil.copy(path, judged / path.parent.name / f"copy-{number}.png")
    command = ["hybrid-jax", "evaluate", f"--data={judged}"]
    assert main([*command, f"--workdir={folder / 'first'}"]) == 0
    said = capsys.readouterr().out
    assert "1 image of 42 was trained on: new images would do worse" in said
    assert main([*command, f"--workdir={folder / 'second'}"]) == 0
    said = capsys.readouterr().out
    assert "1 image of 42 was trained on: new images would do worse" in said
    assert "1 image of 42 was trained on by a run whose weights it began from" in said


def test_what_an_older_run_has_seen_is_unknown(grown, tmp_path, capsys):
    folder, *_ = grown
    older = shutil.copytree(folder / "first", tmp_path / "older")
    (older / FILE).unlink()
    judged = tmp_path / "judged"
    write_digits(judged, slice(300, 340))
    command = ["hybrid-jax", "evaluate", f"--data={judged}", f"--workdir={older}"]
    assert main(command) == 0
    unknown = f"{older} keeps no digests of its images"
    said = capsys.readouterr().out
    assert f"These images may have served to train the run: {unknown}" in said
    (older / FILE).write_bytes(b"damaged")
    assert main(command) == 0
    assert f"{older / FILE} cannot be read (" in capsys.readouterr().out
    words = flags(**ONE_EPOCH, init_from=older)
    assert main(["hybrid-jax", *words, f"--workdir={tmp_path / 'new'}"]) == 0
    said = capsys.readouterr().out
    assert f"Images that {older} was trained on may judge this run: " in said
    words = flags(**ONE_EPOCH, init_from=tmp_path / "new")
    assert main(["hybrid-jax", *words, f"--workdir={tmp_path / 'newer'}"]) == 0
    said = capsys.readouterr().out
    assert f"Images that {older} was trained on may judge this run\n" in said
    run = hybrid_jax.load_run(tmp_path / "newer")
    (note,) = notes_on_given(run.splits.test, run.workdir, False, lambda: run.splits)
    assert note.startswith(f"These images may have served to train {older}, whose ")


def test_a_run_whose_digests_fail_is_complete(tmp_path, monkeypatch):
    """They are a side product."""

    def fail(*_):
        raise UserError("the images are gone")

    monkeypatch.setattr(seen_images, "compute_digests", fail)
    run = hybrid_jax.fit(small(**ONE_EPOCH), workdir=tmp_path, verbose=False)
    assert run.results["test"]
    assert run.notes == ["No digests of the images are kept: the images are gone"]
    assert not (tmp_path / FILE).exists()


def test_a_run_that_ends_writes_nothing_into_the_folder_of_a_later_one(
    tmp_path, monkeypatch
):
    began, goes_on = threading.Event(), threading.Event()

    def slow(split, is_cancelled):
        began.set()
        goes_on.wait(60)
        return np.zeros(3, np.uint64)

    monkeypatch.setattr(seen_images, "compute_digests", slow)
    keeper = seen_images.Keeper(tmp_path, {"train": None}, {}, "")
    assert began.wait(60)
    threading.Timer(0.2, goes_on.set).start()
    keeper.cancel()
    assert [*tmp_path.iterdir()] == []
    seen_images.Keeper(tmp_path, {"train": None}, {}, "").finish()
    assert (tmp_path / FILE).exists()


def test_arrays_are_known_by_their_pixels(tmp_path):
    images, labels = load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    images = images.repeat(2, 1).repeat(2, 2)
    first, other = slice(0, 200), slice(150, 350)
    all_of_them = ONE_EPOCH | {"data__validation": 0, "data__per_class": 0}
    hybrid_jax.fit(
        small(**all_of_them),
        {"train": (images[first], labels[first])},
        tmp_path,
        verbose=False,
    )
    run = hybrid_jax.fit(
        small(**all_of_them, init_from=str(tmp_path)),
        {"train": (images[350:], labels[350:]), "test": (images[other], labels[other])},
        verbose=False,
    )
    (note,) = run.notes
    assert note.startswith(f"50 of the 200 test images have served to train {tmp_path}")
