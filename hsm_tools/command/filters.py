"""Which actions a person wants to see: `--mdt`, `--action` and `--status`, and of single events `--fid` and `--path`.

Each option takes shell globs in a comma list and may be repeated; an event must match one glob of every option that is
given. Actions and statuses match in any case, for their words are upper case and people's typing is not.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from functools import lru_cache

# Far beyond the words of one cluster; a stream full of nonsense must not fill the memory.
_VERDICTS_MAX = 65_536


def add_filter_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that `ActionFilter.from_args` reads; returns their group."""
    group = parser.add_argument_group(
        "filters", "GLOB is a shell glob; several may follow one another with commas, or the option be repeated."
    )
    add_glob_option(group, "--mdt", "only these MDTs, for example 'elm-*'")
    add_glob_option(group, "--action", "only these actions, for example restore,remove")
    add_glob_option(group, "--status", "only these statuses, for example started,failed")
    return group


def add_glob_option(group: argparse._ArgumentGroup, option: str, what: str) -> None:
    """Add an option whose value is a list of globs, empty where it is not given."""
    group.add_argument(option, action="extend", type=globs, default=[], metavar="GLOB[,GLOB]", help=what)


def globs(text: str) -> list[str]:
    """The globs of a comma list, for argparse; a comma within brackets belongs to its glob."""
    found = [part.strip() for part in re.findall(r"(?:\[[^\]]*\]|[^,])+", text) if part.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing")
    return found


def glob_matcher(patterns: Iterable[str], *, ignore_case: bool = False) -> Callable[[str], bool]:
    """A predicate: whether a text matches one of `patterns` as a whole; every text does if there are none."""
    alternatives = [translate(pattern) for pattern in patterns]
    if not alternatives:
        return lambda _text: True
    match = re.compile("|".join(alternatives), re.IGNORECASE if ignore_case else 0).match
    return lambda text: match(text) is not None


class ActionFilter:
    """Whether an action passes the filters; `bool()` of it says whether any is set."""

    def __init__(self, mdt: Iterable[str] = (), action: Iterable[str] = (), status: Iterable[str] = ()) -> None:
        mdts, actions, statuses = list(mdt), list(action), list(status)
        self._is_set = bool(mdts or actions or statuses)
        matches_mdt = glob_matcher(mdts)
        matches_action = glob_matcher(actions, ignore_case=True)
        matches_status = glob_matcher(statuses, ignore_case=True)

        @lru_cache(_VERDICTS_MAX)  # events in their millions, words in their dozens
        def verdict(mdt: str, action: str, status: str) -> bool:
            return matches_mdt(mdt) and matches_action(action) and matches_status(status)

        self._verdict = verdict

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> ActionFilter:
        """The filter that the options of `add_filter_options` describe."""
        return cls(args.mdt, args.action, args.status)

    def __bool__(self) -> bool:
        return self._is_set

    def __call__(self, mdt: str, action: str, status: str) -> bool:
        """Whether an action of `mdt` with this action and status is wanted."""
        return not self._is_set or self._verdict(mdt, action, status)
