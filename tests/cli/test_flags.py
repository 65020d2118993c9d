"""Command lines that one command writes for another."""

import pytest

from hybrid_jax.cli.flags import parse, with_value
from hybrid_jax.cli.study import OPTIONS


@pytest.mark.parametrize(
    "words",
    [
        ["--seeds=2", "--workers=2", "--", "low-data"],
        ["-workers=2", "--seeds=2", "low-data"],
        ["--workers", "2", "--seeds=2", "--", "low-data"],
        ["low-data", "--seeds=2", "-workers", "2", "--workers=3"],
        ["--flagfile={file}", "low-data"],
    ],
    ids=" ".join,
)
def test_workers_are_asked_for_one_process_each(words, tmp_path, capsys):
    """Without a note that the flag is given twice."""
    (tmp_path / "flags").write_text("--workers=2\n--seeds=2\n")
    typed = [word.format(file=tmp_path / "flags") for word in words]
    parsed = parse(with_value(typed, "workers", 1), OPTIONS, most=1)
    assert (parsed.values["workers"], parsed.values["seeds"]) == (1, 2)
    assert parsed.positional == ["low-data"]
    assert capsys.readouterr() == ("", "")
