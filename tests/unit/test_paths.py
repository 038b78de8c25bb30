"""What is remembered of paths, and what is asked for next."""

from __future__ import annotations

import threading

import pytest

from hsm_tools.fid_paths.fid2path import Answers, Fid2Path
from hsm_tools.fid_paths.paths import PENDING, PathCache, Paths, WaitingFids
from tests.support.waiting import eventually


def key(n: int) -> str:
    return f"0x1:{n:#x}:0x0"


def test_the_cache_is_bounded_and_keeps_what_was_used_last() -> None:
    cache = PathCache(capacity=2)
    cache.put(key(1), "/1", 0.0)
    cache.put(key(2), "/2", 0.0)
    assert cache.get(key(1), 1.0) == "/1"
    cache.put(key(3), "/3", 1.0)
    assert [cache.get(key(n), 1.0) for n in (1, 2, 3)] == ["/1", PENDING, "/3"]
    assert len(cache) == 2


def test_a_path_is_believed_for_ten_minutes_and_its_absence_for_one() -> None:
    cache = PathCache()
    cache.put(key(1), "/1", 0.0)
    cache.put(key(2), None, 0.0)
    assert [cache.get(key(1), 599.0), cache.get(key(2), 59.0)] == ["/1", None]
    assert [cache.get(key(1), 600.0), cache.get(key(2), 60.0)] == [PENDING, PENDING]
    assert len(cache) == 0


def test_a_batch_is_of_one_mdt_the_newest_first() -> None:
    waiting = WaitingFids()
    for fid, mdt in (("a", "m0"), ("b", "m1"), ("c", "m0"), ("a", "m0"), ("d", "m0")):
        waiting.add(mdt, fid, 0.0)
    assert waiting.take(2) == ("m0", ["d", "c"])
    waiting.add("m0", "d", 0.0)
    assert "d" in waiting
    waiting.answered("m0", {"c", "d"})
    assert "d" not in waiting
    assert waiting.take(2) == ("m1", ["b"])
    waiting.answered("m1", {"b"})
    assert waiting.take(2) == ("m0", ["a"])
    assert waiting.take(2) is None


def test_what_an_answer_left_out_is_asked_for_next() -> None:
    waiting = WaitingFids()
    for fid in "abc":
        waiting.add("m0", fid, 0.0)
    assert waiting.take(2) == ("m0", ["c", "b"])
    waiting.answered("m0", {"c"})
    assert waiting.take(2) == ("m0", ["b", "a"])


def test_what_waits_is_bounded_and_the_oldest_goes() -> None:
    waiting = WaitingFids(capacity=2)
    for fid in "abc":
        waiting.add("m0", fid, 0.0)
    assert waiting.take(9) == ("m0", ["c", "b"])


def test_an_mdt_that_does_not_answer_is_left_alone_longer_each_time() -> None:
    waiting = WaitingFids()
    now_s, rests_s = 0.0, []
    for _ in range(7):
        waiting.add("m1", "c", now_s)
        waiting.add("m0", "b", now_s)
        waiting.add("m0", "a", now_s)
        assert waiting.take(1) == ("m0", ["a"])
        waiting.failed("m0", now_s)
        assert "a" not in waiting and "b" not in waiting and "c" in waiting
        waiting.take(1)
        waiting.answered("m1", {"c"})
        begun_s = now_s
        while "a" not in waiting:
            now_s += 1.0
            waiting.add("m0", "a", now_s)
        rests_s.append(now_s - begun_s)
        waiting.take(1)
        waiting.failed("m1", -1000.0)
    assert rests_s[:4] == [10.0, 20.0, 40.0, 80.0] and rests_s[-1] == 300.0


def test_an_answer_ends_the_leaving_alone() -> None:
    waiting = WaitingFids()
    waiting.failed("m0", 0.0)
    waiting.add("m0", "a", 10.0)
    waiting.take(1)
    waiting.answered("m0", {"a"})
    waiting.failed("m0", 20.0)
    waiting.add("m0", "a", 30.0)
    assert "a" in waiting


class Failing:
    """A `Fid2Path` that fails as nobody foresaw, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[str]] = []
        monkeypatch.setattr(Fid2Path, "ask", lambda _self, fids: self.ask(fids))

    def ask(self, fids: list[str]) -> Answers:
        self.asked.append(fids)
        if len(self.asked) == 1:
            raise TypeError("no such thing")
        return dict.fromkeys(fids, "/path")


def test_what_nobody_foresaw_is_said_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    failing, said = Failing(monkeypatch), list[str]()
    paths = Paths({"elm": "/lustre"}, said.append, lambda: None)
    paths.ask("elm-MDT0000", key(1))
    eventually(lambda: paths.answer("elm-MDT0000", key(1)) is None, 60)
    eventually(lambda: said, 60)
    assert said[0].startswith(
        "files of elm are shown by their FIDs: asking for them failed: TypeError: no such thing ("
    )
    paths.ask("elm-MDT0001", key(2))  # the other is left alone for a while
    eventually(lambda: paths.answer("elm-MDT0001", key(2)) == "/path", 60)
    assert (len(failing.asked), len(said)) == (2, 1)
    paths.close()


def test_a_remark_that_nobody_hears_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Failing(monkeypatch)

    def say(_text: str) -> None:
        raise BrokenPipeError

    paths = Paths({"elm": "/lustre"}, say, lambda: None)
    paths.ask("elm-MDT0000", key(1))
    eventually(lambda: paths.answer("elm-MDT0000", key(1)) is None, 60)
    paths.ask("elm-MDT0001", key(2))
    eventually(lambda: paths.answer("elm-MDT0001", key(2)) == "/path", 60)
    paths.close()


def test_without_another_thread_there_are_no_paths_and_it_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def start(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    paths = Paths({"elm": "/lustre"}, said.append, lambda: None)
    for n in range(3):
        paths.ask("elm-MDT0000", key(n))
        assert paths.answer("elm-MDT0000", key(n)) is None
    assert said == ["files of elm are shown by their FIDs: can't start new thread"]
    paths.close()
