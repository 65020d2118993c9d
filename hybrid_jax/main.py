"""Trains or evaluates an image classifier.

  hybrid-jax --config=configs/digits.py --workdir=runs/digits
  hybrid-jax --config=configs/cifar10.py:astroformer_3 --workdir=runs/c10 \\
      --config.optim.learning_rate=5e-4 --config.train.epochs=300
  hybrid-jax --mode=eval --workdir=runs/digits --config.data.dir=/elsewhere

The same command again continues where the run stopped. `python -m hybrid_jax.main` is
the same program.
"""

import os
import re
import sys
import textwrap
import threading
import typing

from absl import flags
from ml_collections import ConfigDict

from hybrid_jax import config as configs
from hybrid_jax.command import guarded, memory_told, restart_with_huge_pages
from hybrid_jax.errors import UserError
from hybrid_jax.flags import asks_for_help, changed_fields
from hybrid_jax.flags import parse as parse_flags
from hybrid_jax.models.table import list_models
from hybrid_jax.paths import check_local, remove_links

MODES = {
    "train": "train, or continue, the run in the workdir",
    "eval": "evaluate its newest checkpoint; --config may be left out",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 for what the user can mend."""
    alone = argv is None
    if alone:
        restart_with_huge_pages()
        argv = sys.argv
    if asks_for_help(argv):
        return guarded(lambda: print(usage(), flush=True))
    code = guarded(lambda: run(parse(argv)))
    if alone and code:
        _end(code)
    return code


def _end(code: int) -> None:
    """Ends the process here if its end would wait for what does not end.

    Threads that compile cannot be stopped, and other hosts may be gone.
    """
    names = [thread.name for thread in threading.enumerate()]
    hosts = sys.modules.get("hybrid_jax.parallel.hosts")
    many = hosts and hosts.leave()
    if many or (code > 128 and any(name.startswith("compiler") for name in names)):
        sys.stdout.flush()
        remove_links()
        os._exit(code)


class Command(typing.NamedTuple):
    """What a command line asks for; `hosts` are the arguments of `hosts.join`.

    Without `config` it is that of the workdir, but for the fields in `changed`.
    """

    mode: str
    config: ConfigDict | None
    changed: dict[str, typing.Any]
    workdir: str
    hosts: tuple[str, int, int]


def run(command: Command) -> None:
    """Starts what the flags ask for."""
    # Imported here, so that a mistake in the flags is told before jax is loaded.
    from hybrid_jax.engine.evaluate import evaluate
    from hybrid_jax.engine.fit import train
    from hybrid_jax.parallel.hosts import join

    with memory_told():
        if command.mode == "eval":
            evaluate(command.config, command.workdir, command.changed)
        else:
            train(command.config, command.workdir, join(*command.hosts))


def parse(argv: list[str]) -> Command:
    """What a command line asks for.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """

    def define(values: flags.FlagValues) -> None:
        text, whole = flags.DEFINE_string, flags.DEFINE_integer
        text("workdir", None, "folder of the run", flag_values=values)
        flags.DEFINE_enum("mode", "train", MODES, "what to do", flag_values=values)
        text("coordinator", "", "host:port of process 0", flag_values=values)
        whole("processes", 0, "of the run", flag_values=values)
        whole("process", 0, "this one, from 0", flag_values=values)

    values, config = parse_flags(argv, define)
    changed = {} if config is not None else changed_fields(values)
    if not values.workdir:
        raise UserError("--workdir is missing: give the folder of the run")
    check_local("--workdir", values.workdir)
    if values.mode == "train" and config is None:
        raise UserError("--config is missing: give one, such as configs/digits.py")
    if config is not None:
        configs.validate(config)
    hosts = (values.coordinator, values.processes, values.process)
    _check_hosts(*hosts)
    if values.mode == "eval" and values.coordinator:
        raise UserError("--mode=eval takes one process: leave out --coordinator")
    return Command(values.mode, config, changed, values.workdir, hosts)


def _check_hosts(coordinator: str, processes: int, process: int) -> None:
    if not coordinator:
        if processes or process:
            raise UserError("--coordinator is missing: give host:port of process 0")
    elif not re.fullmatch(r"\S+:\d{1,5}", coordinator):
        raise UserError(f"--coordinator={coordinator} is not allowed: host:port")
    elif not 0 <= process < processes:
        raise UserError(
            f"--process={process} is not one of --processes={processes}, from 0"
        )


def usage() -> str:
    """What `--help` prints: the commands, the models, every field of a config."""
    modes = "\n".join(f"  --mode={name:6} {what}" for name, what in MODES.items())
    models = textwrap.fill(
        ", ".join(list_models()), 88, initial_indent="  ", subsequent_indent="  "
    )
    return (
        f"{__doc__}\n"
        f"  --config=FILE[:MODEL]  the experiment, a file of configs/\n"
        f"  --workdir=DIR          folder of the run\n{modes}\n\n"
        "One run of several processes, one for each host or each GPU, starts the same\n"
        "command in each. On TPU VMs, and under Slurm's srun, they find each other;\n"
        "elsewhere give\n"
        "  --coordinator=HOST:PORT  where process 0 is, at any free port\n"
        "  --processes=N            how many there are\n"
        "  --process=I              which one this is, from 0\n\n"
        f"Models:\n{models}\n\n"
        f"Fields of a config, with [defaults]:\n{configs.describe()}"
    )


if __name__ == "__main__":
    sys.exit(main())
