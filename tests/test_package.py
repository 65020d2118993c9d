import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import hybrid_jax

ROOT = Path(__file__).parents[1]


def test_importing_the_package_does_not_import_jax():
    code = "import sys, hybrid_jax; print('jax' in sys.modules, 'numpy' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["False", "False"]


def test_listing_models_does_not_import_jax():
    code = (
        "import sys, hybrid_jax; hybrid_jax.list_models(); print('jax' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["False"]


def test_public_names_are_reachable():
    assert hybrid_jax.list_models("coatnet_0") == ["coatnet_0"]
    assert hybrid_jax.create_model("astroformer_pico", 7).num_classes == 7
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = hybrid_jax.nothing_here


def test_version_is_that_of_the_changelog_and_the_installed_package():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1)
    assert hybrid_jax.__version__ == newest == metadata.version("hybrid_jax")


def test_documents_name_only_what_exists():
    """Files and models that the README speaks of."""
    text = (ROOT / "README.md").read_text()
    for path in re.findall(r"(?:configs|tests|benchmarks|hybrid_jax)/[\w./]+", text):
        assert (ROOT / path.rstrip(".")).exists(), path
    tables = re.findall(r"^\| `((?:astroformer|coatnet)_\w+)` \| C", text, re.M)
    assert tables == hybrid_jax.list_models()


def test_the_continuous_integration_runs_the_test_command_of_the_readme():
    (command,) = re.findall(
        r"^    (pip install -e '\.\[test\]' .*)$",
        (ROOT / "README.md").read_text(),
        re.M,
    )
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text()
