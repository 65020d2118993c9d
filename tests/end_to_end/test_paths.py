"""Runs in folders of any name: trained, ended, resumed, evaluated and converted.

`HYBRID_JAX_PATHS=all` takes one run for each kind of name; else one name has them all.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_jax.checkpoints.reader import CheckpointReader
from hybrid_jax.errors import escape
from hybrid_jax.paths import LINKS

CONFIG = Path(__file__).parents[1] / "small_hybrid.py"
ALL = {
    "spaces": b" a  b ",
    "brackets": b"a[1](2){3}<4>",
    "stars": b"a*b?c**",
    "quotes": b"a'b\"c`d",
    "percent": b"a%20b%s%",
    "hash": b"a#b",
    "letters": "äöü 日本 🐈".encode(),
    "no UTF-8": b"caf\xe9\xff",
    "trailing dot": b"a.",
    "leading dot": b".a",
    "leading dash": b"-a",
    "tilde": b"~no such user",
    "shell": b"$HOME;&|!\\n",
    "assignment": b"a=b,c:d@e",
    "two lines": b"a\nb",
    "link": b"link",
}
TOGETHER = {"together": b"-~ [1]*?'\"%s#{}$=:,\\ \xc3\xa9 caf\xe9 ."}
NAMES = ALL | TOGETHER if os.environ.get("HYBRID_JAX_PATHS") == "all" else TOGETHER
# All commands of a run in one process, each in a folder of its own.
COMMANDS = """
import json, os, sys
from hybrid_jax.main import main

codes = []
for folder, argv in json.loads(sys.argv[1]):
    os.chdir(folder)
    codes.append(main(["hybrid-jax", *argv]))
print(json.dumps(codes))
"""


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_run_lives_in_a_folder_of_any_name(tmp_path, name):
    name = os.fsdecode(name)
    here, real = tmp_path / "here", tmp_path / "real"
    for folder in (here, real):
        folder.mkdir()
    (here / name).symlink_to(real) if name == "link" else (here / name).mkdir()
    workdir = Path(name, "run", name)
    train = [
        f"--config={CONFIG}",
        f"--workdir={workdir}",
        f"--config.data.dir={name}/data",
        "--config.data.per_class=10",
        "--config.train.epochs=2",
        "--config.train.batch_size=20",
        "--config.train.eval_every=1",
        "--config.train.report=false",
    ]
    whole = str(here / workdir)
    commands = [
        (str(here), [*train, "--config.debug.inject=term@7"]),
        (str(here), train),
        (str(real), ["evaluate", f"--workdir={whole}"]),
        (str(here), ["convert", whole, f"{whole}/for_timm.safetensors"]),
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        encoding="ascii",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [143, 0, 0, 0], done.stderr
    prepared, ended = done.stderr.splitlines()
    assert prepared.startswith("preparing digits in ")
    assert ended == (
        "hybrid-jax: ended by SIGTERM with step 7 saved; run the same command to resume"
    )
    assert "Resuming after step 7 of 9" in done.stdout
    reached = re.findall(r"(?:test|\|) accuracy\s+\S+\s+([\d.]+ %)", done.stdout)
    assert len(reached) == 2
    assert reached[0] == reached[1]
    saved = CheckpointReader(here / workdir / "checkpoints")
    assert (saved.latest(), saved.notes) == (9, [])
    config = json.loads((here / workdir / "config.json").read_text(encoding="utf-8"))
    assert config["data"]["dir"] == str(here / name / "data")
    log = (here / workdir / "log.txt").read_text(encoding="utf-8")
    assert f"workdir: {escape(str(workdir))}" in log
    assert not list(tmp_path.glob(f"{LINKS}*"))
    assert {path.name for path in (here / name).iterdir()} == {"data", "run"}
    assert [path.name for path in here.iterdir()] == [name]
