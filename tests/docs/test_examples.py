"""The blocks of the documents are run: in order, on small real data.

A ```python block runs as it is (```python not-run needs what is not here), and prints
what is shown behind `print(...)  #` and in a ```text block after it. Of a
```console block every command runs, and prints what is shown beside it, but for numbers
and names of models. `tests/docs/desk.py` says what is there, and what takes less time
than it would.
"""

import contextlib
import io
import re
import shlex
import shutil
import subprocess

import pytest

from hybrid_jax.config import estimator, files
from hybrid_jax.config.effects import IN_STEPS
from hybrid_jax.models.registry import LETTERS, MODELS
from hybrid_jax.training.losses import LOSSES
from hybrid_jax.training.optimizers import OPTIMIZERS
from hybrid_jax.training.schedules import SCHEDULES
from tests.commands import hybrid_jax
from tests.docs import desk
from tests.docs.pages import PAGES, ROOT, blocks_of, sessions_of

RUN = ("python", "console")
OPEN = (LETTERS, MODELS, LOSSES, OPTIMIZERS, SCHEDULES)  # pages add rows to them
EXAMPLES = [page for page in PAGES if {b[0] for b in blocks_of(page)} & {*RUN}]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    desk.lay_out(folder)
    return folder


@pytest.fixture
def folder(template, tmp_path, monkeypatch):
    """A copy of all for one page, which its blocks run in."""
    place = shutil.copytree(template, tmp_path / "desk")
    short = {path: place / "configs" / f"{path}.py" for path in files.experiments()}
    monkeypatch.setattr(files, "experiments", lambda: short)
    monkeypatch.setattr(estimator, "_length_fields", lambda *_: desk.TRAINED)
    monkeypatch.chdir(place)
    rows = [dict(table) for table in OPEN]
    yield place
    for table, own in zip(OPEN, rows, strict=True):
        table.clear()
        table.update(own)


@pytest.mark.parametrize(
    "page", EXAMPLES, ids=lambda page: str(page.relative_to(ROOT).with_suffix(""))
)
def test_blocks_of_documents_run(page, folder):
    known, printed = desk.names(), None
    for language, line, text in blocks_of(page):
        place = f"{page.relative_to(ROOT)}, line {line}"
        if language == "text" and printed is not None:
            assert text.strip() in printed, f"{place}: printed is\n{printed}"
        printed = run_python(place, text, known) if language == "python" else None
        if language == "console":
            for command, shown in sessions_of(text):
                check_command(place, command, shown, folder)


def run_python(place, text, known):
    """Run a block; return what it prints, and find what it shows in it."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(text, place, "exec"), known)  # noqa: S102
    for shown in re.findall(r"^ *print\(.*\)  # (.+)$", text, re.M):
        assert shown in out.getvalue().splitlines(), f"{place}: {shown}"
    return out.getvalue()


def check_command(place, command, shown, folder):
    """Run a command, and find what is shown among what it prints."""
    if command.startswith("hybrid-jax "):
        words = [shortened(word) for word in shlex.split(command)[1:]]
        ran = hybrid_jax(*words, folder=folder)
        leaks = words[0] == "inspect" and ran.returncode == 1
        assert ran.returncode == 0 or leaks, f"{place}: {command}\n{ran.stderr}"
        printed = ran.stdout + ran.stderr
    else:
        ran = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, f"{place}: {command}\n{ran.stderr}"
        printed = ran.stdout
    lines = {masked(line) for line in printed.splitlines()}
    missing = [line for line in shown if line != "..." and masked(line) not in lines]
    assert not missing, (
        f"{place}: {command}\nprints no such line:\n{missing}\n{printed}"
    )


def shortened(flag):
    """A flag without the length or the strides that it asks for."""
    name, _, _ = flag.removeprefix("--config.").partition("=")
    name = {in_epochs: in_steps for in_steps, in_epochs in IN_STEPS.items()}.get(
        name, name
    )
    return f"--config.{name}={desk.TRAINED[name]}" if name in desk.TRAINED else flag


def masked(line):
    """A line without what differs between runs: numbers, bars, names of models."""
    line = re.sub(
        rf"\b({'|'.join(sorted(MODELS, key=len, reverse=True))})\b", "M", line
    )
    line = re.sub(r"\d[\d.,:]*", "#", line)
    line = re.sub(r"#x#( #x#)+", "#x#", line)
    return re.sub(r"[\s\u2500-\u257f█]+", " ", line).strip()
