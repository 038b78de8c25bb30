"""`hsm-stream-reconciler`: whether the streams are true, and healing of those that are not."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hsm_shipper.errors import ConfigError, HsmError, StateError
from hsm_shipper.process.command_line import CommandLine, without_urls
from hsm_shipper.process.exit_codes import EXIT_OK, exit_code
from hsm_shipper.process.output import SHIPPER, escape_stdout, print_out, printable
from hsm_tools.command.options import add_connection_options, load
from hsm_tools.command.remarks import Remarks

if TYPE_CHECKING:  # imported late: --help needs no Redis client
    from hsm_shipper.config import Config
    from hsm_shipper.lustre.mdts import Present
    from hsm_shipper.stream.connection import Clients
    from hsm_tools.auditing.audit import MdtReport

PROGRAM = "hsm-stream-reconciler"

EXIT_UNKNOWN = 2

_remarks = Remarks(PROGRAM)

_DESCRIPTION = """\
Replay the streams and report, for each MDT, whether its stream is sound; on the metadata server that has the MDT also
whether it says what the shipper's state file and the actions file say.
"""

_EPILOG = """\
what is reported:
  orphans      live in the stream, not in the state file or the actions file
  missing      there, and not in the stream
  differing    there in another state
               these three are unknown (?) away from the server that has the MDT
  malformed    entries that say nothing that can be used; --fix leaves them: they are trimmed as they grow old
  duplicates   NEW for what was there already, or UPDATE that changed nothing and is no refresh
  PURGED only  PURGED that removed nothing: also where its NEW has been trimmed away
  garbage      share of the entries that no live action needs
  bound        entries there should be at most after maintenance; more only for a consumer group that lags
  heartbeat    time since the worker's last poll, and whether that is old; - without a worker; unreadable if it may
               not be read or does not decode

exit codes:
  0    nothing is wrong; with --fix, not any more; with --retire, it is done or was not wanted; with --here, no MDT is
       on this server now
  1    orphans, missing, differing or malformed: the other counts only inform
  2    it could not be told (the lines below the table say why; of lines of the list that are not understood nobody
       knows whether they are in the stream), the MDT cannot be retired, Redis does not answer,
       or an option or the configuration cannot be used
  130  interrupted by Ctrl+C
  141  whoever read the output has closed it

--here is for cron on every metadata server of a site: each MDT is audited where it is, and by nobody else. One that
leaves the server during the audit is left out, unless something is certainly wrong with its stream.

examples:
  hsm-stream-reconciler                            all streams
  hsm-stream-reconciler --here                     those of the MDTs that this server has now
  hsm-stream-reconciler --json elm-MDT0000         one of them, for a program
  hsm-stream-reconciler --fix --dry-run            what would be healed
  hsm-stream-reconciler --fix                      heal what is wrong with the MDTs on this server, and audit again
  hsm-stream-reconciler --retire old-MDT0003       remove the stream of an MDT that is no more
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns its exit code."""
    return exit_code(lambda: _run(argv), _remarks.say, failed=EXIT_UNKNOWN)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = CommandLine(prog=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("mdts", nargs="*", metavar="MDT", help="only these; without any, all streams and all MDTs here")
    parser.add_argument("--here", action="store_true", help="only the MDTs that are on this server now")
    parser.add_argument("--json", action="store_true", help="print JSON")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--fix", action="store_true", help=f"heal by `{SHIPPER} maintain` what differs, and audit again")
    mode.add_argument("--retire", metavar="MDT", help="remove the stream of an MDT that no longer exists anywhere")
    parser.add_argument("--dry-run", action="store_true", help="with --fix or --retire: only say what would be done")
    parser.add_argument("--yes", action="store_true", help="with --retire: do not ask")
    add_connection_options(parser)
    return parser


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    _check(args)
    loaded = load(args, _remarks.say)

    from hsm_shipper.lustre.mdts import find_mdts
    from hsm_shipper.stream.connection import Clients

    escape_stdout()
    config = loaded.config
    present = find_mdts(config.mdt_watch_glob)
    with Clients(config) as clients:
        if args.retire is not None:
            from hsm_tools.auditing.retire import retire

            print_out(printable(retire(config, clients, present, args.retire, yes=args.yes, dry_run=args.dry_run)))
            return EXIT_OK
        if args.here and present.unreadable:
            raise HsmError(f"which MDTs are here cannot be told: {present.unreadable[0]}", "run it as root")
        for remark in present.unreadable:
            _remarks.say(f"MDTs here may be overlooked: {remark}")
        return _audit(args, config, clients, present)


def _check(args: argparse.Namespace) -> None:
    from hsm_shipper.contract.redis_keys import is_mdt_name

    for mdt in [*args.mdts, *([] if args.retire is None else [args.retire])]:
        if not is_mdt_name(mdt):
            raise ConfigError(
                f"{without_urls(repr(mdt))} is no MDT name", "give <fsname>-MDT<4 hex digits>, as in elm-MDT0000"
            )
    if args.retire is not None and (args.mdts or args.json or args.here):
        hint = "leave the other MDTs, --here and --json out"
        raise ConfigError("--retire removes one stream and reports nothing", hint)
    if args.here and args.mdts:
        raise ConfigError("--here chooses the MDTs", "leave it out, or their names")
    if args.dry_run and not (args.fix or args.retire):
        raise ConfigError("--dry-run goes with --fix or --retire")
    if args.yes and not args.retire:
        raise ConfigError("--yes goes with --retire")
    elsewhere = (args.host, args.port, args.db, args.redis_url, args.stream_prefix)
    if args.fix and any(option is not None for option in elsewhere):
        raise ConfigError("--fix heals the streams of the shipper that runs here", "name its configuration with -c")


def _audit(args: argparse.Namespace, config: Config, clients: Clients, present: Present) -> int:
    from hsm_tools.auditing.audit import exit_code
    from hsm_tools.auditing.audit_report import to_json, to_text
    from hsm_tools.auditing.auditor import Auditor
    from hsm_tools.command.progress_bar import ProgressBar

    auditor = Auditor(config, clients, present, ProgressBar())
    chosen = sorted(present.mdts) if args.here else _chosen(args.mdts, config, present)
    reports = [auditor.audit(mdt) for mdt in chosen]
    if args.fix:
        to_heal = _to_heal(reports, present)
        if args.dry_run:
            for mdt in to_heal:
                _remarks.say(f"{mdt}: would be healed by: {SHIPPER} maintain {mdt}")
        elif to_heal:
            _maintain(args, to_heal)
            reports = [auditor.audit(report.mdt) if report.mdt in to_heal else report for report in reports]
    if args.here:
        reports = _without_those_that_left(reports, config)
        if not reports:
            _remarks.say("no MDT is on this server now: there is nothing to audit")
    if reports or args.json:
        print_out(to_json(reports) if args.json else to_text(reports))
    return exit_code(reports)


def _without_those_that_left(reports: list[MdtReport], config: Config) -> list[MdtReport]:
    """Of an MDT that has left meanwhile, what could not be told is no failure: it is audited where it is now."""
    from hsm_shipper.lustre.mdts import find_mdts

    present = find_mdts(config.mdt_watch_glob)
    if present.unreadable:
        return reports
    left = [report for report in reports if report.mdt not in present.mdts and report.exit_code == EXIT_UNKNOWN]
    for report in left:
        _remarks.say(f"{report.mdt}: has left this server during the audit, and is left out")
    return [report for report in reports if report not in left]


def _chosen(named: list[str], config: Config, present: Present) -> list[str]:
    """The MDTs to audit; one that has no stream may be missing one."""
    from hsm_shipper.contract.redis_keys import is_mdt_name, mdt_of
    from hsm_shipper.state.poll_status import state_files
    from hsm_tools.consumer import StreamReader

    prefix = config.redis_stream_prefix
    with StreamReader.from_config(config, from_primary=True) as reader:
        known = {mdt_of(prefix, key) for key in reader.streams()}
    known |= present.mdts.keys()
    try:
        known |= set(filter(is_mdt_name, state_files(config.state_path)))
    except StateError as error:
        _remarks.say(f"MDTs that were here may be overlooked: {error}")
    unknown = sorted({*named} - known)
    if unknown:
        raise HsmError(f"{', '.join(unknown)}: no such stream {prefix}:<MDT>, and no such MDT here", _elsewhere(config))
    if not known:
        raise HsmError(f"there is no stream {prefix}:<MDT>, and no MDT here", _elsewhere(config))
    return sorted({*named} or known)


def _elsewhere(config: Config) -> str:
    from hsm_shipper.stream.connection import address

    return f"is {address(config)} the right server and database?"


def _to_heal(reports: list[MdtReport], present: Present) -> list[str]:
    """Those that differ and can be healed here; says which cannot."""
    differing = [report.mdt for report in reports if report.differs]
    for mdt in differing:
        if mdt not in present.mdts:
            _remarks.say(f"{mdt}: cannot be healed here: the MDT is not on this server")
    return [mdt for mdt in differing if mdt in present.mdts]


def _maintain(args: argparse.Namespace, mdts: list[str]) -> None:
    """Run the shipper's own maintenance, by its own command: the same locks, the same configuration."""
    import shutil
    import subprocess
    from pathlib import Path

    beside = Path(sys.argv[0]).resolve().parent
    command = shutil.which(SHIPPER, path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if command is None:
        raise HsmError(f"cannot find {SHIPPER}", "install it here, or put it on the PATH")
    configuration = [] if args.config is None else ["-c", str(args.config.absolute())]
    # Standard output is for the report.
    done = subprocess.run([command, *configuration, "maintain", *mdts], stdout=sys.stderr, check=False)
    if done.returncode:
        run = f"{SHIPPER} maintain {' '.join(mdts)}"
        _remarks.say(f"{run} failed (exit code {done.returncode}): what it left is told below")


if __name__ == "__main__":
    sys.exit(main())
