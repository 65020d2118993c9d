import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

import hybrid_jax
from hybrid_jax.config.schema import FIELDS
from hybrid_jax.main import load_command
from hybrid_jax.models import catalog
from hybrid_jax.models import cost as cost_module
from tests.models import test_parity

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


SUBJECTS = [page for page in sorted(ROOT.glob("docs/*.md")) if page.stem != "index"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SUBJECTS]


def prose_of(page):
    """The text of a page without its blocks of code."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors_of(page):
    """What links to the headings of a page say, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documents_name_only_what_exists(page):
    text = page.read_text(encoding="utf-8")
    pattern = r"(?:configs|tests|benchmarks|hybrid_jax|launch)/[\w./]+\w"
    named = {*re.findall(pattern, text)} - {"configs/NAME.py"}  # for any name
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_documents_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_readme_leads_to_every_page():
    linked = re.findall(r"\]\((docs/\w[\w-]*\.md)\)", PAGES[0].read_text("utf-8"))
    assert {*linked} == {str(page.relative_to(ROOT)) for page in SUBJECTS}
    assert len(PAGES[0].read_text("utf-8").splitlines()) <= 150


def test_the_page_of_extras_has_all_of_them():
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    extras = metadata.metadata("hybrid_jax").get_all("Provides-Extra")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == {*extras}


def commands_of(page):
    """Every `hybrid-jax` command in the blocks of a page: name and arguments."""
    lines = re.findall(r"^    (.*)$", page.read_text(encoding="utf-8"), re.M)
    text = "\n".join(lines).replace("\\\n", " ")
    for command in re.findall(r"(?:^|[|&] )hybrid-jax (.*)$", text, re.M):
        words = shlex.split(command, comments=True)
        yield ("train", words) if words[0].startswith("-") else (words[0], words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_documents_have_the_flags_they_use(page):
    for name, words in commands_of(page):
        known = load_command(name).text
        for flag in (word.partition("=")[0] for word in words if word[0] == "-"):
            field = re.sub(r"^--(config|sweep)\.", "", flag)
            is_known = re.search(rf"{re.escape(flag)}(?![\w-])", known)
            assert field in FIELDS or is_known, (name, flag)


SMALL = re.compile(r".*(pico|nano|tiny|_0)(_.*)?")


def test_tables_of_models_are_those_of_the_command(monkeypatch):
    """Larger models take a minute to count: only with HYBRID_JAX_TABLES=all."""
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    written = page.partition(f"{catalog.START}\n")[2].partition(catalog.END)[0]
    row = r"^\| `(\w+)` \|.* ([\d.]+) M \| ([\d.]+) \|"
    counts = {name: numbers for name, *numbers in re.findall(row, written, re.M)}
    assert sorted(counts) == sorted(hybrid_jax.list_models())
    asked, create, count = [], catalog.create_model, cost_module.cost

    def cost(model):
        if SMALL.fullmatch(asked[-1]) or os.environ.get("HYBRID_JAX_TABLES") == "all":
            return count(model)
        parameters, macs = map(float, counts[asked[-1]])
        return SimpleNamespace(parameters=1e6 * parameters, macs=1e9 * macs)

    monkeypatch.setattr(cost_module, "cost", cost)
    monkeypatch.setattr(
        catalog, "create_model", lambda name: asked.append(name) or create(name)
    )
    tables = f"{catalog.tables()}\n"
    assert written == tables, "hybrid-jax models --write=docs/models.md"


def test_tables_claim_no_more_than_the_tests_compare():
    def rows_of(test):
        (names,) = (m.args[1] for m in test.pytestmark if m.args[0] == "name")
        return {*names}

    in_pytorch = {*hybrid_jax.list_models("wrn_16_[14]")}  # test_wide_resnet.py
    rows = {
        "logits": {
            *test_parity.AT_224_PX,
            *test_parity.OUR_OWN_SIZES,
            *in_pytorch,
        },
        "gradients": in_pytorch,
        "blocks": {*hybrid_jax.list_models("wrn_*")},
        "narrow logits": rows_of(test_parity.test_block_configs_equal_timm)
        | {"coatnet_6", "coatnet_7"},
        "shapes": rows_of(test_parity.test_names_and_shapes_equal_timm),
        "sizes": rows_of(test_parity.test_sizes_are_timms),
        "attention": {*hybrid_jax.list_models("sasa_*")},
    }
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    for name in hybrid_jax.list_models():
        for what in catalog.compared(name).split(", "):
            assert name in rows[what]
            assert f"\n- {what}: " in page


def test_the_continuous_integration_runs_the_test_command_of_the_readme():
    (command,) = re.findall(
        r"^    (pip install -e '\.\[test\]' .*)$",
        (ROOT / "README.md").read_text(),
        re.M,
    )
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text()
