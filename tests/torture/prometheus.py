"""A Prometheus that scrapes the exporters of all sites every second, and is asked for the alerts of `deploy/`."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.support.servers import die_with_parent, free_port
from tests.support.waiting import DEADLINE_S, eventually

_ALERTS = Path(__file__).parents[2] / "deploy/prometheus/alerts.yaml"
_METRIC = re.compile(r"\bhsm_[a-z_]+")


def expressions() -> dict[str, str]:
    """Those of the alerts, by their names."""
    groups = yaml.safe_load(_ALERTS.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def metric_of(alert: str) -> str:
    """What an alert looks at first."""
    found = _METRIC.search(expressions()[alert])
    assert found is not None, alert
    return found[0]


def is_installed() -> bool:
    """Whether there is one on this machine."""
    return shutil.which("prometheus") is not None


class Alerts:
    """Which alerts are true of one exporter, by the Prometheus at `url`, which finds its targets in `folder`."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._expressions = expressions()

    def add(self, target: str) -> None:
        """Have an exporter scraped."""
        new = self._folder / f"{target.replace(':', '-')}.new"
        new.write_text(json.dumps([{"targets": [target]}]))
        new.rename(new.with_suffix(".json"))
        eventually(lambda: self._ask(f'hsm_redis_up{{instance="{target}"}}'))

    def is_true(self, alert: str, target: str) -> bool:
        """Whether the expression of the alert, without the time for which it has to be so, is true of the exporter."""
        return any(series["metric"].get("instance") == target for series in self._ask(self._expressions[alert]))

    def _ask(self, expression: str) -> list[dict[str, Any]]:
        with (
            contextlib.suppress(OSError),
            urlopen(f"{self._url}/api/v1/query?{urlencode({'query': expression})}", timeout=DEADLINE_S) as reply,
        ):
            found: list[dict[str, Any]] = json.load(reply)["data"]["result"]
            return found
        return []


class Prometheus:
    """The process, with its data in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.targets = folder / "targets"
        self.targets.mkdir(parents=True)
        configuration = folder / "prometheus.yaml"
        job = {
            "job_name": "hsm-stream-stats",
            "file_sd_configs": [{"files": [f"{self.targets}/*.json"], "refresh_interval": "5s"}],
        }
        every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        configuration.write_text(json.dumps({"global": every, "scrape_configs": [job]}))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ],
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        eventually(self._is_ready)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, "prometheus has ended"
        with contextlib.suppress(OSError), urlopen(f"{self.url}/-/ready", timeout=DEADLINE_S):
            return True
        return False

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(DEADLINE_S)
