"""The kit under deploy/ and docs/metrics.md, held against what the tools really say and by Prometheus' own programs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import yaml

from tests.support.core import MDT
from tests.support.servers import RedisServer, dying_with_parent, free_port
from tests.support.stats_runs import COMMAND, ENVIRONMENT, Site, has_ipv6
from tests.support.waiting import DEADLINE_S, eventually

ROOT = Path(__file__).parents[2]
KIT = ROOT / "deploy"
DOCUMENT = (ROOT / "docs/metrics.md").read_text()
ALERTS = KIT / "prometheus/alerts.yaml"
DASHBOARD = KIT / "grafana/hsm-actions.json"
# What the tools' own metrics begin with; `up` and `process_` are Prometheus' and the library's.
NAME = re.compile(r"\bhsm_[a-z_]+")

promtool_needed = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian: apt-get install prometheus)"
)


@pytest.fixture
def site(redis_server: RedisServer, redis_db: int, tmp_path: Path) -> Iterator[Site]:
    """An MDT with an action that ended, one that runs, and a worker."""
    site = Site(redis_server, redis_db, tmp_path)
    site.add(1, ago=500)
    site.add(1, "SUCCEED", "UPDATE", ago=500, after=90)
    site.add(2, ago=100)
    site.add(2, "STARTED", "UPDATE", ago=100, after=40)
    site.beat()
    yield site
    site.end()


@pytest.fixture
def scraped(site: Site) -> str:
    """What a scrape is given once every kind of event has come."""
    exporter = site.export()
    exporter.wait("hsm_redis_up", 1)
    site.add(3)
    site.add(3, "STARTED", "UPDATE", after=5)
    site.add(3, "FAILED", "UPDATE", after=9)
    exporter.wait("hsm_action_failures_total", 1, f'action="ARCHIVE",mdt="{MDT}"')
    return exporter.scrape()


def promtool(*arguments: str | Path, text: str | None = None) -> None:
    """Run promtool, which must find nothing to complain about."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)], input=text, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0 and not re.search(r"\bFAILED\b|error", done.stdout), done.stdout + done.stderr


def alert_expressions() -> dict[str, str]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def dashboard_expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def families(text: str) -> dict[str, tuple[frozenset[str], str]]:
    """Labels and help of every metric of ours, by its name."""
    found = {}
    for name, explanation in re.findall(r"^# HELP (hsm_\S+) (.*)$", text, re.MULTILINE):
        labels = re.findall(rf"^{name}(?:_bucket)?\{{(.*)\}} ", text, re.MULTILINE)
        assert all('redis="' in told and 'prefix="' in told for told in labels), name
        found[name] = (frozenset(re.findall(r'(\w+)="', " ".join(labels))) - {"le", "redis", "prefix"}, explanation)
    return found


def sample_names(text: str) -> set[str]:
    """The names that a query can use."""
    return set(re.findall(r"^(hsm_[a-z_]+)[{ ]", text, re.MULTILINE))


# Names


def test_the_alerts_name_only_what_there_is(scraped: str) -> None:
    used = {name for expression in alert_expressions().values() for name in NAME.findall(expression)}
    assert used and used - sample_names(scraped) == set()


def test_the_dashboard_names_only_what_there_is(scraped: str) -> None:
    used = set(NAME.findall(" ".join(dashboard_expressions()))) | set(NAME.findall(DASHBOARD.read_text()))
    assert used and used - sample_names(scraped) == set()


def test_the_document_tells_every_metric_as_it_is(scraped: str) -> None:
    rows = re.findall(r"^\| `(hsm_[a-z_]+)(?:\{(.*)\})?` \| ([^|]*) \|$", DOCUMENT, re.MULTILINE)
    told = {name: (frozenset(re.findall(r"\w+", labels)), explanation) for name, labels, explanation in rows}
    assert told == families(scraped)


def test_the_document_tells_every_key_of_the_report(site: Site) -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return {key for one in value for key in keys(one)}
        return {*value, *(key for one in value.values() for key in keys(one))} if isinstance(value, dict) else set()

    site.add(4, "FAILED", after=3)
    report = site.report()
    report["summary"]["streams"] = list(report["summary"]["streams"].values())
    found = keys(report)
    assert {key for key in found if f"`{key}`" not in DOCUMENT} == set()


def test_the_document_tells_every_measurement_of_influx(site: Site) -> None:
    measurements = {line.split(",")[0].split(" ")[0] for line in site.output("--format", "influx").splitlines()}
    assert {name for name in measurements if f"`{name}`" not in DOCUMENT} == set()


# Prometheus


@promtool_needed
def test_promtool_finds_no_fault_with_the_metrics(scraped: str, site: Site) -> None:
    promtool("check", "metrics", text=scraped)
    promtool("check", "metrics", text=site.output("--format", "prometheus"))


@promtool_needed
def test_promtool_finds_no_fault_with_the_kit() -> None:
    promtool("check", "config", KIT / "prometheus/scrape.yaml")
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", KIT / "prometheus/alerts_test.yaml")


def test_no_alert_takes_one_database_for_another() -> None:
    for name, expression in alert_expressions().items():
        for labels in re.findall(r"\b(?:on|by) \(([^)]*)\)", expression):
            assert {"instance", "redis", "prefix"} <= set(labels.split(", ")), name


def test_the_dashboard_shows_the_databases_that_are_chosen_and_sums_nothing_twice() -> None:
    for expression in dashboard_expressions():
        for rest in NAME.split(expression)[1:]:
            assert rest.startswith('{redis=~"$redis",prefix=~"$prefix"'), expression
        for inner in re.findall(r"\b(?:sum|count)(?: by \([^)]*\) )?\((.*)", expression):
            assert re.match(r"(?:max|min) without \(instance, job\)", inner), expression


def test_every_alert_is_tested() -> None:
    tested = (KIT / "prometheus/alerts_test.yaml").read_text()
    assert {name for name in alert_expressions() if name not in tested} == set()


def of_all(expression: str) -> str:
    """A query of the dashboard for everything that its variables let choose."""
    variables = {"$__rate_interval": "5m", "$fs": "elm", "$mdt": ".*", "$redis": ".*", "$prefix": ".*"}
    for variable, value in variables.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


@promtool_needed
def test_a_number_of_the_dashboard_is_zero_only_if_something_says_so(tmp_path: Path) -> None:
    panels = {panel["title"]: panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] == "stat"}
    told = {title: [of_all(target["expr"]) for target in panel["targets"]] for title, panel in panels.items()}
    source = 'redis="r",prefix="p",mdt="elm-MDT000'
    series = [f'hsm_worker_up{{{source}0"}}', f'hsm_worker_heartbeat_readable{{{source}0"}}']
    series += [f'hsm_coordinator_state{{{source}0",state="enabled"}}']
    nobody = [f'hsm_worker_up{{{source}1"}}', f'hsm_worker_heartbeat_readable{{{source}2"}}']
    well = [{"series": name, "values": "1x9"} for name in series]
    unwell = [{"series": name, "values": "0x9"} for name in nobody]
    unwell.append({"series": f'hsm_coordinator_state{{{source}1",state="stopped"}}', "values": "1x9"})
    counted = told["MDTs not polled"] + told["Coordinators not enabled"]
    tests = [
        {
            "interval": "1m",
            "input_series": given,
            "promql_expr_test": [
                {"expr": expression, "eval_time": "5m", "exp_samples": [] if value is None else [{"value": value}]}
                for expression in expressions
            ],
        }
        for given, expressions, value in (
            ([], [expression for one in told.values() for expression in one], None),
            (well, counted, 0),
            (well + unwell, counted, 1),
        )
    ]
    file = tmp_path / "tests.yaml"
    file.write_text(json.dumps({"rule_files": [], "tests": tests}))
    promtool("test", "rules", file)


@promtool_needed
def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": of_all(expression)}
        for number, expression in enumerate(dashboard_expressions())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", file)


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert {"title", "uid", "panels", "schemaVersion", "templating"} <= dashboard.keys()
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert variables == ["datasource", "redis", "prefix", "fs", "mdt"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len({*ids})
    sources = {target["datasource"]["uid"] for panel in dashboard["panels"] for target in panel.get("targets", [])}
    assert sources == {"${datasource}"}
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(places) == len({*places}) and all(
        panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in dashboard["panels"]
    )


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus (Debian: apt-get install prometheus)")
def test_a_real_prometheus_scrapes_it(site: Site, tmp_path: Path) -> None:
    exporter = site.export()
    config = yaml.safe_load((KIT / "prometheus/scrape.yaml").read_text())
    config["scrape_configs"][0] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [exporter.target]
    config |= {"rule_files": [str(ALERTS)]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("wb") as log:
        prometheus = subprocess.Popen(
            [*command, f"--web.listen-address={address}"], stdout=log, stderr=log, preexec_fn=dying_with_parent()
        )
    try:
        waiting = f'hsm_live_actions{{mdt="{MDT}",status="STARTED"}}'
        eventually(lambda: query(address, waiting) == [1.0])
        site.add(7, "FAILED", after=7)
        failures = f'hsm_action_failures_total{{mdt="{MDT}",action="ARCHIVE"}}'
        eventually(lambda: query(address, failures) == [1.0])
        eventually(lambda: query(address, 'up{job="hsm-stream-stats"}') == [1.0])
    finally:
        prometheus.kill()
        prometheus.wait()


def query(address: str, expression: str) -> list[float]:
    """The values of an instant query; none while Prometheus does not answer."""
    try:
        with urlopen(f"http://{address}/api/v1/query?query={quote(expression)}", timeout=DEADLINE_S) as response:
            result = json.load(response)["data"]["result"]
    except (URLError, ConnectionError):
        return []
    return [float(row["value"][1]) for row in result]


# The rest of the kit


def test_telegraf_names_only_keys_that_there_are(site: Site) -> None:
    report = site.report("--format", "json-list")
    config = tomllib.loads((KIT / "telegraf/json_v2.conf").read_text())
    (exec_input,) = config["inputs"]["exec"]
    (table,) = exec_input["json_v2"]
    for wanted in table["object"]:
        found: Any = report
        for key in wanted["path"].split("."):
            found = found[key]
        for one in found if isinstance(found, list) else [found]:
            # Telegraf puts the keys of an object in an object together.
            one |= {f"heartbeat_{key}": value for key, value in one.get("heartbeat", {}).items()}
            assert {*wanted.get("included_keys", []), *wanted.get("tags", [])} <= one.keys()


@pytest.mark.parametrize("name", ["json_v2", "influx"])
def test_telegrafs_commands_run(site: Site, name: str) -> None:
    (exec_input,) = tomllib.loads((KIT / f"telegraf/{name}.conf").read_text())["inputs"]["exec"]
    for command in exec_input["commands"]:
        program, *options = shlex.split(command)
        assert program == "hsm-stream-stats" and site.output(*options)


def test_the_unit_starts_what_there_is() -> None:
    unit = (KIT / "prometheus/hsm-stream-stats.service").read_text()
    (command,) = re.findall(r"^ExecStart=/usr/bin/env (.*)$", unit, re.MULTILINE)
    help_ = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, env=ENVIRONMENT, check=True).stdout
    program, *options = shlex.split(command)
    assert program == "hsm-stream-stats" and all(option in help_ for option in options)
    targets = (KIT / "prometheus/scrape.yaml").read_text()
    assert f'"localhost{options[-1]}"' in targets, "the scrape configuration looks elsewhere"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_no_fault_with_the_unit() -> None:
    command = ["systemd-analyze", "verify", str(KIT / "prometheus/hsm-stream-stats.service")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


# Every command line of the document


def commands() -> list[str]:
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", DOCUMENT, re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("hsm-stream-stats")]


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_document_runs(command: str, site: Site, tmp_path: Path) -> None:
    options = shlex.split(command)[1:]
    if "-o" in options:
        options[options.index("-o") + 1] = str(tmp_path / "file")
    if "--listen" in options:
        listen = options.index("--listen")
        address = options[listen + 1]
        del options[listen : listen + 2]
        if "[" in address and not has_ipv6():
            pytest.skip("this host has no IPv6")
        site.export(*options, listen=re.sub(r"\d+$", "0", address)).wait("hsm_redis_up", 1)
    else:
        site.output(*options)


def test_the_report_shown_is_one(site: Site) -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    site.add(4, "FAILED", after=3)
    assert shape(json.loads(shown)) == shape(site.report())


def shape(value: Any) -> Any:
    """What remains of a report when values are taken out of it, and but one of each list."""
    if isinstance(value, dict):
        return [(key, shape(one)) for key, one in value.items()]
    return [shape(value[0])] if isinstance(value, list) and value else type(value) is list
