"""The programs that supervisord runs: how each begins, and how it ends with what went wrong."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from hsm_shipper.config import Config, load_config
from hsm_shipper.errors import HsmError
from hsm_shipper.process import log
from hsm_shipper.process.output import say
from hsm_shipper.process.parent_death import exit_with_parent

_log = logging.getLogger(__name__)


def command_line(module: str) -> argparse.ArgumentParser:
    """What `python -m <module>` takes: a configuration, and what the program adds."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description="Started by supervisord.")
    parser.add_argument("--config", type=Path, metavar="FILE")
    return parser


def run_program(name: str, config_file: Path | None, run: Callable[[Config], None]) -> int:
    """Run it under its `name` in the log; 0 once it was told to stop, 1 with one line of error.

    Only what should not be possible is said with its traceback: what is in memory may be half changed, and supervisord
    starts another.
    """
    try:
        config = load_config(config_file).config
    except HsmError as error:
        say(str(error), name)  # no configuration, no log
        return 1
    log.setup(name, config)
    try:
        exit_with_parent()
        run(config)
    except HsmError as error:
        _log.error("%s", error)
        return 1
    except Exception as error:  # noqa: BLE001 - see above
        log.our_fault(_log, "this process ends", error)
        return 1
    return 0
