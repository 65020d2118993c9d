"""A storage that several sweeps share keeps them apart, and names what is elsewhere."""

import contextlib
from types import SimpleNamespace

import pytest

from hybrid_jax.config.files import load_config
from hybrid_jax.config.resolve import resolve
from hybrid_jax.errors import UserError
from hybrid_jax.sweeps import search as searches
from hybrid_jax.sweeps.search import Kept, create_search, keep
from hybrid_jax.sweeps.storage import Store, check_url
from hybrid_jax.sweeps.worker import MACHINE, Worker, machine
from tests.commands import ROOT

TINY = str(ROOT / "tests" / "sweeps" / "tiny.py")


@pytest.fixture
def search():
    return create_search(resolve(load_config(TINY, {})), {"optim.clip_norm": "1,2"})


@pytest.fixture
def shared(search, tmp_path, digits, monkeypatch):
    """A storage that stands for one in PostgreSQL."""
    store = Store(search, tmp_path / "s")
    monkeypatch.setattr(store, "_is_shared", True)
    return store


def test_sweeps_of_other_images_have_other_names(search, tmp_path, monkeypatch):
    """Also if their folders are called alike."""
    names = []
    for place in ("a", "b", "a"):
        images = SimpleNamespace(identity={"files": place})
        monkeypatch.setattr(searches, "load_splits", lambda config, of=images: of)
        names.append(keep(search, tmp_path / place / "s", "study.sqlite3").name)
    assert names[0] == names[2] != names[1]


def test_a_trial_of_another_folder_is_not_taken_over(search, shared, tmp_path):
    trial = shared.study.ask()
    trial.set_user_attr(MACHINE, machine())
    worker = Worker(search, shared, tmp_path / "other", 2)
    with contextlib.ExitStack() as held:
        with pytest.raises(UserError, match=r"--storage knows trial 0 of this sweep, "):
            worker._claim(held)
        assert not (tmp_path / "other").exists()
        worker.trial_folder(0).mkdir(parents=True)
        assert worker._claim(held).number == 0


def test_a_trial_that_another_worker_has_ended_ends_with_a_line(shared):
    trial = shared.study.ask()
    shared.study.tell(trial, 0.5)
    ended = pytest.raises(UserError, match=r"another worker has ended a trial")
    with ended, shared.errors():
        trial.report(0.5, 1)


def test_trials_put_back_are_known_again(search, shared, tmp_path, monkeypatch):
    """Also those of an older version, which named the sweep in another way."""
    shared.study.tell(shared.study.ask(), 0.5)
    monkeypatch.setattr(searches, "_name", lambda *_: "another")
    with pytest.raises(UserError, match="1 trial of this sweep, whose runs are gone"):
        Store(search, tmp_path / "s")
    (tmp_path / "s" / "trials").mkdir()
    assert len(Store(search, tmp_path / "s").study.get_trials()) == 1


@pytest.mark.parametrize(
    "place",
    ["h:port/d", "h:/d", "h1:1,h2:2/d", "[::1/d", "h:port/d?sslpassword=secret"],
)
def test_a_place_that_cannot_be_read_is_named(place):
    with pytest.raises(UserError) as refused:
        check_url(f"postgresql://u:secret@{place}")
    told = f"--storage=postgresql+psycopg://u@{place.partition('?')[0]}"
    assert str(refused.value).startswith(told)
    assert "has a host or a port that cannot be read: give" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_database_may_move(search, tmp_path, digits):
    """Its trials go with it, but not into SQLite."""
    places = [f"postgresql+psycopg://u@{p}/d" for p in ("localhost", "127.0.0.1:5433")]
    names = [keep(search, tmp_path / "a" / "s", place).name for place in places]
    (tmp_path / "a" / "s" / "trials").mkdir()
    kept = keep(search, tmp_path / "a" / "s", places[0])
    assert (kept.name, kept.storage, kept.is_new) == (names[0], places[1], False)
    assert names[0] == names[1]
    with pytest.raises(UserError, match="storage is 'postgresql' there"):
        keep(search, tmp_path / "a" / "s", "study.sqlite3")


def test_a_database_without_the_trials_of_the_folder_is_named(search, shared, tmp_path):
    place = "postgresql+psycopg://u@h/d"
    with pytest.raises(UserError) as refused:
        shared._refuse_other_database(Kept("another", place, is_new=False))
    assert str(refused.value) == (
        f"--storage knows no trial of the sweep in --workdir={tmp_path / 's'}, which "
        f"began in {place}: give that database, or another --workdir to start anew"
    )
