"""Numbers that a page repeats are those of the page that has their command.

A link that says a number leads to a page that has it, and each number of a table of
results is on a page that its row, or else the text around it, links to. They may be
rounded.
"""

import re

import pytest

from tests.docs.pages import PAGES, ROOT, SUBJECTS, blocks_of, prose_of

LINK = re.compile(r"\[([^\]]*)\]\(([\w./-]+\.md)(?:#[\w-]+)?\)")
NUMBER = re.compile(r"(?<![\w.,:])\d+(?:[,:]\d+)*(?:\.\d+)?")
TABLES = [
    ("README.md", "Results"),
    ("README.md", "Speed"),
    ("docs/guides/few-images.md", "What to expect"),
    ("docs/tutorials/few-images.md", "4. Read the result"),
]


def numbers_of(text):
    """Return the numbers of a text, without those of addresses."""
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return [number.replace(",", "") for number in NUMBER.findall(text)]


def missing_in(pages, text):
    """Return the numbers of a text that none of the pages has, rounded or not."""
    known = {n for page in pages for n in numbers_of(page.read_text(encoding="utf-8"))}
    exact = [float(number) for number in known if ":" not in number]
    written = {*numbers_of(text)} - known
    return {n for n in written if n not in {rounded(e, like=n) for e in exact}}


def rounded(number, like):
    return f"{number:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_have_the_numbers_of_links_to_them(page):
    for text, name in LINK.findall(prose_of(page)):
        assert not missing_in([page.parent / name], text), text


@pytest.mark.parametrize(("name", "heading"), TABLES)
def test_tables_of_results_have_the_numbers_of_the_pages_they_link_to(name, heading):
    page = ROOT / name
    section = prose_of(page).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|.*\d.*$", section, re.M)
    around = re.sub(r"^\|.*$", "", section, flags=re.M)
    assert rows
    for row in rows:
        homes = LINK.findall(row) or LINK.findall(around)
        missing = missing_in([page.parent / home for _, home in homes], row)
        assert not missing, row


def test_the_output_in_the_readme_is_that_of_the_first_run():
    (shown,) = (t for *_, t in blocks_of(PAGES[0]) if "test accuracy" in t)
    first_run = next(page for page in SUBJECTS if page.name == "first-run.md")
    lines = first_run.read_text(encoding="utf-8").splitlines()
    assert {*shown.splitlines()} - {*lines} <= {shown.splitlines()[-1]}  # the report
