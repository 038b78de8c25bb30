"""The command lines of the shipper and the tools: argparse, whose errors show no password."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn


class CommandLine(argparse.ArgumentParser):
    """A parser that says of an argument in the wrong place no more than that it is a URL: cron sends it by mail."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit."""
        super().error(without_urls(message))


def without_urls(text: str) -> str:
    """`text` with no more of a URL in it than that it is one."""
    return re.sub(r"://\S*", "://…", text)
