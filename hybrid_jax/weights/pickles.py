"""State dicts in PyTorch's files, of which only tensors and plain containers are read.

No code in a pickle is ever run.
"""

import argparse
import pickle  # for its error alone
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_jax.errors import UserError, elide, first_line, listed
from hybrid_jax.extras import import_extra
from hybrid_jax.weights.timm_models import Arrays

PICKLES = (".pth", ".pt", ".tar", ".bin", ".ckpt")
# Keys under which checkpoints hold a state dict; averages come first.
STATE_DICTS = ("state_dict_ema", "model_ema", "state_dict", "model")
ZIP = b"PK\x03\x04"  # first bytes of what `torch.save` writes


def read_pickle(path: Path) -> tuple[Arrays, list[str]]:
    """Read the tensors of a checkpoint, by their names there.

    Returns:
      The arrays, and notes that name the state dicts that were left out.

    Raises:
      UserError: the file is damaged, or holds more than weights, or none; or PyTorch is
        not installed.
    """
    torch = import_extra(
        "torch",
        extra="torch",
        purpose=str(path),
        alternative="convert the file to .safetensors where torch is installed",
    )
    _check_sums(path)
    try:
        # timm's checkpoints also hold the arguments of its command, which are plain.
        with (
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals([argparse.Namespace]),
        ):
            content = torch.load(path, map_location="cpu", weights_only=True)
        state, notes = _find_state_dict(content)
        arrays = {
            name: np.asarray(
                tensor.detach().float() if tensor.is_floating_point() else tensor
            )
            for name, tensor in state.items()
        }
        return arrays, notes
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise UserError(
                f"{path} holds more than weights, and opening it could run code "
                f"({_refused_global(error)}): it was not opened; use a .safetensors "
                "file"
            ) from None
        raise UserError(f"{path} is damaged or not a PyTorch file") from None
    except Exception as error:  # torch raises many kinds
        what = first_line(error).split(". ")[0]
        told = "" if what.isdigit() else f" ({what})"  # a code of pickle tells nothing
        raise UserError(f"{path} is damaged or holds no weights{told}") from None


def _check_sums(path: Path) -> None:
    """Compare the bytes of a zip with its checksums, which PyTorch does not read.

    A zip that was saved without checksums has none but 0.

    Raises:
      UserError: they differ, or the zip cannot be read.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(ZIP)) != ZIP:
                return
            with zipfile.ZipFile(file) as archive:
                has_sums = any(entry.CRC for entry in archive.infolist())
                wrong = archive.testzip() if has_sums else None
    except Exception as error:  # zipfile and its decoders raise many kinds
        raise UserError(
            f"{path} is damaged or not a PyTorch file ({first_line(error)})"
        ) from None
    if wrong is not None:
        raise UserError(
            f"{path} is damaged: the checksum of its entry {elide(wrong)!r} differs; "
            "copy or download the file again"
        )


def _refused_global(error: Exception) -> str:
    """Return the part of PyTorch's message that names what a pickle would call."""
    lines = (line.strip() for line in str(error).splitlines() if "GLOBAL" in line)
    return next(lines).split(" Please use")[0].split(" was not an allowed")[0]


def _find_state_dict(content: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the tensors of a checkpoint by name, and notes on those left out.

    Raises:
      ValueError: it has none.
    """
    if not isinstance(content, dict):
        raise ValueError("no state dict")
    states = {key: tensors for key, x in content.items() if (tensors := _tensors(x))}
    own = _tensors(content)
    taken = next((key for key in STATE_DICTS if key in states), None)
    if taken is None and not own:
        raise ValueError("no state dict")
    others = [repr(elide(key)) for key in states if key != taken]
    notes = []
    if others:
        first = "the tensors outside" if taken is None else f"{taken!r} of the file"
        notes = [f"took {first}, and left out {listed(others)}"]
    return (own if taken is None else states[taken]), notes


def _tensors(content: Any) -> dict[str, Any]:
    """Return the tensors among the values of a dictionary, by name."""
    return {
        name: tensor
        for name, tensor in (content.items() if isinstance(content, dict) else ())
        if isinstance(name, str) and hasattr(tensor, "is_floating_point")
    }
