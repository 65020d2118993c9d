"""Load the files that `--config=FILE` and `--config=FILE:MODEL` name.

The experiments of this project have names too: `--config=digits`, or
`--config=scaling/small`. A file may define `STUDY_MODELS`, a tuple with the names of
the models that a study compares.
"""

import difflib
import inspect
import os
import re
import runpy
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

import hybrid_jax
from hybrid_jax.config.suggestions import unknown_field
from hybrid_jax.errors import UserError, first_line
from hybrid_jax.paths import expand_user

SUCH_AS = "such as configs/digits.py"
MODELS = "STUDY_MODELS"


def load_config(text: str, fields: dict[str, Any]) -> ConfigDict:
    """Load an experiment.

    Args:
      text: a file or the name of an experiment, with or without `:MODEL` at the end.
      fields: values that replace those of the file, by name.

    Returns:
      The locked config of the file's `get_config`, with `fields`; not yet checked.

    Raises:
      UserError: the file does not exist or fails; names the file and the line.
    """
    path, arguments = find(text)
    get_config = _guarded(path, lambda: runpy.run_path(str(path))).get("get_config")
    if not callable(get_config):
        raise UserError(
            f"--config={path} has no function get_config: give an experiment, {SUCH_AS}"
        )
    _check_arguments(path, get_config, arguments)
    config = _guarded(path, lambda: get_config(*arguments))
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"--config={path}: get_config returns {type(config).__name__} instead of a "
            "config: change and return the one of hybrid_jax.config.default()"
        )
    if isinstance(config, FrozenConfigDict):
        config = ConfigDict(config)

    def changed() -> ConfigDict:
        with config.unlocked():
            config.update_from_flattened_dict(fields)
        return config.lock()

    return _guarded(path, changed)


def experiment(name: str, model: str) -> ConfigDict:
    """Return the config of an experiment of this project, for a file that builds on it.

    Args:
      name: of the experiment, such as `cifar10`.
      model: argument of its `get_config`.
    """
    return load_config(f"{experiments()[name]}:{model}", {})


def study_models(text: str) -> list[str]:
    """Return the `STUDY_MODELS` of an experiment's file; none if `text` names a model.

    Raises:
      UserError: `STUDY_MODELS` is not a tuple of texts.
    """
    path, arguments = find(text)
    found = _guarded(path, lambda: runpy.run_path(str(path))).get(MODELS, ())
    if not isinstance(found, tuple) or not all(type(name) is str for name in found):
        raise UserError(
            f"--config={path}: {MODELS} is no tuple of names: give one, such as "
            "('astroformer_pico', 'wrn_16_1')"
        )
    return [] if arguments else [*found]


def find(text: str) -> tuple[Path, list[str]]:
    """Return the file of an experiment, and the model after the colon if there is one.

    Raises:
      UserError: there is no such file.
    """
    if not text:
        raise UserError(f"--config is empty: give a file, {SUCH_AS}")
    if path := _file_of(text):
        return path, []
    before, colon, model = text.rpartition(":")
    if colon and (path := _file_of(before)):
        return path, [model]
    path = expand_user(before if colon else text)
    if os.path.isdir(path):
        raise UserError(f"--config={path} is a folder: give a file, {SUCH_AS}")
    raise UserError(f"--config={path} does not exist: {_near(path)}")


def experiments() -> dict[str, Path]:
    """Return the files of this project's experiments, by name."""
    package = Path(hybrid_jax.__file__).parent
    # A wheel has the configs in the package, and a checkout beside it.
    folders = (package / "configs", package.parent / "configs")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    paths = sorted(folder.rglob("*.py"), key=lambda path: (len(path.parts), path))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def _file_of(text: str) -> Path | None:
    path = expand_user(text)
    # Methods of `Path` raise if a name is too long.
    is_file = os.path.exists(path) and not os.path.isdir(path)
    return path if is_file else experiments().get(text)


def _near(path: Path) -> str:
    """Return a hint which file or experiment the user may have meant."""
    for folder in (Path("configs"), path.parent):
        files = {file.stem: file for file in sorted(folder.glob("*.py"))}
        if near := difflib.get_close_matches(path.stem, files, n=1):
            return f"did you mean {files[near[0]]}?"
    if near := difflib.get_close_matches(path.stem, experiments(), n=1):
        return f"did you mean --config={near[0]}?"
    return f"give one, {SUCH_AS}, or a name of {', '.join(experiments())}"


def _check_arguments(path: Path, get_config: Callable, arguments: list[str]) -> None:
    """Refuse a model that `get_config` does not take, or one that is missing.

    Raises:
      UserError: says whether to add or to leave out the model, or that `get_config`
        cannot be called either way.
    """
    if _takes(get_config, arguments):
        return
    if arguments and _takes(get_config, []):
        raise UserError(
            f"--config={path}:{arguments[0]}: get_config takes no model: leave out "
            f":{arguments[0]}"
        )
    if not arguments and _takes(get_config, ["model"]):
        raise UserError(f"--config={path} takes a model: give one behind a colon")
    raise UserError(
        f"--config={path}: get_config can be called neither without arguments nor with "
        "a model: define get_config() or get_config(model)"
    )


def takes_model(text: str) -> bool:
    """Return whether an experiment takes a model that `text` does not name.

    Raises:
      UserError: the file does not exist or fails.
    """
    path, arguments = find(text)
    get_config = _guarded(path, lambda: runpy.run_path(str(path))).get("get_config")
    return not arguments and callable(get_config) and _takes(get_config, ["model"])


def _takes(get_config: Callable, arguments: list[str]) -> bool:
    try:
        inspect.signature(get_config).bind(*arguments)
    except (TypeError, ValueError):  # ValueError: it has no signature, such as dict
        return False
    return True


def _guarded(path: Path, run: Callable[[], Any]) -> Any:
    """Run a user's code, and return its result.

    Raises:
      UserError: the code fails; names the line and the error.
    """
    try:
        return run()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        if isinstance(error, OSError) and error.filename == str(path):
            raise UserError(
                f"--config={path} cannot be read: {error.strerror}"
            ) from None
        raise UserError(f"--config={path}{_cause(path, error)}") from None


def _cause(path: Path, error: BaseException) -> str:
    """Return the line of a file that raised an exception, and its message."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    what = first_line(error)
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
        what = error.msg
    where = f", line {lines[-1]}: " if lines else ": "
    of_config = frames[-1].filename == inspect.getsourcefile(ConfigDict)
    # The message of ml_collections begins with the name of the unknown field.
    name = re.search(r"['\"](\w+)\\*['\"]", str(error))
    if of_config and name and isinstance(error, (AttributeError, KeyError)):
        return where + unknown_field(name[1])
    return f"{where}{type(error).__name__}: {what}"
