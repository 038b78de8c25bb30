"""Whether a fault shows while it lasts: in the log, in `status`, `check` and the dashboard, by metric and alert."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.support.servers import die_with_parent
from tests.support.shipper import COMMAND, clean_environment
from tests.support.stats_runs import Exporter
from tests.support.waiting import DEADLINE_S
from tests.torture.fault import Kind
from tests.torture.prometheus import Alerts
from tests.torture.site import POLL_INTERVAL_S, Site

# A heartbeat expires after a minute, and whoever looks may have to wait for a server that hangs.
SHOWN_MAX_S = 150.0
_AFTERWARDS_MAX_S = 60.0
_LINE = "the line"
_EVERY_S = 3.0
"""Between two looks by a command: it costs more than what it looks at."""
_LINES_MAX = 20
_LINE_EVERY_S = 10.0
_LOUD = re.compile(r"^\S+ \S+ (?:WARN|WARNING|ERROR|CRIT|CRITICAL) ([^:]*):", re.MULTILINE)


class Eyes:
    """What is looked by on one site, for all of its faults."""

    def __init__(self, site: Site, alerts: Alerts | None) -> None:
        self.site = site
        self.alerts = alerts
        self._exporter: Exporter | None = None
        if alerts is None:
            return
        command = [str(COMMAND.with_name("hsm-stream-stats")), *self._where(), "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(
            [*command, "--interval", "1"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, env=clean_environment(), preexec_fn=die_with_parent,
        )  # fmt: skip
        self._exporter = Exporter(process)
        assert process.stderr is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()  # of a pipe that is full it would wait
        alerts.add(self._exporter.target)

    def is_true(self, alert: str) -> bool:
        """Whether the alert's expression is."""
        assert self.alerts is not None and self._exporter is not None
        return self.alerts.is_true(alert, self._exporter.target)

    def dashboard(self) -> str:
        """What `hsm-action-top --run-once` prints."""
        command = [str(COMMAND.with_name("hsm-action-top")), "--run-once", *self._where()]
        environment = clean_environment()
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        ).stdout

    def _where(self) -> list[str]:
        return ["--redis-url", self.site.broker.url]

    def close(self) -> None:
        """End the exporter."""
        if self._exporter is not None:
            self._exporter.process.kill()
            self._exporter.process.communicate()


class Look:
    """One fault of `kind`, looked at: `until_shown` while it lasts, `afterwards` when it is over."""

    def __init__(self, eyes: Eyes, kind: Kind) -> None:
        self._eyes = eyes
        self._kind = kind
        self._logs = eyes.site.log_bytes()
        self._awaited = dict(self._signs())
        self.not_seen: list[str] = []
        """What should have been seen, and was not."""

    def _signs(self) -> Iterator[tuple[str, Callable[[], bool]]]:
        signs = self._kind.signs
        for command, pattern in (("status", signs.status), ("check", signs.check)):
            if pattern:
                yield command, _now_and_then(lambda command=command, pattern=pattern: self._is_told(command, pattern))  # type: ignore[misc]
        if signs.top:
            yield "top", _now_and_then(lambda: bool(re.search(signs.top, self._eyes.dashboard())))
        if signs.line and not (signs.is_said_late or self._kind.may_pass):
            yield _LINE, lambda: self._has_said(signs.line)
        for alert in signs.alerts if self._eyes.alerts is not None else ():
            yield alert, lambda alert=alert: self._eyes.is_true(alert)  # type: ignore[misc]

    def _is_told(self, command: str, pattern: str) -> bool:
        for host in self._eyes.site.hosts.values():
            code, told = host.ask(command)
            if code != 0 and re.search(pattern, told):
                return True
        return False

    def until_shown(self, again: Callable[[], None]) -> None:
        """Go on until all has been seen, or it has taken too long; the fault is done `again` meanwhile."""
        logs, begun_s = self._eyes.site.log_bytes(), time.monotonic()
        while True:
            for name in [name for name, is_seen in self._awaited.items() if is_seen()]:
                del self._awaited[name]
            lasted_s = time.monotonic() - begun_s
            if lasted_s > SHOWN_MAX_S or not (self._awaited or lasted_s < 3 * POLL_INTERVAL_S):
                break
            time.sleep(0.3)
            self._eyes.site.advance(0.5)
            again()
        self._note_loud(logs, lasted_s)

    def _note_loud(self, logs: dict[str, int], lasted_s: float) -> None:
        """Whether any program said more than an operator can read."""
        most = _LINES_MAX + lasted_s / (POLL_INTERVAL_S if self._kind.flaps else _LINE_EVERY_S)
        for host in self._eyes.site.hosts:
            said = self._eyes.site.logged_since(logs, host)
            for program, lines in Counter(_LOUD.findall(said)).items():
                if lines > most:
                    self.not_seen.append(f"a bounded rate: {program} said {lines} lines in {lasted_s:.0f} s")

    def afterwards(self) -> None:
        """Wait for what the log has to say; then it is over."""
        signs = self._kind.signs
        self._awaited.pop(_LINE, None)
        for name, pattern in ((_LINE, signs.line), ("the line that it is over", signs.over)):
            if not pattern or self._kind.may_pass:
                continue
            until_s = time.monotonic() + _AFTERWARDS_MAX_S
            while not (has_said := self._has_said(pattern)) and time.monotonic() < until_s:
                self._eyes.site.advance(0.5)
                time.sleep(0.2)
            if not has_said:
                self.not_seen.append(f"{name}, {pattern}")
        self.not_seen += [f"{name}, within {SHOWN_MAX_S:.0f} s" for name in self._awaited]

    def _has_said(self, pattern: str) -> bool:
        return re.search(pattern, self._eyes.site.logged_since(self._logs)) is not None


def _now_and_then(look: Callable[[], bool]) -> Callable[[], bool]:
    next_s = 0.0

    def is_seen() -> bool:
        nonlocal next_s
        if time.monotonic() < next_s:
            return False
        found = look()
        next_s = time.monotonic() + _EVERY_S
        return found

    return is_seen
