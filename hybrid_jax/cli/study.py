r"""Answer a question about models with many runs: a table, figures, sentences.

  hybrid-jax study low-data --config=few_images --config.data.path=cells \
      --config.data.image_size=32,32 --models=astroformer_nano,wrn_16_4
  hybrid-jax study ablation --of=layout --config=digits

low-data trains on more and more images per class. stability trains at multiples
of the learning rate. scaling draws accuracy against parameters, MACs, step time
and memory. ablation compares variants of one model. Run the same command again
to resume it, with more seeds to extend it, or elsewhere at once to help.

  --config=FILE[:MODEL]  experiment; --config.FIELD=VALUE changes a field
  --models=A,B,C         models [STUDY_MODELS of the file, else its own model]
  --of=WHAT              for ablation: layout, attention, blocks or shifts
  --per-class=N,N        for low-data: images per class [10,25,50,100,250,500]
  --rates=X,X            for stability: multiples [0.1,0.3,1,3,10,30]
  --seeds=N              runs of each, with different images and weights [3]
  --workdir=DIR          folder of the study [studies/STUDY-FILE]
  --workers=N            number of processes on this machine [1]
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0; 2 for an error that you can fix; 143, 130 or 129 after a signal.
"""

import math
import os
import typing
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import TEXT, Option, integer, one_of
from hybrid_jax.config.rules import PROCESS_BITS
from hybrid_jax.errors import UserError, closest
from hybrid_jax.paths import expand_user
from hybrid_jax.studies.variants import ABLATIONS

if typing.TYPE_CHECKING:
    from hybrid_jax.cli.flags import Parsed
    from hybrid_jax.config.schema import Config
    from hybrid_jax.studies.kind import Kind
    from hybrid_jax.studies.study import Study
    from hybrid_jax.sweeps.progress import WorkProgress

STUDIES, ABLATION = "studies", "ablation"
OPTIONS = (
    Option("models", TEXT, ""),
    Option("of", one_of(*ABLATIONS), ""),
    Option("per-class", TEXT, ""),
    Option("rates", TEXT, ""),
    Option("seeds", integer(1), 3),
    Option("workdir", TEXT),
    Option("workers", integer(1, PROCESS_BITS), 1),
)


def run(call: Call) -> None:
    """Run the study that a command line asks for.

    Raises:
      UserError: something that the user can fix.
      Interrupted: a signal arrived; the runs are saved.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    asked = parse(call.arguments)
    study, folder, workers = asked.study, asked.folder, asked.workers
    from hybrid_jax.cli.flags import with_value
    from hybrid_jax.console import Screen, busy
    from hybrid_jax.studies.report import study_progress
    from hybrid_jax.studies.study import keep
    from hybrid_jax.sweeps.workers import share_work

    console = Screen(goes_on=True, soft_wrap=True)
    with busy(console, "looking at the data"):
        study.check()
        keep(study, folder)
    with busy(console, "measuring what the models cost"):
        study.measure(folder, asked.benchmark_flags, console.print)
    with study_progress(study, folder) as progress:
        if workers > 1:
            words = ["study", *with_value(call.arguments, "workers", 1)]
            share_work(workers, words, progress, lambda: study.is_done(folder))
        else:
            study.check_models()
            study.work(folder, progress.update)
    _show(study, folder, progress)


class Asked(NamedTuple):
    """A parsed command line.

    Attributes:
      study: the study to run.
      folder: folder of the study.
      workers: number of processes.
      experiment: the value of `--config`, with a model if there are several.
    """

    study: "Study"
    folder: Path
    workers: int
    experiment: str

    def benchmark_flags(self, config: "Config") -> list[str]:
        """Return the flags that turn the experiment's file into a config."""
        from hybrid_jax.config.effects import ignores_strides
        from hybrid_jax.config.field import as_typed
        from hybrid_jax.config.files import load_config
        from hybrid_jax.config.resolve import flatten

        own, values = flatten(load_config(self.experiment, {})), config.flat()
        changed = {name: x for name, x in values.items() if x != own[name]}
        if ignores_strides(values):  # they are for the other models of the study
            changed.pop("model.strides", None)
        flags = [f"--config.{name}={as_typed(x)}" for name, x in changed.items()]
        return [f"--config={self.experiment}", *flags]


def parse(words: list[str]) -> Asked:
    """Parse a command line.

    Raises:
      UserError: a flag, a value, a model or a config file is wrong.
    """
    from hybrid_jax.cli import flags, workdirs
    from hybrid_jax.studies.study import Study

    parsed = flags.parse(words, OPTIONS, takes_config=True, most=1)
    kind, values = _kind(parsed), parsed.values
    experiment = flags.required_experiment(parsed)
    names = [] if kind.variants else _names(parsed, experiment)
    if names:
        configs = {name: _model(parsed, experiment, name) for name in names}
        own, experiment = configs[names[0]], f"{experiment}:{names[0]}"
    else:
        own = flags.required_config(parsed)
        configs = _variants(own, kind) if kind.variants else {own.model.name: own}
    study = Study(kind, configs, _values(values, kind), values["seeds"])
    _refuse_overruled(parsed, study, own)
    default = os.path.basename(workdirs.default_workdir(values["config"]))
    default = os.path.join(STUDIES, f"{kind.name}-{default}")
    workdir = default if values["workdir"] is None else values["workdir"]
    folder = expand_user(workdirs.resolve_workdir(workdir, None))
    return Asked(study, folder, values["workers"], experiment)


def _kind(parsed: "Parsed") -> "Kind":
    """Return the kind of study that a command line names.

    Raises:
      UserError: there is no such study, or a flag is for another study.
    """
    from hybrid_jax.studies.study import KINDS

    name = parsed.positional[0] if parsed.positional else ""
    names = [known for known, kind in KINDS.items() if not kind.variants]
    names.append(ABLATION)
    if name not in names:
        hint = closest(name, names) if name else ""
        raise UserError(
            f"{f'{name} is no study{hint}' if name else 'the study is missing'}: "
            f"give one of {', '.join(names)}"
        )
    values = parsed.values
    if name == ABLATION and not values["of"]:
        flags = ", ".join(f"--of={what}" for what in ABLATIONS)
        raise UserError(f"ablation needs one of {flags}")
    kind = KINDS[f"{ABLATION}-{values['of']}" if name == ABLATION else name]
    for flag in dict.fromkeys(flag for each in KINDS.values() for flag in each.flags):
        if values[flag] and flag not in kind.flags:
            raise UserError(f"--{flag} is for another study than {name}")
    return kind


def _variants(own: "Config", kind: "Kind") -> dict[str, "Config"]:
    """Return the config of each variant of a model, by the name of the variant.

    Raises:
      UserError: a variant of the model cannot be built.
    """
    from hybrid_jax.config.resolve import resolve

    configs = {}
    for name, fields in kind.variants.items():
        try:
            configs[name] = resolve(own.replace({**fields}))
        except UserError as error:
            raise UserError(f"variant {name}: {error}") from None
    return configs


def _names(parsed: "Parsed", experiment: str) -> list[str]:
    """Return the names of the requested models; none for that of the experiment alone.

    Raises:
      UserError: a model is named twice, or by `--config` too.
    """
    from hybrid_jax.config.files import find, study_models

    text = parsed.values["models"]
    has_model = find(experiment)[1] or "model.name" in parsed.changed
    if text and has_model:
        raise UserError(f"--models={text} and a model of --config: give one of them")
    names = [word.strip() for word in text.split(",")] if text else []
    if not names and not has_model:
        names = study_models(experiment)
        text = ",".join(names)
    for name in names:
        if names.count(name) > 1 or not name:
            raise UserError(
                f"--models={text} "
                f"{f'names {name} twice' if name else 'has an empty name'}"
            )
    return names


def _model(parsed: "Parsed", experiment: str, name: str) -> "Config":
    """Return the config of an experiment with a model.

    Raises:
      UserError: there is no such model, or the config is wrong.
    """
    from hybrid_jax.config.files import load_config
    from hybrid_jax.config.resolve import resolve

    return resolve(load_config(f"{experiment}:{name}", parsed.changed))


def _refuse_overruled(parsed: "Parsed", study: "Study", own: "Config") -> None:
    """Refuse fields of the command line that the study sets itself.

    Raises:
      UserError: names the first such field.
    """
    typed = own.flat()
    for part, config in study.parts().items():
        used = config.flat()
        for name in parsed.changed:
            if part.seed != own.seed or name == "optim.learning_rate":
                continue
            if typed[name] != used[name]:
                raise UserError(
                    f"--config.{name}={typed[name]} has no effect on a study "
                    f"{study.kind.name}, which takes {used[name]!r}: leave it out"
                )


def _values(values: dict[str, typing.Any], kind: "Kind") -> tuple[float, ...]:
    """Return the values that a study varies, in increasing order.

    Raises:
      UserError: a value is not a positive number, or is given twice.
    """
    from hybrid_jax.studies.results import folder_name

    axis = kind.axis
    text = values[axis.flag] if axis else ""
    if not axis or not text:
        return kind.values
    found: dict[str, float] = {}  # by the name of the folder
    for word in text.split(","):
        try:
            value = int(word) if axis.whole else float(word)
            name = folder_name(value)
        except (ValueError, OverflowError):
            value, name = 0, ""
        if not 0 < value < math.inf or name in found:
            what = "whole numbers" if axis.whole else "numbers"
            raise UserError(
                f"--{axis.flag}={text} is not allowed: give different {what} above 0, "
                f"such as {','.join(f'{v:g}' for v in kind.values)}"
            )
        found[name] = value
    return tuple(sorted(found.values()))


def _show(study: "Study", folder: Path, progress: "WorkProgress") -> None:
    """Print and write the results of the runs.

    Raises:
      UserError: no run is complete, and none diverged.
    """
    from hybrid_jax.studies import report
    from hybrid_jax.sweeps.claims import waiting_lock
    from hybrid_jax.sweeps.runs import COMPLETE, DIVERGED

    results = study.read(folder)
    # Divergence may be the answer of a study; other failures tell nothing.
    ends = {outcome.state for outcome in results.outcomes.values()}
    if not ends & {COMPLETE, DIVERGED}:
        error = next(iter(results.failed.values())).error
        raise UserError(f"no run is complete: {error}")
    lines = study.kind.conclude(results, study.configs)
    with waiting_lock(folder):  # workers may write at the same time
        report.write(study, results, folder, lines)
        study.kind.draw(results, study.configs, folder / study.kind.figure)
    progress.show(report.on_screen(study, results))
    for line in lines:
        progress.say(line)
    progress.say(f"These runs: {folder / report.CSV}")
    progress.say(f"Figure: {folder / study.kind.figure}.png, and .svg")


COMMAND = Command(__doc__.strip(), run, computes=True)
