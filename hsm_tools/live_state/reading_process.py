"""The process that folds streams for another one: `beside.py` starts it as `python -P reading_process.py FD`.

It is told everything by that socket: other users see a command line.
"""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection

if __name__ == "__main__":
    connection = Connection(int(sys.argv[1]))
    sys.path[:] = connection.recv()

    from hsm_tools.live_state.folding import serve  # found by that path, and by nothing of where this process stands

    serve(connection)
