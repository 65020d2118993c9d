"""launch/Dockerfile, as far as it can be checked where there is no Docker."""

import re

import pytest

from tests.launch.conftest import LAUNCH, ROOT


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (LAUNCH / "Dockerfile").read_text()


def sources(dockerfile):
    copies = re.findall("^COPY (.+)$", dockerfile, re.MULTILINE)
    return [source for copy in copies for source in copy.split()[:-1]]


def test_what_it_copies_exists_and_is_not_ignored(dockerfile):
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in kept
    for source in sources(dockerfile):
        assert (ROOT / source).exists()
        assert f"!{source}" in kept
    assert sources(dockerfile).count("configs") == 1


def test_signals_reach_the_program_and_root_does_not(dockerfile):
    assert re.search(r'^ENTRYPOINT \["hybrid-jax"\]$', dockerfile, re.MULTILINE)
    assert "\nSTOPSIGNAL SIGTERM\n" in dockerfile
    assert "\nUSER hybrid\n" in dockerfile
    assert "--init --stop-timeout 60" in dockerfile
