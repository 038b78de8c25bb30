"""Command lines of the shipper and the tools: argparse with errors that show no password, on output that may fail."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, NoReturn

from hsm_shipper.process.output import print_err, print_out, say

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class CommandLine(argparse.ArgumentParser):
    """A parser whose help and errors meet a closed pipe and a full disk as all other output does.

    argparse itself takes no notice, and lets the interpreter fail when it ends (exit status 120). Descriptions and
    epilogs are printed as they are written.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help; to standard output unless told otherwise."""
        if file is None:
            print_out(self.format_help().rstrip("\n"))
        else:
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and exit with 2.

        Of a URL in the wrong place it says no more than that it is one: cron sends it by mail.
        """
        print_err(self.format_usage().rstrip("\n"))
        say(f"error: {without_urls(message)}", self.prog)
        raise SystemExit(2)


class Retired(argparse.Action):
    """An option of earlier releases; `const` says what there is today."""

    def __call__(
        self, parser: argparse.ArgumentParser, _namespace: object, _values: object, option: str | None = None
    ) -> NoReturn:
        parser.error(f"{option} is an option of earlier releases: {self.const}")


def without_urls(text: str) -> str:
    """`text` with no more of a URL in it than that it is one."""
    return re.sub(r"://\S*", "://…", text)


class Version(argparse.Action):
    """Prints the version, looked up only when it is asked for: that costs 35 ms."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        import hsm_shipper

        print_out(f"{parser.prog} {hsm_shipper.__version__}")
        raise SystemExit(0)
