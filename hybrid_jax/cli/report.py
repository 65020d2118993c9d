"""Write a page about one or several runs, to read and to share.

  hybrid-jax report runs/digits
  hybrid-jax report runs/a runs/b --output=comparison.html
  hybrid-jax report runs/cells --config.data.path=/elsewhere/cells

The page is one HTML file, which needs neither other files nor a network. It has
learning curves, accuracy with its interval, confusions, calibration, classes,
mistakes, config and versions. Several runs are compared. If images of a run are
missing, it says what is left out. Nothing is written to the runs' folders.

  --output=FILE          page to write [report.html]
  --overwrite            replace the page if it exists [false]
  --config.FIELD=VALUE   change a field; `hybrid-jax fields` lists them
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0, or 2 for an error that you can fix.
"""

import re
import sys

from hybrid_jax.cli.common import Call, Command, on_device
from hybrid_jax.cli.options import SWITCH, TEXT, Option
from hybrid_jax.errors import UserError
from hybrid_jax.paths import check_local

OPTIONS = (
    Option("output", TEXT, "report.html"),
    Option("overwrite", SWITCH, False),
)


def run(call: Call) -> None:
    """Write a page about runs.

    Raises:
      UserError: something that the user can fix.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    from hybrid_jax.cli import flags, workdirs

    if any(re.match("--?workdir(=|$)", word) for word in call.arguments):
        raise UserError("--workdir is no flag here: give the folders by themselves")
    parsed = flags.parse(call.arguments, OPTIONS, takes_config=True, most=sys.maxsize)
    if parsed.config is not None:
        raise UserError("--config is stored in the run's folder: leave it out")
    if not parsed.positional:
        raise UserError("the run is missing: give its folder, such as runs/digits")
    for workdir in parsed.positional:
        check_local("the run", workdir)
        workdirs.check_run(workdir, name=workdir)
    output = parsed.values["output"]
    _check_page(output, parsed.values["overwrite"])
    from hybrid_jax.reports.write import write_report

    with on_device():
        write_report(
            parsed.positional, output, parsed.changed, parsed.values["overwrite"]
        )


def _check_page(output: str, overwrite: bool) -> None:
    """Refuse a page that cannot be written, before anything is computed.

    Raises:
      UserError: the page exists, or its folder does not.
    """
    from hybrid_jax.cli.outputs import check_output

    if output == "-":
        raise UserError("--output has no name: give a file, such as report.html")
    check_output("--output", output, way_out="" if overwrite else "or --overwrite")


COMMAND = Command(__doc__.strip(), run, "nothing was written", computes=True)
