"""How errors are worded: paths that no terminal could print."""

import os
from pathlib import Path

import pytest

from hybrid_jax.errors import escape


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"caf\xe9", r"caf\xe9"),
        (b"\xff\xfe/\x80", r"\xff\xfe/\x80"),
        ("café/Ünï 🐈".encode(), "café/Ünï 🐈"),
        (b"a\\xe9", r"a\xe9"),
    ],
)
def test_names_of_files_can_be_printed(name, text):
    path = Path(os.fsdecode(name))
    assert escape(path) == escape(str(path)) == text
    assert escape(escape(path)) == text


def test_a_surrogate_that_stands_for_no_byte_can_be_printed_too():
    assert escape("\ud83d|\udcff") == r"\ud83d|\xff"
