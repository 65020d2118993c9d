"""Paths that libraries misread, and paths that are none of this machine."""

import glob
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_jax import paths
from hybrid_jax.config import resolve as configs
from hybrid_jax.errors import UserError
from hybrid_jax.paths import replaced_name, replacing
from hybrid_jax.runs.convert_weights import convert_weights

ODD = "a[1] *?'\"%#{}\\é $x " + os.fsdecode(b"caf\xe9") + " end."


def test_a_folder_of_any_name_has_a_path_that_patterns_take_letter_for_letter(tmp_path):
    folder = tmp_path / ODD / "below"
    plain = paths.library_path(folder)
    folder.mkdir(parents=True)  # later is early enough
    (plain / "file").write_text("mine")
    assert glob.glob(f"{plain}/fil*") == [f"{plain}/file"]
    str(plain).encode()
    assert (folder / "file").read_text() == "mine"
    assert paths.library_path(folder) == plain
    assert paths.user_path(plain / "file") == folder / "file"
    said = f'no file "{plain}/x" here'
    assert paths.with_user_paths(said) == f'no file "{folder}/x" here'


def test_a_plain_path_stays_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.library_path(Path("a b/é")) == tmp_path / "a b" / "é"
    assert paths.user_path(tmp_path / "x") == tmp_path / "x"


def test_a_path_upwards_is_resolved(tmp_path, monkeypatch):
    (tmp_path / "far" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "below")
    monkeypatch.chdir(tmp_path / "far")
    assert paths.library_path(Path("../a")) == tmp_path / "a"
    assert paths.library_path(tmp_path / "link/../b") == tmp_path / "far" / "b"


def test_links_end_with_their_process_and_need_a_plain_place(tmp_path):
    show = "from hybrid_jax import paths; print(paths.library_path('x[1]').parent)"
    start = [sys.executable, "-c", show]
    odd = tmp_path / "odd[1]"
    odd.mkdir()
    for temporary in (tmp_path, odd):
        environment = os.environ | {"TMPDIR": str(temporary)}
        done = subprocess.run(start, env=environment, capture_output=True, text=True)
        links = Path(done.stdout.strip())
        assert (links.parent == tmp_path) is (temporary == tmp_path), done.stderr
        assert not glob.has_magic(str(links))
        assert not links.exists()


def test_links_outlive_forks_and_end_with_a_process_that_ends_at_once(tmp_path):
    show = (
        "import os, sys; from hybrid_jax import paths\n"
        "links = paths.library_path('x[1]').parent\n"
        "if not os.fork(): sys.exit()\n"
        "os.wait()\n"
        "print(links, links.exists(), flush=True)\n"
        "paths.remove_links()\n"
        "os._exit(0)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    start = [sys.executable, "-c", show]
    done = subprocess.run(start, env=environment, capture_output=True, text=True)
    links, there = done.stdout.rsplit(maxsplit=1)
    assert there == "True", done.stderr
    assert not Path(links).exists()


def test_a_tilde_that_names_nobody_is_a_letter(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert paths.expand_user("~/runs") == Path("/home/me/runs")
    assert paths.expand_user("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")


@pytest.mark.parametrize(
    "path", ["gs://bucket/run", "s3://b", "file:///abs", "hdfs:/x", "https://a.b/c"]
)
def test_what_is_not_on_this_machine_is_refused_and_the_way_is_named(path, tmp_path):
    with pytest.raises(UserError, match=rf"^--workdir={path} .*mount a bucket"):
        paths.check_local("--workdir", path)
    for name in ("data.dir", "data.manual_dir", "data.path", "init_from"):
        fields = configs.flatten(configs.default()) | {name: path}
        with pytest.raises(UserError, match=rf"config\.{name}='{path}' .*mount a buck"):
            configs.resolve(configs.to_config_dict(fields))
    for source, target in ((path, "x.safetensors"), ("x", f"{path}.safetensors")):
        with pytest.raises(UserError, match=rf"{path}.* is not allowed: a path of thi"):
            convert_weights(source, target)


@pytest.mark.parametrize("path", ["runs/x", "./gs:/x", "C:/runs", "/a/s3://b", "", "a"])
def test_what_is_on_this_machine_is_not_refused(path):
    assert paths.is_local(path)
    paths.check_local("--workdir", path)


def test_a_file_is_replaced_whole_by_the_last_of_its_writers(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as other:
            other.write_text("other")
            assert other != first
            assert replaced_name(str(other)) == replaced_name(str(first)) == str(path)
            assert not path.exists()
        assert path.read_text() == "other"
    assert path.read_text() == "first"
    with pytest.raises(ZeroDivisionError), replacing(path) as scratch:
        scratch.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "first"
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_is_given_once_under_any_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("run")
    paths.check_given_once(["run", "other"])
    for again in ("run/", "x/../run", tmp_path / "run", "link"):
        with pytest.raises(UserError, match=f"{again} is given twice"):
            paths.check_given_once(["run", "other", again])
