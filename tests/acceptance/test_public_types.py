"""The public names as a consumer's own strict type check sees them: all are there, and all are typed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]
MODULES = ("lustre_hsm_action_stream.consumer", "lustre_hsm_action_stream.aio")
# What they import is installed for a consumer, and there mypy keeps quiet; here `make lint` looks at it.
SETTINGS = """\
[mypy]
strict = True
[mypy-hsm_shipper.*,hsm_tools.*]
follow_imports = silent
"""
PROGRAM = """\
from collections.abc import Generator
from typing import Any, assert_type

from lustre_hsm_action_stream.aio import AsyncConsumerGroup, AsyncStreamReader
from lustre_hsm_action_stream.consumer import (
    ConsumerGroup, Event, Heartbeat, HsmRecord, LiveAction, LiveView, StreamEvent, StreamReader,
)


def handle(event: StreamEvent) -> None:
    assert_type(event.data, dict[str, Any])
    assert_type(event.event, Event)
    assert_type(event.record, HsmRecord | None)
    assert_type(event.event.fid, str | None)


def follow() -> None:
    with StreamReader(host="redis", port=6379, db=1) as reader:
        assert_type(reader.events(), Generator[StreamEvent])
        assert_type(reader.events(block_ms=100), Generator[StreamEvent | None])
        for event in reader.history(last=10):
            handle(event)
        with reader.group("alerts") as group:
            assert_type(group, ConsumerGroup)
            for event in group.events():
                group.ack(event)


def look() -> None:
    with LiveView(host="redis") as view:
        view.refresh()
        assert_type(view.heartbeats, dict[str, Heartbeat | None])
        for action in view:
            assert_type(action, LiveAction)
            assert_type(action.age_s(), float | None)


async def follow_too() -> None:
    async with AsyncStreamReader(host="redis") as reader:
        assert_type(await reader.streams(), list[str])
        async for event in reader.events():
            handle(event)
        assert_type(reader.group("alerts"), AsyncConsumerGroup)
"""
MISTAKE = """\
from lustre_hsm_action_stream.consumer import StreamReader

StreamReader(host="redis").events(block_ms="100")
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The packages where an installation would have them."""
    site = tmp_path / "site"
    site.mkdir()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {name: settings["package-dir"].get(name, name) for name in settings["packages"] if "." not in name}
    for name, folder in folders.items():
        assert (ROOT / folder / "py.typed").exists(), f"{name} does not say that it is typed"
        (site / name).symlink_to(ROOT / folder)
    return site


def strictly_checked(program: str, site: Path) -> subprocess.CompletedProcess[str]:
    """mypy, strict, on a program of somebody who has installed the package."""
    (site.parent / "program.py").write_text(program)
    (site.parent / "mypy.ini").write_text(SETTINGS)
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", "program.py"],
        cwd=site.parent,
        env=os.environ | {"MYPYPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S * 2,
    )


def test_every_public_name_is_there_and_typed(site: Path) -> None:
    names = [
        f"from {module} import {name} as {name}\n"
        for module in MODULES
        for name in importlib.import_module(module).__all__
    ]
    assert len(names) > 15
    done = strictly_checked("".join(names) + PROGRAM, site)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_mistake_of_a_consumer_is_found(site: Path) -> None:
    done = strictly_checked(MISTAKE, site)
    assert done.returncode == 1
    assert 'program.py:3: error: No overload variant of "events"' in done.stdout, done.stdout + done.stderr
