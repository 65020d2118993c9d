"""Tables are read back as they were written, whatever their cells contain."""

import csv
import io

from hybrid_jax.csv_text import csv_of_dicts, csv_text

ODD = [
    "a,b",
    'say "a"',
    "two\nlines",
    "a\rreturn",
    "a\r\nb",
    " space ",
    "",
    "=1+1",
    "é",
]


def read(text):
    return [*csv.reader(io.StringIO(text, newline=""))]


def test_any_text_is_read_back():
    rows = [ODD, ODD[::-1]]
    assert read(csv_text(rows)) == rows
    assert csv_text([["a", None, 0.5]]) == "a,,0.5\n"


def test_a_line_of_ordinary_text_ends_with_a_newline_alone():
    assert csv_text([("a", 1), ("b", 2)]) == "a,1\nb,2\n"


def test_dicts_may_lack_keys():
    assert csv_of_dicts([{"a": 1}, {"b": 2, "a": 3}]) == "a,b\n1,\n3,2\n"
    assert csv_of_dicts([]) == "\n"
