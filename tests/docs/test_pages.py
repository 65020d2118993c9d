"""What the documents say exists: pages, files, commands, flags, models and extras."""

import importlib.util
import os
import re
from importlib import metadata
from types import SimpleNamespace

import pytest

import hybrid_jax
from hybrid_jax.config.schema import FIELDS
from hybrid_jax.main import load_command
from hybrid_jax.models import catalog
from hybrid_jax.models import cost as cost_module
from tests.docs.pages import PAGES, ROOT, SUBJECTS, anchors_of, commands_of, prose_of
from tests.models import test_parity

of_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@of_every_page
def test_documents_name_only_what_exists(page):
    text = page.read_text(encoding="utf-8")
    pattern = r"(?:configs|tests|benchmarks|hybrid_jax|launch)/[\w./]+\w"
    named = {*re.findall(pattern, text)} - {"configs/NAME.py"}  # for any name
    assert {name for name in named if not (ROOT / name).exists()} == set()


@of_every_page
def test_links_of_documents_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_readme_leads_to_every_page():
    linked = re.findall(r"\]\((docs/[\w/-]+\.md)\)", PAGES[0].read_text("utf-8"))
    assert {*linked} == {str(page.relative_to(ROOT)) for page in SUBJECTS}
    assert len(PAGES[0].read_text("utf-8").splitlines()) <= 150


def test_the_page_of_extras_has_all_of_them():
    page = (ROOT / "docs" / "guides" / "install.md").read_text(encoding="utf-8")
    extras = metadata.metadata("hybrid_jax").get_all("Provides-Extra")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == {*extras}


@of_every_page
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
    page = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
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
    assert written == tables, "hybrid-jax models --write=docs/reference/models.md"


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
    page = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    for name in hybrid_jax.list_models():
        for what in catalog.compared(name).split(", "):
            assert name in rows[what]
            assert f"\n- {what}: " in page


def test_the_reference_of_the_site_is_written_from_the_code(tmp_path):
    path = ROOT / "docs" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    reference.write(tmp_path)
    fields = (tmp_path / "fields.md").read_text(encoding="utf-8")
    assert re.findall(r"^--config\.([\w.]+)=", fields, re.M) == sorted(
        FIELDS, key=reference.group_of
    )
    commands = (tmp_path / "commands.md").read_text(encoding="utf-8")
    assert "## sweep" in commands
    assert "hybrid_jax.Classifier" in (tmp_path / "api.md").read_text(encoding="utf-8")
