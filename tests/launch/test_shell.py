"""What all shell scripts of this project hold to."""

import shutil
import subprocess

import pytest

from tests.launch.conftest import ROOT

SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("launch/*.sh"), *ROOT.glob("benchmarks/*.sh")]
)


@pytest.mark.parametrize("script", [*SCRIPTS, ".ci/run"])
def test_shellcheck_finds_nothing(script):
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        ["shellcheck", "-x", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_strict(script):
    text = (ROOT / script).read_text()
    if script not in ("launch/common.sh", "launch/babysit.sh"):  # which they source
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "\nset -euo pipefail\n" in text


@pytest.mark.parametrize("script", ["sky.sh", "slurm.sh", "tpu.sh"])
def test_a_link_to_a_script_runs_it(script, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(ROOT / "launch" / script)
    done = subprocess.run(["bash", str(link)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "common.sh" not in done.stderr
    assert done.stderr.startswith("link: ")  # in the words of common.sh
