"""`hsm-action-shipper maintain`: the maintenance of streams now, in this process, beside a running shipper.

Not asked of the maintenance program: what is done is the same, under the same locks, and here its outcome, its
warnings and a wish to interrupt it need no way between processes. It works while that program is stopped, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from hsm_shipper.config import Config, load_config
from hsm_shipper.errors import ActionsError, AlreadyRunning, CalledOff, ConfigError, HsmError, NotRunning
from hsm_shipper.lustre.mdts import Present, find_mdts
from hsm_shipper.maintenance.run import MaintenanceRun
from hsm_shipper.process import log
from hsm_shipper.process.command_line import without_urls
from hsm_shipper.process.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from hsm_shipper.process.output import SHIPPER, OutputLines, say
from hsm_shipper.process.privacy import forget_configuration
from hsm_shipper.process.stop_signal import StopSignal
from hsm_shipper.stream.maintenance_lock import TTL_S
from hsm_shipper.supervision.run_folder import CONFIG_FILE
from hsm_shipper.supervision.supervisord import Supervisor

EXIT_NOT_RUNNING = 2

_log = logging.getLogger(__name__)

# A lock whose holder has died is gone by then.
PATIENCE_S = TTL_S + 5.0
_LOOK_AGAIN_S = 0.5


def main(config: Config, mdts: Sequence[str]) -> int:
    """Maintain `mdts`, or without any all that are here; print a line for each, and return the exit status.

    Raises `ConfigError` if one of them is not here, `ActionsError` if that cannot be seen.
    """
    try:
        Supervisor(config.run_path, config.state_path).pid()
    except NotRunning as error:
        say(f"no shipper runs here: {error}; without one: hsm-action-shipper --run-once --maintenance-now")
        return EXIT_NOT_RUNNING
    # What the shipper was started with, environment and all: with another Redis or database we would heal its state
    # by somebody else's streams.
    config = load_config(config.run_path / CONFIG_FILE, {}).config
    forget_configuration()
    log.setup(SHIPPER, config)
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLogger().level))  # the results are printed
    stop = StopSignal()
    present = find_mdts(config.mdt_watch_glob)
    chosen = _chosen(config, present, mdts)
    status = EXIT_OK
    if present.unreadable and not mdts:  # one that is not seen is not maintained
        say("; ".join(present.unreadable))
        status = EXIT_FAILED
    lines = OutputLines()
    for mdt, actions in chosen.items():
        try:
            lines.print_out(_maintain(config, mdt, actions, stop))
        except CalledOff as reason:
            say(str(reason))
            status = EXIT_FAILED
        except HsmError as error:
            say(f"{mdt}: maintenance failed: {error}")
            status = EXIT_FAILED
        if stop.wait(0.0):
            return EXIT_INTERRUPTED
    lines.finish()
    return status


def _chosen(config: Config, present: Present, mdts: Sequence[str]) -> dict[str, Path]:
    missing = without_urls(", ".join(mdt for mdt in mdts if mdt not in present.mdts))
    if missing and present.unreadable:
        why = "; ".join(present.unreadable)
        raise ActionsError(f"{missing}: whether it is on this server cannot be seen: {why}", "run it as root")
    if missing:
        raise ConfigError(f"{missing}: not on this server", f"here: {', '.join(present.mdts) or 'none'}")
    if not present.mdts and not present.unreadable:
        say(f"no MDT on this server: nothing matches {config.mdt_watch_glob}")
    return {mdt: present.mdts[mdt] for mdt in mdts or present.mdts}


def _maintain(config: Config, mdt: str, actions: Path, stop: StopSignal) -> str:
    """Run it, waiting for another run to end, but not for ever."""
    run = MaintenanceRun(config, mdt, actions, stopping=lambda: stop.wait(0.0))
    patient_until = time.monotonic() + PATIENCE_S
    told = False
    while True:
        try:
            return str(run())
        except AlreadyRunning as error:
            if time.monotonic() >= patient_until:
                raise
            if not told:
                say(f"{mdt}: waiting at most {PATIENCE_S:.0f} s: {error}")
                told = True
        except HsmError:
            raise
        except Exception as error:  # the other MDTs are to be maintained
            raise log.our_fault(_log, mdt, error) from error
        if stop.wait(_LOOK_AGAIN_S):
            raise CalledOff(f"{mdt}: not maintained: interrupted")
