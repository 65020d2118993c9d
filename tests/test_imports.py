"""Imports go one way, and no two files import each other, however indirectly."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path
    for path in sorted((ROOT / "hybrid_jax").rglob("*.py"))
}
EVERYWHERE = {
    "console",
    "csv_text",
    "errors",
    "extras",
    "interrupts",
    "intervals",
    "json_files",
    "library_logs",
    "paths",
    "plots",
    "runtime",
    "sheets",
    "unraisable",
}
SCHEMA = {"config.schema", "config.rules", "config.field"}
# What each part may import beside itself and what may be imported everywhere.
MAY_IMPORT = {
    "ops": set(),
    "models": {"ops"},
    "config": {"models"},
    "augment": SCHEMA,
    "weights": {"models"},
    "parallel": {"models", "ops"},
    "data": SCHEMA | {"parallel"},
    "training": SCHEMA | {"augment", "data", "models", "ops"},
    "checkpoints": {"parallel", "training"},
    "programs": {
        "augment",
        "config",
        "data",
        "models",
        "ops",
        "parallel",
        "training",
        "weights",
    },
    "runs": {
        "checkpoints",
        "config",
        "data",
        "models",
        "parallel",
        "programs",
        "training",
        "weights",
    },
    "prediction": {"data", "runs"},
    "engine": {
        "checkpoints",
        "config",
        "data",
        "parallel",
        "programs",
        "runs",
        "training",
        "weights",
    },
    "evaluation": SCHEMA | {"data", "parallel", "prediction", "programs", "runs"},
    "equivariance": SCHEMA
    | {"augment", "evaluation", "models", "programs", "runs", "training"},
    "baselines": SCHEMA | {"augment", "data", "evaluation"},
    "inspection": SCHEMA | {"augment", "data", "models", "runs"},
    "reports": SCHEMA
    | {
        "augment",
        "checkpoints",
        "data",
        "evaluation",
        "models",
        "programs",
        "runs",
        "training",
    },
    "profiling": SCHEMA | {"data", "models", "ops", "programs", "training"},
    "chips": SCHEMA | {"data", "models", "ops", "profiling", "programs"},
    "sweeps": {
        "checkpoints",
        "config",
        "data",
        "engine",
        "parallel",
        "programs",
        "runs",
    },
    "studies": SCHEMA | {"data", "models", "programs", "runs", "sweeps"},
    "classifier": {"config", "data", "engine", "runs", "weights"},
    "export": {
        "augment",
        "config",
        "data",
        "models",
        "ops",
        "parallel",
        "runs",
        "training",
        "weights",
    },
    "cli": {
        "baselines",
        "chips",
        "config",
        "data",
        "engine",
        "equivariance",
        "evaluation",
        "export",
        "inspection",
        "models",
        "parallel",
        "prediction",
        "profiling",
        "reports",
        "runs",
        "studies",
        "sweeps",
    },
}


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of the package that a module imports, but for its type checker."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    for_types = {
        id(inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inside in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in FILES else node.module for name in names}
    return frozenset(name for name in found if name in FILES) - {module}


def part_of(module: str) -> str:
    """`data` of `hybrid_jax.data.loader`, but `config.schema` of that file."""
    name = module.removeprefix("hybrid_jax.")
    return name if name in SCHEMA else name.split(".")[0]


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_go_one_way(part):
    allowed = {part, "hybrid_jax", *MAY_IMPORT[part], *EVERYWHERE}
    if "config" in allowed:
        allowed |= SCHEMA
    for module in FILES:
        if module.startswith(f"hybrid_jax.{part}"):
            up = {part_of(name) for name in imports(module)} - allowed
            assert not up, module


def test_every_part_is_listed():
    parts = {part_of(module) for module in FILES} - SCHEMA - EVERYWHERE
    assert parts == {*MAY_IMPORT, "hybrid_jax", "main"}


def test_no_parts_import_each_other():
    order = TopologicalSorter(
        {part: MAY_IMPORT[part] - SCHEMA for part in MAY_IMPORT}
    ).static_order()
    assert {*order} == {*MAY_IMPORT}


def test_no_files_import_each_other():
    order = TopologicalSorter({name: imports(name) for name in FILES}).static_order()
    assert {*order} == {*FILES}  # a circle has no order: CycleError names its files
