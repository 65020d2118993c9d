r"""Test classic classifiers on an experiment's data, to compare with its network.

  hybrid-jax baselines --config=digits
  hybrid-jax baselines --config=cifar10 --config.data.protocol=deic \
      --methods=knn,svm --json=baselines.json

Runs k nearest neighbors, an SVM with an RBF kernel, logistic regression, and a
ridge classifier on random features (distances of whitened patches). Each method
chooses its parameters on the validation split, or by cross-validation if there
is none. Then it trains on training and validation images, and is tested once.
Images are shrunk to at most 32 px a side. If all images would take too long, a
method trains on a share of each class, and says so.

  --config=FILE[:MODEL]  experiment; uses only config.data and config.seed
  --config.FIELD=VALUE   change a field; `hybrid-jax fields data` lists them
  --methods=NAMES        some of knn, svm, logistic, patches [all]
  --json=FILE            write the results to a new file; - is standard output
  --csv=FILE             write a table to a new file; - is standard output
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0, or 2 for an error that you can fix.
"""

import json

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import TEXT, Option
from hybrid_jax.cli.outputs import check_output, write_output
from hybrid_jax.errors import UserError, closest
from hybrid_jax.paths import expand_user

OPTIONS = (
    Option("methods", TEXT, ""),
    Option("json", TEXT, ""),
    Option("csv", TEXT, ""),
)


def run(call: Call) -> None:
    """Run the methods, print a table, and write the files that were asked for.

    Raises:
      UserError: something that the user can fix.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    from hybrid_jax.cli import flags

    parsed = flags.parse(call.arguments, OPTIONS, takes_config=True)
    config, values = flags.required_data(parsed, also=("seed",)), parsed.values
    for name in ("json", "csv"):
        check_output(f"--{name}", values[name])
    files = [expand_user(values[n]).resolve() for n in ("json", "csv") if values[n]]
    if len({*files}) < len(files):
        raise UserError(f"--json and --csv are both {values['csv']}: give two files")
    from hybrid_jax import runtime
    from hybrid_jax.baselines import report
    from hybrid_jax.baselines.methods import BASELINES
    from hybrid_jax.baselines.run import run_baselines
    from hybrid_jax.console import Screen, busy

    methods = _methods(values["methods"], BASELINES)
    runtime.check_device()
    console = Screen(stderr="-" in (values["json"], values["csv"]))
    with busy(console, "loading data") as say:
        found = run_baselines(config.data, config.seed, methods, say)
    report.show(console, found)
    if values["json"]:
        text = json.dumps(report.as_json(found), indent=1) + "\n"
        write_output(values["json"], text)
    if values["csv"]:
        write_output(values["csv"], report.as_csv(found))


def _methods(text: str, table: dict) -> list[str]:
    """Return the methods that a flag names; all for an empty text.

    Raises:
      UserError: a method does not exist.
    """
    if not text:
        return list(table)
    names = list(dict.fromkeys(map(str.strip, text.split(","))))
    for name in names:
        if name not in table:
            raise UserError(
                f"--methods={text}: there is no {name!r}{closest(name, table)}; choose "
                f"from {', '.join(table)}"
            )
    return names


COMMAND = Command(__doc__.strip(), run, "nothing was written")
