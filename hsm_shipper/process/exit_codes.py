"""How every command ends: its exit codes, whatever ended it, without a traceback."""

from __future__ import annotations

from collections.abc import Callable

from hsm_shipper.errors import ConfigError, HsmError
from hsm_shipper.process.output import EXIT_BROKEN_PIPE, give_up_stdout, hold_standard_streams
from hsm_shipper.process.termination import Terminated

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def exit_code(work: Callable[[], int], say: Callable[[str], None], *, failed: int = EXIT_FAILED) -> int:
    """What `work` returns, or the code for what ended it: `failed` for errors that are not of usage.

    An error is said in one line. A signal that ends the process does so.
    """
    hold_standard_streams()
    try:
        return work()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        give_up_stdout()
        return EXIT_BROKEN_PIPE
    except Terminated as end:
        end.die()
        raise
    except HsmError as error:
        say(str(error))
        return EXIT_USAGE if isinstance(error, ConfigError) else failed
