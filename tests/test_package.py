import re
import shutil
import subprocess
import sys
import tarfile
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
    model = hybrid_jax.create_model("astroformer_pico", 7)
    assert model.num_classes == 7
    assert "stage4_block1" in hybrid_jax.summary(model)
    assert callable(hybrid_jax.extract_features)
    assert callable(hybrid_jax.load_weights)
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = hybrid_jax.nothing_here


def test_version_is_that_of_the_changelog_and_the_installed_package():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1)
    assert hybrid_jax.__version__ == newest == metadata.version("hybrid_jax")
    assert f"\nversion: {newest}\n" in (ROOT / "CITATION.cff").read_text()


def test_wheels_have_the_experiments_and_the_types(tmp_path):
    """The wheel is built from the source distribution, so that is complete too."""
    for name in ("hybrid_jax", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)

    def setup(folder, *command):
        subprocess.run(
            [sys.executable, "setup.py", "-q", *command], cwd=folder, check=True
        )

    setup(tmp_path, "sdist", "--formats=tar")
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    setup(source, "build_py", "--build-lib", str(tmp_path / "wheel"))
    package = tmp_path / "wheel" / "hybrid_jax"
    for config in (ROOT / "configs").rglob("*.py"):
        packaged = package / config.relative_to(ROOT)
        assert packaged.read_text() == config.read_text()
    assert (package / "py.typed").exists()
    for page in (ROOT / "hybrid_jax" / "reports").glob("*.[jc]*"):
        assert (package / "reports" / page.name).read_text() == page.read_text()
    assert (package / "main.py").exists()


def test_the_continuous_integration_runs_the_test_command_of_the_readme():
    (command,) = re.findall(
        r"^    (pip install -e '\.\[test\]' .*)$",
        (ROOT / "README.md").read_text(),
        re.M,
    )
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text()
