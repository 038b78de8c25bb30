"""What does not show is told by the run: in a command, by an alert, in the log, and what shows too often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.torture import look
from tests.torture.fault import Kind, Signs
from tests.torture.look import Look

SIGNS = Signs(line="it failed", over="it is over", status="trouble", check="problem", top="bad", alerts=("HsmBad",))


class Eyes:
    """One host, which says what it is told to say."""

    def __init__(self) -> None:
        self.log = ""
        self.told = {"status": (1, "trouble"), "check": (2, "problem")}
        self.alerts: Any = object()
        self.alert_is_true = True
        self.screen = "bad"
        self.site = SimpleNamespace(
            hosts={"mds1": SimpleNamespace(ask=lambda command: self.told[command])},
            log_bytes=lambda: {"mds1": 0},
            logged_since=lambda *_: self.log,
            advance=lambda _: None,
        )

    def is_true(self, alert: str) -> bool:
        return self.alert_is_true

    def dashboard(self) -> str:
        return self.screen


@pytest.fixture
def eyes(monkeypatch: pytest.MonkeyPatch) -> Eyes:
    for limit in ("SHOWN_MAX_S", "_AFTERWARDS_MAX_S", "_EVERY_S", "POLL_INTERVAL_S"):
        monkeypatch.setattr(look, limit, 0.01)
    return Eyes()


def not_seen(eyes: Eyes, kind: Kind) -> list[str]:
    """Have a look at a fault that lasts, and is over."""
    looking = Look(eyes, kind)  # type: ignore[arg-type]
    eyes.log = f"{eyes.log}\n1 2 ERROR worker: it failed\n"
    looking.until_shown(lambda: None)
    eyes.log += "3 4 INFO worker: it is over\n"
    looking.afterwards()
    return looking.not_seen


def do_nothing(site: object) -> None:
    pass


KIND = Kind("a fault", do_nothing, SIGNS)


def test_what_shows_everywhere_is_well(eyes: Eyes) -> None:
    assert not_seen(eyes, KIND) == []


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"told": {"status": (0, "trouble"), "check": (2, "problem")}}, "status"),
        ({"told": {"status": (1, "trouble"), "check": (1, "all is well")}}, "check"),
        ({"screen": "good"}, "top"),
        ({"alert_is_true": False}, "HsmBad"),
    ],
)
def test_what_does_not_show_somewhere_is_missed(eyes: Eyes, change: dict[str, Any], missed: str) -> None:
    vars(eyes).update(change)
    [told] = not_seen(eyes, KIND)
    assert told.startswith(f"{missed}, within")


def test_a_log_that_does_not_tell_is_missed(eyes: Eyes) -> None:
    signs = SIGNS._replace(line="another line", over="nothing of the kind")
    assert [text.partition(",")[0] for text in not_seen(eyes, KIND._replace(signs=signs))] == [
        "the line",
        "the line that it is over",
    ]
    assert not_seen(eyes, KIND._replace(signs=signs, may_pass=True)) == []


def test_a_program_that_says_too_much_is_told(eyes: Eyes) -> None:
    eyes.log = "\n".join(f"{second} 0 ERROR worker: it failed" for second in range(100))
    [told] = not_seen(eyes, KIND)
    assert told.startswith("a bounded rate: worker said 101 lines")


def test_without_a_prometheus_alerts_are_not_looked_for(eyes: Eyes) -> None:
    eyes.alerts, eyes.alert_is_true = None, False
    assert not_seen(eyes, KIND) == []
