"""Write a page about runs."""

import functools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hybrid_jax import runtime
from hybrid_jax.console import Reporter
from hybrid_jax.errors import UserError, escape, first_line
from hybrid_jax.evaluation import mislabeled
from hybrid_jax.json_files import write_whole
from hybrid_jax.paths import (
    as_texts,
    check_given_once,
    check_parent,
    expand_user,
)
from hybrid_jax.reports import comparison
from hybrid_jax.reports.gather import RunReport, gather
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.load_run import open_run
from hybrid_jax.runs.run import Run


def write_report(
    workdirs: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    changed: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a page about runs; nothing is written to their folders.

    Args:
      workdirs: folders of the runs, at least one.
      output: file to write.
      changed: values that replace those of the stored configs, by field name, such as
        the path of the data. Fields that change results are refused.
      overwrite: replace a file that exists.

    Raises:
      UserError: there is no run, a folder holds none, one is given twice, or the page
        exists or cannot be written.
    """
    names, page = as_texts("workdirs", workdirs), expand_user(output)
    if not names:
        raise UserError("workdirs is empty: give the folder of at least one run")
    check_parent(page, "output=")
    if page.is_dir():
        raise UserError(f"output={escape(page)} is a folder: give a file in it")
    if page.is_file() and not overwrite:  # a device may be written to
        raise UserError(
            f"output={escape(page)} exists: give another name, or overwrite=True"
        )
    runs = _open(names, changed or {})
    with Reporter() as console:
        with console.busy("writing the report"):
            size, notes = _write(runs, page)
        for note in notes:
            console.say(note)
        console.say(f"Written: {output} ({size})")


def write_after_training(run: Run, folder: RunFolder, how_later: str) -> None:
    """Write the page of a run that has just ended into its folder, or say why not.

    An error here is only printed, so that the run itself ends without an error.

    Args:
      run: as training left it, with its images in memory.
      folder: of the run.
      how_later: the command that writes a page later.
    """
    started = time.perf_counter()
    with Reporter(folder.log) as console:
        try:
            # The page itself says what is left out.
            with console.busy("writing the report"):
                size, _ = _write({str(folder.path): run}, folder.report)
        except Exception as error:  # the run is complete in any case
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            why = kind + first_line(error).rstrip(".")
            console.say(f"No report: {why}. To write one later: {how_later}")
            return
        seconds = time.perf_counter() - started
        console.say(f"Report: {folder.report} ({size}, {seconds:.0f} s)")


def _write(runs: Mapping[str, Run], path: Path) -> tuple[str, list[str]]:
    """Write a page about runs, given by their folders.

    Returns:
      Its size in words, and notes on what is left out.
    """
    reports, notes = [], []
    for number, (workdir, run) in enumerate(runs.items(), 1):
        report = gather(run, workdir, f"run{number}")
        for note in [*run.notes, *(f"Left out: {x}" for x in report.left_out)]:
            notes.append(f"{workdir}: {note}" if len(runs) > 1 else note)
        reports.append(report)
    page = escape(render(reports))
    write_whole(path, page)
    return f"{len(page.encode()) / 1e3:,.0f} kB", notes


def _open(workdirs: Sequence[str], changed: dict[str, Any]) -> dict[str, Run]:
    """Open all runs before work begins, so that mistakes of the user show early."""
    check_given_once(workdirs)
    runs = {name: open_run(RunFolder(name), None, changed) for name in workdirs}
    runtime.set_up(all(run.config.compilation_cache for run in runs.values()))
    return runs


def render(reports: Sequence[RunReport]) -> str:
    """Return the page as HTML."""
    is_many = len(reports) > 1
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            reports=reports,
            title=f"{len(reports)} runs compared" if is_many else reports[0].title,
            differing=comparison.differing_fields(reports),
            over_seeds=comparison.over_seeds(reports),
            against_first=comparison.against_first(reports),
            environment=runtime.environment(),
            caution=mislabeled.CAUTION,
        )
    )


@functools.cache
def _templates() -> Environment:
    """Return the templates, which escape all values but those marked `| safe`."""
    return Environment(
        loader=PackageLoader("hybrid_jax", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
