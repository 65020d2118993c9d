"""Looks at a data set before a network does: counts, problems, pictures.

  python -m hybrid_jax.inspect_data --config=configs/folder.py \\
      --config.data.path=cells
  python -m hybrid_jax.inspect_data --config=configs/digits.py --output=digits

It looks for what would spoil a result, such as images that are in two splits, damaged
files and slips in names, and for what is worth knowing. Into the output it
writes contact_sheet.png, some images of each class; duplicates.png, where there are
any; near_copies.csv, every pair of copies; and report.json, all that was found.

The pairs of near_copies.csv come with a likeness, the surest first. Its column `path`
names the image that one would leave out: the training image of a pair across splits, or
the validation image beside a test image, so that the test split stays what others
report, and the later one within a split. Cut the
file where its pairs cease to be copies.

The exit code is 0 where nothing would spoil a result, 1 where something would, and 2
after a mistake in the command.
"""

import sys

from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

from hybrid_jax import config as configs
from hybrid_jax.command import guarded
from hybrid_jax.errors import UserError
from hybrid_jax.flags import asks_for_help, parse
from hybrid_jax.paths import check_local, expanded


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    argv = sys.argv if argv is None else argv
    if asks_for_help(argv):
        return guarded(lambda: print(usage(), flush=True))

    def run() -> int:
        config, output, workdir = read_flags(argv)
        return inspect(config, output, workdir)

    return guarded(run, again="nothing was changed but the output")


def read_flags(argv: list[str]) -> tuple[ConfigDict, str, str]:
    """Config, output and workdir, which may be empty, of a command line.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """

    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string("output", "", "folder to write to", flag_values=values)
        flags.DEFINE_string("workdir", "", "a trained run", flag_values=values)

    values, config = parse(argv, define)
    if config is None:
        raise UserError("--config is missing: give one, such as configs/folder.py")
    check_local("--output", values.output)
    check_local("--workdir", values.workdir)
    configs.validate(config)
    return config, values.output, values.workdir


def inspect(config: ConfigDict, output: str = "", workdir: str = "") -> int:
    """Looks at the data set of a config, prints what it finds, and writes pictures.

    Args:
      config: of an experiment; only `config.data` matters.
      output: a folder; empty is `inspect-<name of the data set>`, here.
      workdir: of a trained run, whose network's features are compared too; may be
        empty.

    Returns:
      1 if something would spoil a result, else 0.

    Raises:
      UserError: there is no such data set or run, or the output lies among the images.
    """
    # Imported here, so that a mistake in the flags is told before TFDS is loaded.
    from hybrid_jax.data import Options
    from hybrid_jax.data.outputs import check_outside
    from hybrid_jax.inspect_data import near_copies, pictures, report
    from hybrid_jax.inspect_data.checks import SPOILS, Inspection, run_checks
    from hybrid_jax.inspect_data.images import find, look_at

    if workdir and not (expanded(workdir) / "model.json").is_file():
        raise UserError(f"--workdir={workdir} is no folder of a run: leave it out")
    options = Options(**config.data)
    found = find(options)
    folder = expanded(output or f"inspect-{found.title}")
    if options.name == "folder":
        check_outside("--output", folder, options.path)
    folder.mkdir(parents=True, exist_ok=True)
    inspection = Inspection(look_at(found, options), options, workdir)
    findings = run_checks(inspection)
    summary = report.summarize(inspection)
    console = Console(highlight=False)
    report.show(console, inspection, summary, findings)
    report.write_json(folder / "report.json", inspection, summary, findings)
    written = pictures.write(folder, inspection.images, findings)
    written += near_copies.write(folder, inspection.images, inspection.copies)
    names = ", ".join([*written, "report.json"])
    console.print(f"\nwrote {names} into {folder}", markup=False, soft_wrap=True)
    console.print(report.verdict(findings), markup=False, soft_wrap=True)
    return int(any(finding.check.severity == SPOILS for finding in findings))


def usage() -> str:
    """What `--help` prints: the command, and every field of a config."""
    return (
        f"{__doc__}\n"
        "  --config=FILE[:MODEL]  the experiment, a file of configs/\n"
        "  --output=DIR           where to write; inspect-<name> if left out\n"
        "  --workdir=DIR          a trained run, whose features are compared too\n\n"
        f"Fields of a config, with [defaults]; those of data matter here:\n"
        f"{configs.describe()}"
    )


if __name__ == "__main__":
    sys.exit(main())
