"""`hsm-stream-reconciler --here`: each server of a site judges its own MDTs, and no others."""

from __future__ import annotations

import json

import pytest

from hsm_tools import reconciler
from hsm_tools.auditing.audit import MdtReport
from hsm_tools.auditing.auditor import Auditor
from tests.acceptance.conftest import MakeServer
from tests.simulator import SimulatedMdt, populate
from tests.support.audits import CONSISTENT, INCONSISTENT, UNKNOWN, audit, found, run
from tests.support.site import LIVE, MDT, SimulatedServer

NONE_HERE = "hsm-stream-reconciler: no MDT is on this server now: there is nothing to audit\n"


@pytest.fixture
def other(make_server: MakeServer, server: SimulatedServer, mdt: SimulatedMdt) -> SimulatedServer:
    """Another server of the site, with another MDT; both have polled."""
    other = make_server("mds2")
    theirs = SimulatedMdt("elm-MDT0001")
    populate(theirs, LIVE)
    theirs.mount(other.mds)
    assert server.run("--run-once").returncode == other.run("--run-once").returncode == 0
    return other


def test_what_only_another_server_can_judge_is_left_to_it(server: SimulatedServer, other: SimulatedServer) -> None:
    assert run(server).returncode == run(other).returncode == UNKNOWN, "the reason for the option"
    for one, name in ((server, MDT), (other, "elm-MDT0001")):
        report = audit(one, CONSISTENT, "--here")
        assert (report["mdt"], found(report)) == (name, (0, 0, 0))
    other.redis.xadd("hsm:actions:elm-MDT0001", {"data": "no event"})
    assert (run(server, "--here").returncode, run(other, "--here").returncode) == (CONSISTENT, INCONSISTENT)


def test_a_server_without_an_mdt_says_so(make_server: MakeServer, other: SimulatedServer) -> None:
    standby = make_server("mds3")
    done = run(standby, "--here")
    assert (done.returncode, done.stdout, done.stderr) == (CONSISTENT, "", NONE_HERE)
    done = run(standby, "--here", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (CONSISTENT, {"verdict": "consistent", "mdts": []})
    assert run(standby, "--here", "--fix").returncode == CONSISTENT


def leaving(monkeypatch: pytest.MonkeyPatch, mdt: SimulatedMdt) -> None:
    """Have the MDT leave when its audit begins."""
    audit_here = Auditor.audit

    def audit(self: Auditor, name: str) -> MdtReport:
        if name == MDT:
            mdt.unmount()
        return audit_here(self, name)

    monkeypatch.setattr(Auditor, "audit", audit)


def test_an_mdt_that_leaves_meanwhile_is_left_out(
    server: SimulatedServer, mdt: SimulatedMdt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stays = SimulatedMdt("elm-MDT0002")
    populate(stays, LIVE)
    stays.mount(server.mds)
    server.run("--run-once")
    leaving(monkeypatch, mdt)
    assert reconciler.main(["-c", str(server.config), "--here"]) == CONSISTENT
    out, err = capsys.readouterr()
    assert "elm-MDT0002" in out and MDT not in out
    assert f"{MDT}: has left this server during the audit, and is left out" in err
    stays.unmount()
    mdt.mount(server.mds)
    assert reconciler.main(["-c", str(server.config), "--here"]) == CONSISTENT
    assert NONE_HERE in capsys.readouterr().err


def test_what_is_certainly_wrong_is_told_of_an_mdt_that_has_left_too(
    server: SimulatedServer, mdt: SimulatedMdt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.run("--run-once")
    server.redis.xadd(f"hsm:actions:{MDT}", {"data": "no event"})
    leaving(monkeypatch, mdt)
    assert reconciler.main(["-c", str(server.config), "--here"]) == INCONSISTENT
    assert "1 malformed entries" in capsys.readouterr().out


def test_where_it_cannot_be_told_what_is_here_nothing_is_said(server: SimulatedServer, other: SimulatedServer) -> None:
    loop = server.state_dir / "loop"
    loop.symlink_to(loop)
    server.configure(mdt_watch_glob=f"{loop}/*-MDT????/hsm/actions")
    done = run(server, "--here")
    assert (done.returncode, done.stdout) == (UNKNOWN, "")
    assert "which MDTs are here cannot be told: cannot list" in done.stderr and "run it as root" in done.stderr


@pytest.mark.parametrize("arguments", [["--here", MDT], ["--here", "--retire", MDT]])
def test_what_contradicts_here(server: SimulatedServer, arguments: list[str]) -> None:
    done = run(server, *arguments)
    assert done.returncode == UNKNOWN and "--here" in done.stderr
