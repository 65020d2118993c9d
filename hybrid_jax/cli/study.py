r"""Answer a question about models with many runs, in a table, figures and words.

  hybrid-jax study low-data --config=few_images --config.data.path=cells \
      --models=astroformer_nano,wrn_16_4 --seeds=3
  hybrid-jax study stability --config=digits --models=astroformer_pico,vit_tiny

low-data trains on more and more images a class, all with equal steps, and tests
each run once: where does the first model overtake the others, and how many
images would one point more take? stability multiplies the learning rate, and
validates: which runs fail, and how far do seeds scatter? Run the same command
again to resume, with more seeds to extend it, or elsewhere at once to help.

  --config=FILE[:MODEL]  experiment; --config.FIELD=VALUE changes a field
  --models=A,B,C         models of the experiment [its own alone]
  --per-class=N,N        images a class of low-data [10,25,50,100,250,500]
  --rates=X,X            multiples of stability [0.1,0.3,1,3,10,30]
  --seeds=N              runs of each, with other images and weights [3]
  --workdir=DIR          folder of the study [studies/STUDY-FILE]
  --workers=N            processes of this machine [1]
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0; 2 for an error that you can fix; 143 or 130 after a signal.
"""

import math
import os
import typing
from pathlib import Path

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import TEXT, Option, integer
from hybrid_jax.errors import UserError, closest
from hybrid_jax.paths import expand_user

if typing.TYPE_CHECKING:
    from hybrid_jax.cli.flags import Parsed
    from hybrid_jax.config.schema import Config
    from hybrid_jax.studies.kind import Kind
    from hybrid_jax.studies.study import Study
    from hybrid_jax.sweeps.progress import WorkProgress

STUDIES = "studies"
OPTIONS = (
    Option("models", TEXT, ""),
    Option("per-class", TEXT, ""),
    Option("rates", TEXT, ""),
    Option("seeds", integer(1), 3),
    Option("workdir", TEXT),
    Option("workers", integer(1), 1),
)


def run(call: Call) -> None:
    """Run the study that a command line asks for.

    Raises:
      UserError: something that the user can fix.
      Interrupted: a signal arrived; the runs are saved.
    """
    # All is imported where it is needed, so that help is instant.
    study, folder, workers = parse(call.arguments)
    from rich.console import Console

    from hybrid_jax.studies.report import study_progress
    from hybrid_jax.studies.study import keep
    from hybrid_jax.sweeps.workers import share_work

    with Console().status("looking at the data"):
        study.check()
    keep(study, folder)
    with study_progress(study, folder) as progress:
        if workers > 1:
            words = ["study", *call.arguments]
            share_work(workers, words, progress, lambda: study.is_done(folder))
        else:
            study.check_models()
            study.work(folder, lambda name, outcome: progress.update())
    _show(study, folder, progress)


def parse(words: list[str]) -> tuple["Study", Path, int]:
    """Return the study of a command line, its folder, and how many workers it has.

    Raises:
      UserError: a flag, a value, a model or a config file is wrong.
    """
    from hybrid_jax.cli import flags, workdirs
    from hybrid_jax.studies.study import KINDS, Study

    parsed = flags.parse(words, OPTIONS, takes_config=True, most=1)
    name = parsed.positional[0] if parsed.positional else ""
    if name not in KINDS:
        hint = closest(name, KINDS) if name else ""
        raise UserError(
            f"{name or 'nothing'} is no study{hint}: give one of {', '.join(KINDS)}"
        )
    values = parsed.values
    for kind in KINDS.values():
        if values[kind.flag] and kind is not KINDS[name]:
            raise UserError(f"--{kind.flag} is for another study than {name}")
    configs = _configs(parsed)
    study = Study(name, configs, _values(values, KINDS[name]), values["seeds"])
    _refuse_overruled(parsed, study)
    default = os.path.basename(workdirs.default_workdir(values["config"]))
    default = os.path.join(STUDIES, f"{name}-{default}")
    workdir = default if values["workdir"] is None else values["workdir"]
    folder = expand_user(workdirs.resolve_workdir(workdir, None))
    return study, folder, values["workers"]


def _configs(parsed: "Parsed") -> dict[str, "Config"]:
    """Return the config of each model that is asked for.

    Raises:
      UserError: there is no config, or a model is named twice.
    """
    from hybrid_jax.cli import flags
    from hybrid_jax.config.files import find, load_config
    from hybrid_jax.config.resolve import resolve

    own = flags.required_config(parsed)
    text = parsed.values["models"]
    names = [word.strip() for word in text.split(",")] if text else []
    if not names:
        return {own.model.name: own}
    experiment = parsed.values["config"]
    if find(experiment)[1] or "model.name" in parsed.changed:
        raise UserError(f"--models={text} and a model of --config: give one of them")
    configs = {}
    for name in names:
        if name in configs or not name:
            raise UserError(
                f"--models={text} {'names ' + name + ' twice' if name else 'has a gap'}"
            )
        config = load_config(f"{experiment}:{name}", parsed.changed)
        configs[name] = resolve(config)
    return configs


def _refuse_overruled(parsed: "Parsed", study: "Study") -> None:
    """Refuse fields of the command line that a study sets itself.

    Raises:
      UserError: names the first of them.
    """
    typed = next(iter(study.configs.values())).flat()
    used = next(iter(study.parts().values())).flat()
    for name in parsed.changed:
        if name != "optim.learning_rate" and typed[name] != used[name]:
            raise UserError(
                f"--config.{name}={typed[name]} means nothing to a study "
                f"{study.name}, which takes {used[name]}: leave it out"
            )


def _values(values: dict[str, typing.Any], kind: "Kind") -> tuple[float, ...]:
    """Return the values that a study varies, the least first.

    Raises:
      UserError: one is no positive number, or is there twice.
    """
    text = values[kind.flag]
    found: list[float] = []
    for word in text.split(",") if text else []:
        try:
            value = int(word) if kind.whole else float(word)
        except ValueError:
            value = 0
        if not 0 < value < math.inf or value in found:
            what = "whole numbers" if kind.whole else "numbers"
            raise UserError(
                f"--{kind.flag}={text} is not allowed: give different {what} above 0, "
                f"such as {','.join(f'{v:g}' for v in kind.values)}"
            )
        found.append(value)
    return tuple(sorted(found)) or kind.values


def _show(study: "Study", folder: Path, progress: "WorkProgress") -> None:
    """Print and write what the runs came to.

    Raises:
      UserError: no run is complete, and none diverged.
    """
    from hybrid_jax.studies import report
    from hybrid_jax.sweeps.claims import waiting_lock
    from hybrid_jax.sweeps.runs import COMPLETE, DIVERGED

    results = study.read(folder)
    # That runs diverge may be the answer; of any other end, nothing can be said.
    ends = {outcome.state for outcome in results.outcomes.values()}
    if not ends & {COMPLETE, DIVERGED}:
        error = next(iter(results.failed.values())).error
        raise UserError(f"no run is complete: {error}")
    lines = study.kind.conclude(results, study.configs)
    with waiting_lock(folder):  # workers come here together
        report.write(study, results, folder, lines)
        study.kind.draw(results, study.configs, folder / study.kind.figure)
    progress.show(report.on_screen(study, results))
    for line in lines:
        progress.say(line)
    progress.say(f"These runs: {folder / report.CSV}")
    progress.say(f"Figure: {folder / study.kind.figure}.png, and .svg")


COMMAND = Command(__doc__.strip(), run, huge_pages=True)
