"""Settings of Sphinx: how `docs/` becomes a site.

    pip install -e '.[docs]' && sphinx-build -W docs site

The pages of `docs/reference/` are written from the code, each time.
"""

import sys
from pathlib import Path

import hybrid_jax

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))
import reference  # noqa: E402

reference.write(FOLDER / "reference")

project = "hybrid_jax"
version = release = hybrid_jax.__version__
html_title = f"hybrid_jax {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # signatures have them
napoleon_numpy_docstring = False

html_theme = "furo"
html_copy_source = False
html_show_sphinx = html_show_copyright = False
smartquotes = False  # they would make one dash of the two before a flag
highlight_language = "none"  # indented blocks are commands, or their output


def lead_to_contributing(app, name, source):
    """Let links to the file in the repository lead to its page of the site."""
    source[0] = source[0].replace(
        "../../CONTRIBUTING.md", "../reference/contributing.md"
    )


def setup(app):
    """Add to Sphinx what its settings cannot say."""
    app.connect("source-read", lead_to_contributing)
