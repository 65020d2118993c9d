"""The documents of the project, and the blocks in them."""

import re
import shlex
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
GENERATED = {"commands.md", "fields.md", "api.md", "contributing.md"}
SUBJECTS = [
    page
    for page in sorted(ROOT.glob("docs/**/*.md"))
    if page.name not in GENERATED and page != ROOT / "docs" / "index.md"
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SUBJECTS]
INDENTED = ""  # the language of a block without a fence


def blocks_of(page):
    """The blocks of a page in their order: language, first line and text of each."""
    text = page.read_text(encoding="utf-8")
    return [
        (token.info, token.map[0] + 1, token.content)
        for token in MarkdownIt("commonmark").parse(text)
        if token.type in ("fence", "code_block")
    ]


def prose_of(page):
    """The text of a page without its blocks of code."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors_of(page):
    """What links to the headings of a page say, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def sessions_of(text):
    """The commands of a ```console block, with the lines that each shows."""
    sessions = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            sessions.append((line[2:], []))
        else:
            sessions[-1][1].append(line)
    return sessions


def commands_of(page):
    """Every `hybrid-jax` command in the blocks of a page: name and arguments."""
    for language, _, text in blocks_of(page):
        if language == "console":
            text = "\n".join(command for command, _ in sessions_of(text))
        elif language != INDENTED:
            continue
        lines = text.replace("\\\n", " ")
        for command in re.findall(r"(?:^|[|&] )hybrid-jax (.*)$", lines, re.M):
            words = shlex.split(command, comments=True)
            is_training = words[0].startswith("-")
            yield ("train", words) if is_training else (words[0], words[1:])
