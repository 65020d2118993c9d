"""Look for problems in a data set before you train on it.

  hybrid-jax inspect --config=folder --config.data.path=cells
  hybrid-jax inspect --config=digits --output=digits

Finds test images that are also training images, damaged files, typos in class
names, and more. Prints counts and findings, and writes into a folder:

  contact_sheet.png  some images of each class
  duplicates.png     copies, if there are any
  near_copies.csv    all pairs of likely copies, the surest first; delete the
                     wrong rows, and give the file as --config.data.exclude
  report.json        all findings

  --config=FILE[:MODEL]  experiment; uses only config.data
  --config.FIELD=VALUE   change a field; `hybrid-jax fields data` lists them
  --output=DIR           folder to write to [inspect-NAME]
  --workdir=DIR          trained run, to also compare images by its features
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0; 1 if a problem would spoil results; 2 for an error that you can
fix.
"""

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import TEXT, Option
from hybrid_jax.cli.outputs import check_output_folder
from hybrid_jax.errors import UserError
from hybrid_jax.paths import check_local, expand_user

OPTIONS = (Option("output", TEXT, ""), Option("workdir", TEXT, ""))


def run(call: Call) -> int:
    """Look for problems in a data set, print them, and write pictures.

    Returns:
      1 if a problem would spoil results, else 0.

    Raises:
      UserError: the data set or the run does not exist, or the output lies among the
        images, or would replace files of the user's own, or a list of copies that the
        user edited or leaves out, or see `check_device`.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    from hybrid_jax.cli import flags

    parsed = flags.parse(call.arguments, OPTIONS, takes_config=True)
    options = flags.required_data(parsed).data
    output, workdir = parsed.values["output"], parsed.values["workdir"]
    check_output_folder("--output", output)
    check_local("--workdir", workdir)
    if workdir and not (expand_user(workdir) / "model.json").is_file():
        raise UserError(
            f"--workdir={workdir} holds no run: give a trained run, or leave it out"
        )
    from hybrid_jax import runtime
    from hybrid_jax.console import Screen
    from hybrid_jax.data.sources.class_folders import check_outside
    from hybrid_jax.inspection import contact_sheet, report
    from hybrid_jax.inspection.checks import SPOILS, Inspection, run_checks
    from hybrid_jax.inspection.scan import find, scan

    found = find(options)
    folder = expand_user(output or f"inspect-{found.title}")
    check_outside("--output", folder, options)
    report.check_replaceable(folder, options.exclude)
    runtime.check_device()
    folder.mkdir(parents=True, exist_ok=True)
    inspection = Inspection(scan(found, options), options, workdir)
    findings = run_checks(inspection)
    summary = report.summarize(inspection)
    console = Screen()
    report.show(console, inspection, summary, findings)
    # The report comes first: it marks the folder as that of an inspection.
    written = report.write(folder, inspection, summary, findings)
    written += contact_sheet.write(folder, inspection.images, findings)
    names = ", ".join(written)
    console.print(f"\nwrote {names} into {folder}", soft_wrap=True)
    console.print(report.verdict(findings), soft_wrap=True)
    return int(any(finding.check.severity == SPOILS for finding in findings))


COMMAND = Command(__doc__.strip(), run, "only the output folder was changed")
