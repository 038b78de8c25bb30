"""`hsm-action-shipper`: the one command on a metadata server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hsm_shipper.errors import AlreadyRunning, ConfigError
from hsm_shipper.process.command_line import CommandLine, Retired, Version
from hsm_shipper.process.exit_codes import exit_code
from hsm_shipper.process.output import SHIPPER, escape_stdout, say

if TYPE_CHECKING:
    from hsm_shipper.config import LoadedConfig

EXIT_ALREADY_RUNNING = 3

_DESCRIPTION = """\
Ships the HSM actions of the MDTs on this metadata server to Redis streams, one for each MDT.

Without a command it runs until SIGTERM or SIGINT: supervisord in the foreground, with a worker for
each MDT, started and stopped as MDTs come to this server and leave it.
"""

_EPILOG = """\
exit status:
  0   stopped on request; with --daemon, it is up; with --run-once, every poll shipped its whole list
  1   it failed; with --run-once, at least one poll failed or met lines that are not understood, and
      the message says which
  2   the command line or the configuration cannot be used
  3   another hsm-action-shipper has the same state_dir or run_dir
  141 whoever read the output has closed it; with --run-once, every MDT has been polled all the same
  `status`, `check` and `maintain` have their own, see their --help

examples:
  hsm-action-shipper check                          is everything in place?
  hsm-action-shipper --run-once                     a first look: poll every MDT once
  hsm-action-shipper --run-once --maintenance-now   the same, and heal and trim its stream
  hsm-action-shipper -c /etc/hsm-shipper/hsm-shipper.yaml
  hsm-action-shipper --daemon                       stop it: kill $(cat /run/hsm-shipper/hsm-action-shipper.pid)
  hsm-action-shipper status
  hsm-action-shipper maintain elm-MDT0000           heal and trim its stream now

files:
  /etc/hsm-shipper/hsm-shipper.yaml   the configuration without -c, if it is there
  /var/lib/hsm-shipper/               state_dir: what is known of each MDT, for sqlite3 to look at
  /run/hsm-shipper/                   run_dir: supervisor.sock for supervisorctl, and pid files

environment:
  HSM_<KEY>   overrides a key of the configuration, as in HSM_POLL_INTERVAL=5
"""

_STATUS_EPILOG = """\
exit status:
  0   discovery and maintenance run, and every MDT on this server is being polled
  1   something is wrong: the last column or the lines below the table say what
  2   no shipper runs here, or the command line or configuration cannot be used
  141 whoever read the output has closed it
"""

_CHECK_EPILOG = """\
exit status, by the worst line:
  0   all ok
  1   a warning
  2   a problem: something will not work, or the command line or configuration cannot be used
  141 whoever read the output has closed it
"""

_MAINTAIN = """\
Runs the maintenance of streams now, beside the running shipper: each is compared with what is believed here, healed and
trimmed. The next poll of each MDT makes its healing true. Prints a line for each MDT.
"""

_MAINTAIN_EPILOG = """\
exit status:
  0   every run worked
  1   at least one failed, and the message says which; or a folder of mdt_watch_glob cannot be read
  2   no shipper runs here (then: --run-once --maintenance-now), no such MDT is here, or the command line or
      configuration cannot be used
  141 whoever read the output has closed it; every stream has been maintained all the same
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def work() -> int:
        escape_stdout()
        try:
            return _run(parser().parse_args(arguments))
        except AlreadyRunning as error:
            say(f"error: {error}")
            return EXIT_ALREADY_RUNNING

    return exit_code(work, lambda text: say(f"error: {text}"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    config = CommandLine(add_help=False)
    config.add_argument(
        "-c", "--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="configuration (YAML)"
    )
    for key in ("log_level", "log_file"):
        config.add_argument(
            f"--{key.replace('_', '-')}",
            action=Retired,
            nargs="?",
            const=f"set {key} in the configuration, or HSM_{key.upper()} in the environment",
            help=argparse.SUPPRESS,
        )
    parser = CommandLine(prog=SHIPPER, description=_DESCRIPTION, epilog=_EPILOG, parents=[config])
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--daemon", action="store_true", help="detach, and return once it is up")
    mode.add_argument(
        "--run-once", action="store_true", help="poll every MDT once in this process, without supervisord"
    )
    parser.add_argument(
        "--maintenance-now", action="store_true", help="with --run-once: after the poll heal and trim, and poll again"
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="")
    status = "how each MDT is doing"
    check = "look for trouble: configuration, MDTs, Redis, folders"
    for name, text, epilog in (("status", status, _STATUS_EPILOG), ("check", check, _CHECK_EPILOG)):
        description = f"{text[0].upper()}{text[1:]}."  # not capitalize(), which knows no names
        command = commands.add_parser(name, help=text, description=description, epilog=epilog, parents=[config])
        command.add_argument("--json", action="store_true", help="print JSON")
    maintain = commands.add_parser(
        "maintain",
        help="heal and trim streams now",
        description=_MAINTAIN,
        epilog=_MAINTAIN_EPILOG,
        parents=[config],
    )
    maintain.add_argument("mdts", nargs="*", metavar="MDT", help="only these; without any, all on this server")
    return parser


def _run(options: argparse.Namespace) -> int:
    # Imported late: --help must not wait for them.
    file: Path | None = options.config.absolute() if "config" in options else None
    if options.command is not None and (options.daemon or options.run_once):
        raise ConfigError(f"--daemon and --run-once do not go with {options.command}")
    if options.maintenance_now and not options.run_once:
        raise ConfigError("--maintenance-now goes with --run-once", "beside a running shipper use the command maintain")
    if options.command == "check":
        from hsm_shipper.commands import check

        return check.main(file, as_json=options.json)
    loaded = _load(file)
    from hsm_shipper.process.privacy import keep_private

    keep_private()
    if options.command == "status":
        from hsm_shipper.commands import status

        return status.main(loaded.config, as_json=options.json)
    if options.command == "maintain":
        from hsm_shipper.commands import maintain

        return maintain.main(loaded.config, options.mdts)
    if options.run_once:
        from hsm_shipper.commands import run_once

        return run_once.run(loaded.config, maintenance_now=options.maintenance_now)
    if loaded.file is None:  # perhaps misnamed: what starts then watches and ships where nobody looks
        say("there is no configuration file: every key has its default or is from the environment")
    from hsm_shipper.supervision import launch

    return launch.run_detached(loaded.config) if options.daemon else launch.run_in_foreground(loaded.config)


def _load(file: Path | None) -> LoadedConfig:
    from hsm_shipper.config import load_config

    loaded = load_config(file)
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    return loaded
