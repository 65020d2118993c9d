"""Train a classifier, or resume its run.

  hybrid-jax train --config=digits
  hybrid-jax train --config=cifar10:coatnet_0 --workdir=runs/c0
  hybrid-jax train --workdir=runs/c0

The first two start a run, or resume it if it has begun. The third resumes the
run of a folder, with its config. At the end, it writes a page, report.html.

  --config=FILE[:MODEL]    experiment, and a model to replace the file's own
  --config.FIELD=VALUE     change a field; `hybrid-jax fields` lists them
  --workdir=DIR            folder of the run [runs/FILE or runs/FILE-MODEL]
  --checkpoint=WHICH       of a run in config.init_from: best, last, a step, all
  --flagfile=FILE          read more flags from a file, one on each line

To share a run between hosts or GPUs, run the same command once on each. The
processes find each other on TPU VMs and under Slurm. Elsewhere, add:

  --coordinator=HOST:PORT  address of process 0, with any free port
  --processes=N            how many processes there are
  --process=I              number of this process, from 0

Exit code: 0; 2 for an error that you can fix; 3 if the loss is not finite; 4 if
another process died; 143 after SIGTERM; 130 after Ctrl-C; 129 after SIGHUP.
"""

import re
import typing

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import TEXT, Option, integer
from hybrid_jax.errors import ConfigMismatch, UserError, report_out_of_memory

if typing.TYPE_CHECKING:
    from hybrid_jax.config.schema import Config
    from hybrid_jax.parallel.distributed import Hosts
    from hybrid_jax.runs.folder import RunFolder
    from hybrid_jax.runs.run import Run

LAST_PORT = 65535
OPTIONS = (
    Option("workdir", TEXT),
    Option("checkpoint", TEXT, ""),
    Option("coordinator", TEXT, ""),
    Option("processes", integer(0), 0),
    Option("process", integer(0), 0),
)


class Arguments(typing.NamedTuple):
    """The parsed command line.

    Attributes:
      config: config of the experiment; None uses that of the run in the workdir.
      changed: values of the fields to change in that stored config, by name.
      workdir: folder of the run.
      is_default_workdir: whether the user gave no workdir.
      hosts: arguments of `distributed.initialize`: coordinator, processes, process.
    """

    config: "Config | None"
    changed: dict[str, typing.Any]
    workdir: str
    is_default_workdir: bool
    hosts: tuple[str, int, int]


def run(call: Call) -> None:
    """Train the run that a command line asks for.

    Raises:
      UserError: something that the user can fix.
      Interrupted: a signal arrived; the run is saved.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    from hybrid_jax.cli import workdirs

    arguments = parse(call.arguments)
    from hybrid_jax.runs.folder import RunFolder

    config, workdir = arguments.config, arguments.workdir
    if config is None:
        config = RunFolder(workdir).config_with(arguments.changed)
    from hybrid_jax.engine.fit import fit
    from hybrid_jax.parallel.distributed import initialize

    with report_out_of_memory():
        hosts = initialize(*arguments.hosts)
        if arguments.is_default_workdir and hosts.is_main:
            print(f"No --workdir given: using {workdir}", flush=True)
        folder = RunFolder(workdir)
        before = None if hosts.is_distributed else folder.read_results()
        try:
            ended = fit(config, workdir=workdir, hosts=hosts)
        except ConfigMismatch as error:
            flags = _host_flags(arguments.hosts)
            raise workdirs.with_commands(error, call, workdir, flags) from None
    is_there = folder.report.exists() and ended.results == before
    if hosts.is_main and ended.config.train.report and not is_there:
        _write_report(ended, folder, hosts, call.line("report", workdir))


def _write_report(
    ended: "Run", folder: "RunFolder", hosts: "Hosts", how_later: str
) -> None:
    """Write a page about a run that has ended, or print how to write it later."""
    if hosts.is_distributed:  # all hosts would have to compute the predictions
        print(f"No report: hosts share the run. To write one later: {how_later}")
        return
    from hybrid_jax.reports.write import write_after_training

    write_after_training(ended, folder, how_later)


def parse(arguments: list[str]) -> Arguments:
    """Parse a command line.

    Raises:
      UserError: a flag, a value or a config file is wrong.
    """
    from hybrid_jax.cli import flags, workdirs

    parsed = flags.parse(arguments, OPTIONS, takes_config=True)
    values, config = parsed.values, None
    if parsed.config is not None or values["workdir"] is None:
        config = flags.required_config(parsed)
        if values["checkpoint"]:
            config = _with_checkpoint(config, values["checkpoint"])
    elif values["checkpoint"]:
        raise UserError(
            "--checkpoint is of the run in --config.init_from: give --config too, or "
            "leave it out to resume the run in --workdir"
        )
    workdir = workdirs.resolve_workdir(values["workdir"], values["config"])
    if config is None:
        start = "give --config too, such as --config=digits, to start one there"
        workdirs.check_run(workdir, way_out=start)
    hosts = (values["coordinator"], values["processes"], values["process"])
    _check_hosts(*hosts)
    return Arguments(
        config=config,
        changed=parsed.changed,
        workdir=workdir,
        is_default_workdir=values["workdir"] is None,
        hosts=hosts,
    )


def _with_checkpoint(config: "Config", checkpoint: str) -> "Config":
    """Return the config with the value of `--checkpoint` as `init_checkpoint`."""
    from hybrid_jax.config.resolve import resolve

    if not config.init_from:
        raise UserError(
            "--checkpoint says where to start from: give --config.init_from=WORKDIR too"
        )
    return resolve(config.replace({"init_checkpoint": checkpoint}))


def _check_hosts(coordinator: str, processes: int, process: int) -> None:
    if not coordinator:
        if processes or process:
            raise UserError("--coordinator is missing: give host:port of process 0")
    elif not re.fullmatch(r"\S+:\d{1,5}", coordinator) or (
        int(coordinator.rpartition(":")[2]) > LAST_PORT
    ):
        raise UserError(
            f"--coordinator={coordinator} is not allowed: give host:port, with a port "
            f"up to {LAST_PORT}"
        )
    elif not processes:
        raise UserError("--processes is missing: give the number of processes")
    elif not 0 <= process < processes:
        raise UserError(
            f"--process={process} is not allowed: give a number below "
            f"--processes={processes}"
        )


def _host_flags(hosts: tuple[str, int, int]) -> list[str]:
    """Return the flags by which the processes of the run find each other."""
    given = zip(("coordinator", "processes", "process"), hosts, strict=True)
    return [f"--{name}={value}" for name, value in given] if hosts[0] else []


COMMAND = Command(text=__doc__.strip(), run=run, computes=True)
