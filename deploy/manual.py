"""Man pages and completion in shells of every command, from its parser: `python deploy/manual.py build` (`make man`).

    build/man/<command>.1
    build/completion/bash/<command>, zsh/_<command>, fish/<command>.fish

An epilog becomes sections: each line that ends in a colon is a heading of what is indented below it. (argparse-manpage
by itself puts all of it into one paragraph, and leaves out those of subcommands.) Dates are today's, or that of
SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

import hsm_shipper
import hsm_shipper.cli
import hsm_tools.dashboard.top_options
import hsm_tools.reconciler
import hsm_tools.statistics.stats_options
import hsm_tools.tailing.tail_options

PARSERS = {
    hsm_shipper.cli.parser: "ship the HSM actions of a Lustre metadata server to Redis streams",
    hsm_tools.dashboard.top_options.parser: "dashboard of live Lustre HSM actions",
    hsm_tools.tailing.tail_options.parser: "print Lustre HSM actions as they arrive",
    hsm_tools.statistics.stats_options.parser: "report live Lustre HSM actions to people, Prometheus and Telegraf",
    hsm_tools.reconciler.parser: "audit the Redis streams of Lustre HSM actions",
}
"""What makes the parser of each command, and the command in short."""

SHELLS = {"bash": "bash/{}", "zsh": "zsh/_{}", "fish": "fish/{}.fish"}

_PROJECT = "Lustre HSM Action Stream"
_NOTES = "NOTES"
# No option is hyphenated, and no line stretched.
_AS_WRITTEN = (".nh", ".ad l")
# Where they differ from what the epilogs say, and what comes last, in the order of man-pages(7).
_TITLES = {"EXIT CODES": "EXIT STATUS", "EXIT STATUS, BY THE WORST LINE": "EXIT STATUS"}
_LAST = ("EXIT STATUS", "ENVIRONMENT", "FILES", _NOTES, "EXAMPLES")


def main(build: Path) -> None:
    """Write everything below `build`."""
    for make_parser, in_short in PARSERS.items():
        name = make_parser().prog
        _write(build / f"man/{name}.1", page(make_parser(), in_short))
        for shell, path in SHELLS.items():
            _write(build / "completion" / path.format(name), completion(make_parser(), shell))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that completes the command line of `parser` in `shell`."""
    for each in (parser, *subparsers(parser).values()):
        for action in each._actions:
            if action.metavar == "FILE":
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's way
            elif "DIR" in str(action.metavar):
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def subparsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Those of its commands, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def page(parser: argparse.ArgumentParser, in_short: str) -> str:
    """The man page of a command."""
    found: dict[str, str] = {}
    for each in (parser, *subparsers(parser).values()):
        for title, text in sections(each.epilog or ""):
            heading = "" if each is parser else f".SS {_escaped(each.prog)}\n"
            found[title] = f"{found.get(title, '')}{heading}{text}"
    parser.epilog = None
    data = {"project_name": _PROJECT, "version": hsm_shipper.__version__, "manual_title": _PROJECT}
    manual = Manpage(parser, _data=data | {"description": in_short})
    manual.synopsis[1:] = map(_escaped, manual.synopsis[1:])
    # A hyphen that is escaped is no date to mandoc.
    title, *lines = _without_blank_lines(str(manual).replace(_escaped(manual.date), manual.date, 1))
    lines = [title, *_AS_WRITTEN, *lines]
    for title in sorted(found, key=lambda title: _LAST.index(title) if title in _LAST else -1):
        lines += [f".SH {_escaped(title)}", found[title].removeprefix(".PP\n").removesuffix("\n")]
    others = [f".BR {_escaped(name)} (1)" for name in sorted(_names() - {parser.prog})]
    return _ascii("\n".join([*lines, ".SH SEE ALSO", " ,\n".join(others)]) + "\n")


def _names() -> set[str]:
    return {make_parser().prog for make_parser in PARSERS}


def sections(epilog: str) -> Iterator[tuple[str, str]]:
    """The parts of an epilog: titles, and the text of each in roff. What has no heading is a note."""
    for block in epilog.strip("\n").split("\n\n"):
        heading, _, rest = block.partition("\n")
        if heading.endswith(":") and rest.startswith("  "):
            title = heading.removesuffix(":").upper()
            yield _TITLES.get(title, title), f".nf\n{_escaped(_dedented(rest))}\n.fi\n"
        else:
            yield _NOTES, f".PP\n{_escaped(block)}\n"


def _dedented(text: str) -> str:
    return re.sub(r"^  ", "", text, flags=re.MULTILINE)


def _escaped(text: str) -> str:
    """`text` as roff prints it as it is: no line of it a request."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("^", r"\(ha").replace("~", r"\(ti")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def _without_blank_lines(roff: str) -> Iterator[str]:
    """Those lines, with a new paragraph in place of a blank line between two of text; argparse-manpage leaves both."""
    before = ""
    is_apart = False
    for line in roff.splitlines():
        if not line:
            is_apart = True
            continue
        text = rf"\&{line}" if line.startswith("'") else line
        if is_apart and not text.startswith(".") and not before.startswith("."):
            yield ".PP"
        yield text
        before, is_apart = text, False


def _ascii(roff: str) -> str:
    """What is not ASCII by its number: no formatter needs to be told the encoding."""
    return "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in roff)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
