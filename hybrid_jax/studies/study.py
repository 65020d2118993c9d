"""Define a study by its kind, models, values and seeds, and run it."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from hybrid_jax.config.schema import Config
from hybrid_jax.errors import UserError
from hybrid_jax.json_files import check_entries, read_json, write_json
from hybrid_jax.programs.experiment import Experiment, set_up_process
from hybrid_jax.runs.folder_kinds import MARKS
from hybrid_jax.studies import ablation, costs
from hybrid_jax.studies.kind import Kind, with_seed
from hybrid_jax.studies.low_data import LOW_DATA
from hybrid_jax.studies.results import UNVARIED, Part, Results
from hybrid_jax.studies.scaling import SCALING
from hybrid_jax.studies.stability import STABILITY
from hybrid_jax.sweeps.claims import waiting_lock
from hybrid_jax.sweeps.folders import check_data, check_workdir
from hybrid_jax.sweeps.parts import work_through
from hybrid_jax.sweeps.runs import Outcome, load_splits, read_outcome
from hybrid_jax.sweeps.search import check_seeds

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (LOW_DATA, STABILITY, SCALING, *ablation.KINDS)
}
FILE = MARKS["study"]


@dataclasses.dataclass(frozen=True)
class Study:
    """A study. A later study in the same folder may have more models, values and seeds.

    Attributes:
      kind: the question, a row of `KINDS`.
      configs: configs by the name of the model or variant; all are compared with the
        first.
      values: values of the kind's axis, in increasing order.
      seeds: number of runs that differ only in their seed.
    """

    kind: Kind
    configs: Mapping[str, Config]
    values: tuple[float, ...]
    seeds: int

    def parts(self) -> dict[Part, Config]:
        """Return the configs of all runs; those of the first seed come first.

        At each value and seed, all models have the same images; see `with_seed`.
        """
        parts = {}
        for offset in range(self.seeds):
            for value in self.values:
                for model, config in self.configs.items():
                    config = with_seed(self.kind.configure(config, value), offset)
                    parts[Part(model, value, config.seed)] = config
        return parts

    def check(self) -> None:
        """Refuse a study that cannot answer its question, before anything is trained.

        Raises:
          UserError: says what is missing.
        """
        first, *others = self.configs.values()
        if any((c.data, c.seed) != (first.data, first.seed) for c in others):
            raise UserError(
                "the models of --models are trained on different images, as the "
                "experiment's file says: give data and seed with --config.FIELD=VALUE"
            )
        last = with_seed(first, self.seeds - 1)
        for name in ("seed", "data.split_seed"):
            if last.flat()[name] != first.flat()[name]:
                check_seeds({name: first.flat()[name]}, self.seeds)
        self.kind.check(self.configs, self.values, self.seeds)

    def check_models(self) -> None:
        """Refuse models that cannot be trained; this process then holds the devices.

        Raises:
          UserError: says which fields do not go together.
        """
        for config in self.configs.values():
            config = set_up_process(self.kind.configure(config, self.values[-1]))
            Experiment(config, load_splits(config.data)).check()

    def describe(self, part: Part) -> str:
        """Describe a run, as in `wrn_16_4, 50 images a class, seed 0`."""
        value = ""
        if self.kind.axis and part.value != UNVARIED:
            value = f" {part.value:g} {self.kind.axis.name},"
        return f"{part.model},{value} seed {part.seed}"

    def measure(
        self,
        folder: Path,
        words: Callable[[Config], list[str]],
        say: Callable[[str], None],
    ) -> None:
        """Measure what each model costs, if this kind of study needs it.

        This process uses no device for it. See `costs.measure` for the arguments.
        """
        if self.kind.costs:
            value = self.values[-1]
            configs = {
                model: self.kind.configure(config, value)
                for model, config in self.configs.items()
            }
            costs.measure(configs, folder, words, say)

    def read(self, folder: Path) -> Results:
        """Read the outcomes of the ended runs, and the measured costs of the models."""
        found = {part: read_outcome(folder / part.folder) for part in self.parts()}
        ended = {part: outcome for part, outcome in found.items() if outcome}
        known = costs.read(self.configs, folder) if self.kind.costs else {}
        return Results(ended, self.kind.split, known)

    def is_done(self, folder: Path) -> bool:
        """Return whether all runs have ended."""
        return len(self.read(folder).outcomes) == len(self.parts())

    def work(self, folder: Path, watch: Callable[[], None]) -> dict[str, Outcome]:
        """Train all runs, together with other workers; see `work_through`."""
        parts = {part.folder: config for part, config in self.parts().items()}
        return work_through(parts, folder, lambda *_: watch(), watch)


def keep(study: Study, folder: Path) -> None:
    """Create the folder of a study, or check that it holds a study of the same kind.

    Whether a run has the config that is asked for is checked when the run is read.

    Raises:
      UserError: the folder holds something else, or results of other images.
    """
    first = next(iter(study.configs.values()))
    check_workdir(folder, "study", first.data)
    identity = load_splits(first.data).identity
    with waiting_lock(folder):
        if not (folder / FILE).exists():
            write_json(folder / FILE, {"study": study.kind.name, "data": identity})
        kept = read_json(folder / FILE)
    check_entries(folder / FILE, kept, {"data": dict})
    if kept["study"] != study.kind.name:
        raise UserError(
            f"--workdir={folder} holds a study {kept['study']}: give another folder "
            f"for {study.kind.name}"
        )
    check_data(folder, kept.get("data", identity), identity)
