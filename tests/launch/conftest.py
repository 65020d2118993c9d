"""The scripts of `launch/` among stubs of the tools that they call."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
STUB = Path(__file__).with_name("stub.py")
TOOLS = (
    "gcloud",
    "uv",
    "gcsfuse",
    "findmnt",
    "hybrid-jax",
    "sbatch",
    "srun",
    "scontrol",
    "sky",
)


class Stage:
    """A folder for stubs, the workers that they play, and what they were asked."""

    def __init__(self, folder: Path):
        self.folder, self.bin = folder, folder / "bin"
        self.cwd = folder / "here"
        for made in (self.bin, self.cwd, folder / "worker-0"):
            made.mkdir(parents=True)
        for tool in TOOLS:
            path = self.bin / tool
            path.write_text(f'#!/bin/sh\nexec {sys.executable} -S {STUB} {tool} "$@"\n')
            path.chmod(0o755)
        self.env = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(folder),
            "STUBS": str(folder),
        }

    def answers(self, **lines: str) -> None:
        """What tools answer, line by line; an underscore is a space or a hyphen."""
        names = {"tpu_vm": "tpu-vm", "queued_resources": "queued-resources"}
        for name, text in lines.items():
            path = self.folder / names.get(name, name.replace("_", " "))
            path.write_text("\n".join(text.split(", ")))

    def run(self, script: str, *args: str, **options) -> subprocess.CompletedProcess:
        options = {"timeout": 60, "stdin": subprocess.DEVNULL} | options
        if "input" in options:
            del options["stdin"]
        env = self.env | options.pop("env", {})
        return subprocess.run(
            ["bash", str(LAUNCH / script), *args],
            cwd=self.cwd,
            env=env,
            capture_output=True,
            text=True,
            **options,
        )

    def calls(self, tool: str = "") -> list[list[str]]:
        path = self.folder / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        calls = [json.loads(line) for line in lines]
        return [call for call in calls if call[0] == tool or not tool]

    def strike(self) -> None:
        """Ends what the stubs of hybrid-jax left alive."""
        path = self.folder / "pids"
        for pid in path.read_text().split() if path.exists() else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path / "stage")
    yield stage
    stage.strike()


def refused(done: subprocess.CompletedProcess, *words: str) -> bool:
    """Whether a script told a mistake, in one line that has some words in it."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr
    return True
