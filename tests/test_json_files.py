"""What JSON cannot hold: numbers that are not finite."""

import json

import pytest

from hybrid_jax.errors import UserError
from hybrid_jax.json_files import finite_or_none, write_json

UNDEFINED = {"a": [1.5, float("nan")], "b": {"c": (float("-inf"), 2, "x", None)}}


def test_a_number_that_is_not_finite_is_refused_or_becomes_null(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match=r"a\.json cannot hold a number that is not"):
        write_json(path, UNDEFINED)
    assert not path.exists()
    write_json(path, finite_or_none(UNDEFINED))
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found == {"a": [1.5, None], "b": {"c": [None, 2, "x", None]}}
