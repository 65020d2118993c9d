"""Packages of the extras: blocked, each is named in one line with its command."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_jax.data.builders import galaxy10
from hybrid_jax.errors import UserError
from hybrid_jax.extras import import_extra
from hybrid_jax.weights import files

SETUP = Path(__file__).parents[1] / "setup.py"


@pytest.mark.parametrize(
    ("module", "use", "message"),
    [
        (
            "h5py",
            lambda folder: galaxy10.read_columns(folder / "galaxies.h5"),
            "galaxy10 needs h5py: pip install 'hybrid_jax[galaxy10]'",
        ),
        (
            "torch",
            lambda folder: files.read_file(folder / "model.pth"),
            "{folder}/model.pth needs torch: pip install 'hybrid_jax[torch]', or "
            "convert the file to .safetensors where torch is installed",
        ),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    module: str,
    use: Callable[[Path], object],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "model.pth").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    with pytest.raises(UserError) as caught:
        use(tmp_path)
    assert str(caught.value) == message.format(folder=tmp_path)
    (extra,) = re.findall(r"hybrid_jax\[(\w+)\]", message)
    assert re.search(rf'"{extra}": \["{module}"', SETUP.read_text(encoding="utf-8"))


def test_a_package_that_is_broken_itself_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        import_extra("half_installed", extra="any", purpose="this test")
