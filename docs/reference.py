"""Write pages of the site from the code: commands, fields, the Python API.

The site has a copy of CONTRIBUTING.md, too.
"""

from itertools import groupby
from pathlib import Path

import hybrid_jax
from hybrid_jax.cli.fields import format_field
from hybrid_jax.config.schema import FIELDS
from hybrid_jax.main import COMMANDS, load_command

# Classes that public functions return; users do not create them.
RETURNED = ("hybrid_jax.runs.run.Run",)

# What a class shows; scikit-learn adds methods that route metadata.
MEMBERS = """\
   :members:
   :exclude-members: set_fit_request, set_predict_request, set_score_request
"""


def write(folder: Path) -> None:
    """Write all pages into a folder."""
    folder.mkdir(exist_ok=True)
    pages = {"commands": commands(), "fields": fields(), "api": api()}
    contributing = Path(__file__).parents[1] / "CONTRIBUTING.md"
    pages["contributing"] = contributing.read_text(encoding="utf-8")
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def commands() -> str:
    """Return a page with the help of every command."""
    sections = [
        f"## {name}\n\n{capitalized(what)}.\n\n```text\n{load_command(name).text}\n```"
        for name, what in COMMANDS.items()
    ]
    return "\n\n".join(["# Commands", *sections, ""])


def fields() -> str:
    """Return a page with every field of a config, in the groups of its names."""
    sections = ["# Fields of a config"]
    for group, names in groupby(sorted(FIELDS, key=group_of), group_of):
        told = (format_field(name, FIELDS[name].default) for name in names)
        rows = "\n\n".join(told)
        sections.append(f"## {group or 'the experiment'}\n\n```text\n{rows}\n```")
    return "\n\n".join([*sections, ""])


def group_of(name: str) -> str:
    """Return `optim` of the field `optim.name`, and nothing of a field above them."""
    return name.rpartition(".")[0]


def api() -> str:
    """Return a page with what `import hybrid_jax` gives, from its docstrings."""
    names = [name for name in hybrid_jax.__all__ if not name.startswith("_")]
    blocks = [directive(name, f"hybrid_jax.{name}") for name in sorted(names)]
    for path in RETURNED:
        blocks.append(directive(path.rpartition(".")[2], path, "autoclass"))
    return "\n\n".join(["# Python API", *blocks, ""])


def directive(title: str, path: str, kind: str = "") -> str:
    """Return a section that Sphinx fills with a docstring."""
    is_class = isinstance(getattr(hybrid_jax, title, None), type)
    kind = kind or ("autoclass" if is_class else "autofunction")
    options = MEMBERS if kind == "autoclass" else ""
    return f"## {title}\n\n```{{eval-rst}}\n.. {kind}:: {path}\n{options}```"


def capitalized(text: str) -> str:
    """Return a text that begins with a capital letter, and is else as it is."""
    return text[:1].upper() + text[1:]
