"""`--mdt`, `--action`, `--status`: globs in comma lists."""

from __future__ import annotations

import argparse

import pytest

from hsm_tools.command.filters import ActionFilter, add_filter_options, glob_matcher, globs


def parsed(*arguments: str) -> ActionFilter:
    parser = argparse.ArgumentParser()
    add_filter_options(parser)
    return ActionFilter.from_args(parser.parse_args(arguments))


def test_without_options_everything_passes() -> None:
    everything = parsed()
    assert not everything
    assert everything("elm-MDT0000", "ARCHIVE", "WAITING") and everything("", "", "")


@pytest.mark.parametrize(
    ("arguments", "passes"),
    [
        (["--mdt", "elm-*"], True),
        (["--mdt", "oak-*"], False),
        (["--mdt", "oak-*,elm-MDT000[0-3]"], True),
        (["--mdt", "oak-*", "--mdt", "elm-*"], True),
        (["--mdt", "elm"], False),
        (["--mdt", "ELM-*"], False),
        (["--action", "restore, Archive"], True),
        (["--action", "arch*"], True),
        (["--action", "restore"], False),
        (["--status", "started,failed"], True),
        (["--status", "[!s]*"], False),
        (["--mdt", "elm-*", "--action", "archive", "--status", "started"], True),
        (["--mdt", "elm-*", "--action", "archive", "--status", "failed"], False),
    ],
)
def test_one_glob_of_every_option_must_match(arguments: list[str], passes: bool) -> None:
    chosen = parsed(*arguments)
    assert chosen
    assert chosen("elm-MDT0001", "ARCHIVE", "STARTED") is passes


def test_a_comma_within_brackets_belongs_to_its_glob() -> None:
    assert globs("a[,;]b,c") == ["a[,;]b", "c"]
    assert glob_matcher(globs("a[,;]b"))("a,b")


@pytest.mark.parametrize("nothing", ["", ",", " , "])
def test_an_option_that_names_nothing_is_refused(nothing: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        globs(nothing)


def test_a_name_with_a_newline_is_matched_as_a_whole() -> None:
    assert glob_matcher(["/lustre/*.dat"])("/lustre/a\nb.dat")
    assert not glob_matcher(["/lustre/a"])("/lustre/a\n")
