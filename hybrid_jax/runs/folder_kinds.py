"""Tell what a workdir holds, so that nothing is written over other work in it."""

from pathlib import Path

from hybrid_jax.errors import UserError
from hybrid_jax.json_files import read_json
from hybrid_jax.paths import nearest_existing

# The file that marks what a folder holds.
MARKS = {"run": "config.json", "sweep": "sweep.json", "study": "study.json"}
_RESULTS = ("results.csv", "results.json")
# Files that work of each kind replaces or deletes. Logs are only appended to.
WRITTEN = {
    "run": (
        "model.json",
        "data.json",
        "metrics.jsonl",
        "environment.json",
        "results.json",
        "digests.npz",
        "validation.npz",
        "classifier.json",
        "checkpoints",
        "augmented.png",
        "report.html",
    ),
    "sweep": _RESULTS,
    "study": _RESULTS,
}


def check_free(folder: Path, purpose: str) -> None:
    """Refuse a folder that holds work of another kind, or files that nobody here wrote.

    Args:
      folder: the folder, which need not exist.
      purpose: what is to be written there, a key of `MARKS`.

    Raises:
      UserError: names what is there.
    """
    there = nearest_existing(folder)
    if not there.is_dir():
        within = "" if there == folder else f": {there}"
        raise UserError(f"--workdir={folder}{within} is a file; give a folder")
    kinds = [kind for kind, name in MARKS.items() if (folder / name).exists()]
    names = [] if purpose in kinds else [*WRITTEN[purpose]]
    if "run" in kinds and not _is_of_run(folder):
        kinds.remove("run")
        names.insert(0, MARKS["run"])
    for kind in kinds:
        if kind != purpose:
            raise UserError(
                f"--workdir={folder} holds a {kind}: give another folder for the "
                f"{purpose}"
            )
    found = [name for name in names if (folder / name).exists()]
    if found:
        raise UserError(
            f"--workdir={folder} holds {', '.join(found)}, but no {purpose} that wrote "
            f"it: give another folder for the {purpose}"
        )


def _is_of_run(folder: Path) -> bool:
    """Return whether the folder's `config.json` is one that a run has written."""
    try:
        found = read_json(folder / MARKS["run"])
    except UserError:
        return False
    return {"model", "optim", "train"} <= {*found}
