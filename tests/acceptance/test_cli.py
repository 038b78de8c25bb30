"""The installed `hsm-action-shipper`: its command line, help, and --run-once."""

from __future__ import annotations

import resource
import subprocess
import tomllib
from pathlib import Path

import pytest

from hsm_shipper import __version__
from hsm_shipper.cli import main
from tests.support.shipper import COMMAND, MetadataServer, action_line, clean_environment
from tests.support.waiting import DEADLINE_S

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command without a configuration."""
    return subprocess.run(
        [str(COMMAND), *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_help_tells_exit_statuses_and_examples() -> None:
    shown = command("--help")
    assert shown.returncode == 0
    for text in ("exit status:", "examples:", "--daemon", "--run-once", "--config", "status", "check"):
        assert text in shown.stdout
    assert all(len(line) <= 120 for line in shown.stdout.splitlines())
    for name in ("status", "check"):
        shown = command(name, "--help")
        assert shown.returncode == 0 and "exit status" in shown.stdout and "--json" in shown.stdout


def test_help_is_quick() -> None:
    """At most 0.15 s of work of our own on any machine: an interpreter that does nothing is the measure."""

    def worked_s() -> float:
        """Processor time of the children that have ended: other processes do not add to it."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def best_s(*words: str) -> float:
        times = []
        for _ in range(5):
            before_s = worked_s()
            subprocess.run(words, env=clean_environment(), stdout=subprocess.DEVNULL, check=True)
            times.append(worked_s() - before_s)
        return min(times)

    python = str(COMMAND.with_name("python"))
    assert best_s(str(COMMAND), "--help") - best_s(python, "-c", "pass") < 0.15


@pytest.mark.parametrize("script", tomllib.loads(PROJECT.read_text())["project"]["scripts"])
def test_version(script: str) -> None:
    done = subprocess.run([COMMAND.with_name(script), "--version"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{script} {__version__}\n", "")


@pytest.mark.parametrize("arguments", [("--bogus",), ("bogus",), ("--daemon", "--run-once"), ("--run-once", "check")])
def test_a_command_line_that_cannot_be_used(arguments: tuple[str, ...]) -> None:
    refused = command(*arguments)
    assert refused.returncode == 2
    assert refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize("arguments", [("--log-level", "INFO"), ("check", "--log-file=/tmp/x")])
def test_options_of_earlier_releases_are_answered_by_what_there_is_today(arguments: tuple[str, ...]) -> None:
    refused = command(*arguments)
    assert refused.returncode == 2
    assert "is an option of earlier releases: set log_" in refused.stderr


@pytest.mark.parametrize("arguments", [(), ("--daemon",), ("--run-once",), ("status",)])
def test_a_configuration_that_cannot_be_used_is_one_line(server: MetadataServer, arguments: tuple[str, ...]) -> None:
    server.configure(pol_interval=7)
    refused = server.run(*arguments)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"hsm-action-shipper: error: {server.config}: unknown key 'pol_interval' (value 7); "
        "the nearest known key is 'poll_interval'\n"
    )


def test_a_configuration_that_is_not_there() -> None:
    refused = command("-c", "/no/such/file", "status")
    assert refused.returncode == 2
    assert "/no/such/file: No such file or directory" in refused.stderr


@pytest.mark.parametrize("is_there", [False, True])
def test_a_start_without_a_configuration_says_so(
    server: MetadataServer, is_there: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hsm_shipper.config.DEFAULT_FILE", server.config if is_there else server.root / "misnamed.yaml")
    monkeypatch.setattr("hsm_shipper.supervision.launch.run_in_foreground", lambda _: 0)
    assert main([]) == 0
    assert ("there is no configuration file" in capsys.readouterr().err) is not is_there


def test_warnings_of_the_configuration_are_said(server: MetadataServer) -> None:
    server.configure(trim_chunk_size=1000)
    done = server.run("--run-once", HSM_REDIS_HOTS="x")
    assert done.returncode == 0
    assert "hsm-action-shipper: warning:" in done.stderr
    assert "trim_chunk_size" in done.stderr and "HSM_REDIS_HOTS" in done.stderr


def test_the_configuration_can_be_named_after_the_command(server: MetadataServer) -> None:
    assert command("status", "-c", str(server.config)).stderr == ""
    relative = subprocess.run(
        [str(COMMAND), "--run-once", "-c", server.config.name],
        cwd=server.root,
        env=clean_environment(),
        capture_output=True,
        check=False,
    )
    assert relative.returncode == 0


def test_run_once_polls_every_mdt(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1), action_line(2))
    server.add_mdt("elm-MDT0001", action_line(3))
    done = server.run("--run-once")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("elm-MDT0000: 2 lines") and "2 NEW" in first
    assert second.startswith("elm-MDT0001: 1 lines") and "1 NEW" in second
    assert len(server.wait_events("elm-MDT0000", 2)) == 2

    assert "0 NEW" in server.run("--run-once").stdout
    server.remove_mdt("elm-MDT0001")
    assert server.run("--run-once").returncode == 0
    assert not (server.state_dir / "elm-MDT0001.sqlite3").exists()
    assert len(server.events("elm-MDT0001")) == 1


def test_run_once_without_an_mdt_says_so(server: MetadataServer) -> None:
    done = server.run("--run-once")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no MDT on this server" in done.stderr


def test_run_once_says_which_poll_failed(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.add_mdt("elm-MDT0001", action_line(1))
    server.redis.set("hsm:actions:elm-MDT0001", "not a stream")
    done = server.run("--run-once")
    assert done.returncode == 1
    assert done.stdout.startswith("elm-MDT0000: 1 lines")
    assert "elm-MDT0001: poll failed: " in done.stderr and "Traceback" not in done.stderr


def test_run_once_ships_what_it_can_and_says_that_this_is_not_all(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1), b"something \x1b[2J else\n", action_line(2))
    server.add_mdt("elm-MDT0001", action_line(1))
    done = server.run("--run-once", "--maintenance-now")
    assert done.returncode == 1
    first, maintained, again, other, *_ = done.stdout.splitlines()
    assert first.startswith("elm-MDT0000: 3 lines (1 not understood), 2 live, shipped 2 NEW")
    assert maintained.startswith("elm-MDT0000: read 2 entries")
    assert again.startswith("elm-MDT0000: 3 lines (1 not understood), 2 live, shipped 0 NEW")
    assert other.startswith("elm-MDT0001: 1 lines, 1 live, shipped 1 NEW")
    assert len(server.events("elm-MDT0000")) == 2
    assert r"not understood, the first: something \x1b[2J else" in done.stderr
    assert "elm-MDT0000: 1 of 3 lines of " in done.stderr and "are not understood, and not shipped" in done.stderr


def test_run_once_with_a_folder_that_cannot_be_read(server: MetadataServer) -> None:
    server.mdt_folder.rmdir()
    server.mdt_folder.symlink_to(server.mdt_folder)
    done = server.run("--run-once")
    assert done.returncode == 1
    assert f"cannot list {server.mdt_folder}" in done.stderr


def test_run_once_beside_a_running_shipper_names_its_pid(server: MetadataServer) -> None:
    server.start()
    refused = server.run("--run-once")
    assert refused.returncode == 3
    assert f"(pid {server.pid}," in refused.stderr and refused.stderr.count("\n") == 1
