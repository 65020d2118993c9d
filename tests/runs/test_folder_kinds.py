"""Nothing is written over other work in a folder that a user names."""

import json

import pytest

from hybrid_jax.errors import UserError
from hybrid_jax.runs import folder_kinds
from tests.commands import hybrid_jax

TRAIN = (
    "--config=tests/small_hybrid.py",
    "--config.train.epochs=1",
    "--config.optim.warmup_epochs=0",
    "--config.data.per_class=5",
    "--config.train.report=false",
)
RUN = {"model": {}, "optim": {}, "train": {}}


@pytest.mark.parametrize("kind", ["sweep", "study"])
def test_a_run_is_not_trained_among_others(kind, tmp_path):
    mark, results = tmp_path / folder_kinds.MARKS[kind], tmp_path / "results.json"
    mark.write_text("{}")
    results.write_text("{}")
    done = hybrid_jax(*TRAIN, f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == (
        f"hybrid-jax: --workdir={tmp_path} holds a {kind}: give another folder for the "
        "run\n"
    )
    assert results.exists()


@pytest.mark.parametrize("purpose", folder_kinds.MARKS)
def test_files_of_others_stay(purpose, tmp_path):
    (tmp_path / "results.json").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")  # which nothing replaces
    said = f"{tmp_path} holds results.json, but no {purpose} that wrote it: give anoth"
    with pytest.raises(UserError, match=said):
        folder_kinds.check_free(tmp_path, purpose)
    config = RUN if purpose == "run" else {}
    (tmp_path / folder_kinds.MARKS[purpose]).write_text(json.dumps(config))
    folder_kinds.check_free(tmp_path, purpose)


@pytest.mark.parametrize("config", ["{", "[]", '{"tsconfig": true}'])
@pytest.mark.parametrize("purpose", folder_kinds.MARKS)
def test_a_config_of_another_program_stays(purpose, config, tmp_path):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match=rf"holds config\.json, but no {purpose} that"):
        folder_kinds.check_free(tmp_path, purpose)


@pytest.mark.parametrize("purpose", ["sweep", "study"])
def test_many_runs_are_not_trained_in_the_folder_of_one(purpose, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(RUN))
    with pytest.raises(UserError, match=f"holds a run: give another .* the {purpose}"):
        folder_kinds.check_free(tmp_path, purpose)


def test_a_run_that_saved_nothing_may_begin_anew(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(RUN))
    (tmp_path / "augmented.png").touch()
    folder_kinds.check_free(tmp_path, "run")
    folder_kinds.check_free(tmp_path / "new", "run")
    assert not (tmp_path / "new").exists()  # it only looks


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="is a file; give a folder"):
            folder_kinds.check_free(folder, "run")
