"""Train a classifier, or resume its run.

  hybrid-jax train --config=configs/digits.py
  hybrid-jax train --config=configs/cifar10.py:coatnet_0 --workdir=runs/c0 \\
      --config.optim.learning_rate=5e-4
  hybrid-jax train --workdir=runs/c0

The first two start a run, or resume it if it has begun. The third resumes the
run in a folder with the config that this run was started with.

  --config=FILE[:MODEL]    experiment, and a model to replace the file's own
  --config.FIELD=VALUE     changes a field; `hybrid-jax fields` lists them
  --workdir=DIR            folder of the run [runs/FILE or runs/FILE-MODEL]
  --checkpoint=WHICH       of a run in --config.init_from: best, last or a step
  --flagfile=FILE          reads more flags from a file, one on each line

To share a run between hosts or GPUs, start the same command once on each. The
processes find each other on TPU VMs and under Slurm. Elsewhere, add:

  --coordinator=HOST:PORT  address of process 0, with any free port
  --processes=N            how many processes there are
  --process=I              number of this process, from 0
"""

import re
import typing

from hybrid_jax.cli.common import Call, Command, memory_told
from hybrid_jax.cli.options import TEXT, Option, whole
from hybrid_jax.errors import OtherRun, UserError

if typing.TYPE_CHECKING:
    from hybrid_jax.config.schema import Config

OPTIONS = (
    Option("workdir", TEXT),
    Option("checkpoint", TEXT, ""),
    Option("coordinator", TEXT, ""),
    Option("processes", whole(0), 0),
    Option("process", whole(0), 0),
)


class Order(typing.NamedTuple):
    """What a command line asks for.

    Attributes:
      config: of the experiment; None takes that of the run in the workdir.
      changed: fields of that stored config to change, by name.
      workdir: folder of the run.
      chosen: whether the user left the workdir out.
      hosts: arguments of `parallel.distributed.initialize`.
    """

    config: "Config | None"
    changed: dict[str, typing.Any]
    workdir: str
    chosen: bool
    hosts: tuple[str, int, int]


def run(call: Call) -> None:
    """Trains what a command line asks for.

    Raises:
      UserError: something that the user can mend.
      Interrupted: a signal; what was trained is saved.
    """
    # Imported where they are needed: help is instant, and mistakes precede jax.
    from hybrid_jax.cli import workdirs

    order = parse(call.arguments)
    config = _stored(order) if order.config is None else order.config
    from hybrid_jax.engine.fit import fit
    from hybrid_jax.parallel.distributed import initialize

    with memory_told():
        hosts = initialize(*order.hosts)
        if order.chosen and hosts.is_main:
            print(f"No --workdir given: using {order.workdir}", flush=True)
        try:
            fit(config, workdir=order.workdir, hosts=hosts)
        except OtherRun as error:
            flags = _host_flags(*order.hosts)
            raise workdirs.ways_out(error, call, order.workdir, flags) from None


def parse(arguments: list[str]) -> Order:
    """Parses a command line.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """
    from hybrid_jax.cli import flags, workdirs

    parsed = flags.parse(arguments, OPTIONS)
    values = parsed.values
    given, config = values["workdir"], None
    if parsed.config is not None or given is None:
        config = flags.needed_config(parsed)
        if values["checkpoint"]:
            config = _starting_from(config, values["checkpoint"])
    workdir = workdirs.choose(given, values["config"])
    if config is None:
        workdirs.check_run(workdir)
    hosts = (values["coordinator"], values["processes"], values["process"])
    _check_hosts(*hosts)
    changed = {} if config is not None else parsed.changed
    return Order(config, changed, workdir, given is None, hosts)


def _starting_from(config: "Config", checkpoint: str) -> "Config":
    """Return the config with `--checkpoint` in it."""
    from hybrid_jax.config.resolve import resolve

    if not config.init_from:
        raise UserError(
            "--checkpoint says where to start from: give --config.init_from=WORKDIR too"
        )
    return resolve(config.replace({"init_checkpoint": checkpoint}))


def _stored(order: Order) -> "Config":
    """Returns the config of the run in the workdir, with the user's changes."""
    from hybrid_jax.engine.run_folder import RunFolder

    return RunFolder(order.workdir).config_with(order.changed)


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


def _host_flags(coordinator: str, processes: int, process: int) -> list[str]:
    """Returns the flags that `parse` read the hosts from."""
    if not coordinator:
        return []
    return [
        f"--coordinator={coordinator}",
        f"--processes={processes}",
        f"--process={process}",
    ]


COMMAND = Command(text=__doc__.strip(), run=run, huge_pages=True)
