"""The forms of the report of `hsm-stream-stats`: well formed whatever a stream holds, and a table for people."""

from __future__ import annotations

import re
import time

import pytest

from hsm_shipper.contract.redis_keys import heartbeat_key, stream_key
from tests.support.core import KEY, MDT
from tests.support.stats_runs import MDT1, PREFIX, Site, samples


def test_json_list_has_the_streams_as_a_list(filled: Site) -> None:
    as_dict, as_list = filled.report(), filled.report("--format", "json-list")
    streams = as_list["summary"]["streams"]
    assert [(stream["stream"], stream["mdt"], stream["length"]) for stream in streams] == [
        (KEY, MDT, 8),
        (stream_key(PREFIX, MDT1), MDT1, 1),
    ]
    assert as_list["breakdown"] == as_dict["breakdown"]
    assert list(streams[0]) == ["stream", *as_dict["summary"]["streams"][KEY]]


# Hostile streams

_HOSTILE = ["\x1b[31mred", 'quo"te', "back\\slash\\", "new\nline", "com,ma=equals space", "\u202eright", "ÄRCHIV"]


@pytest.fixture
def hostile(site: Site) -> Site:
    """Words, hosts and errors that a shipper would never write."""
    for rec, word in enumerate(_HOSTILE):
        site.add(rec, status=word, action=word)
    site.add(90, action="A" * 100_000)
    site.add_raw(b'{"event_type":"NEW","cat_idx":1,"rec_idx":99,"fid":"f","action":"\\ud800","status":"x"}')
    for rec in range(100, 300):
        site.add(rec, status=f"STATUS{rec}", action=f"ACTION{rec}")
    site.beat(
        host="mds\n1", last_error="\x1b]0;title\x07\\", hsm_control='en"abled', lines=10**9, max_requests=10**9,
        lines_not_understood=10**9, archive_count=10**9, remove_count=10**9, slots_lost_since=0.0,
    )  # fmt: skip
    return site


@pytest.mark.parametrize("form", ["json", "json-list", "table", "prometheus", "influx"])
def test_nothing_from_a_stream_reaches_the_output_raw(hostile: Site, form: str) -> None:
    text = hostile.output("--format", form)
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text.encode()) < 2_000_000


def test_metrics_of_a_hostile_stream_are_few_and_well_formed(hostile: Site) -> None:
    text = hostile.output("--format", "prometheus")
    found = samples(text, "hsm_live_actions")
    live = [(*re.findall(r'="(.*?)"', labels), count) for labels, count in found.items()]
    assert sum(float(count) for *_, count in live) == len(hostile.report()["breakdown"])
    assert len(live) <= 2 * 16 + 1 and ("other", MDT, "other") in {row[:3] for row in live}
    assert 'hsm_worker_info{host="other"' in text


def test_influx_lines_of_a_hostile_stream_are_well_formed(hostile: Site) -> None:
    field = r'[a-z0-9_]+=(?:-?[0-9.e+-]+i?|"(?:[^"\\]|\\.)*")'
    tag = r"[a-z]+=[A-Za-z0-9_./:-]+"
    for line in hostile.output("--format", "influx").splitlines():
        assert re.fullmatch(rf"hsm_[a-z_]+(?:,{tag})* {field}(?:,{field})* [0-9]{{19}}", line), line


def test_influx_has_no_two_points_of_one_series(hostile: Site) -> None:
    """It keeps but one of two that have the same tags and time."""
    for rec in range(2):
        hostile.add(400 + rec, "STARTED", action=f"no word {rec}")
        hostile.add(400 + rec, "SUCCEED", "UPDATE", action=f"no word {rec}", after=20 + rec)
    lines = hostile.output("--format", "influx").splitlines()
    series = [re.split(r"(?<!\\) ", line)[0] for line in lines]
    assert sorted(series) == sorted({*series})
    counts = [int(count) for count in re.findall(r"^hsm_live_actions,\S* count=(\d+)i", "\n".join(lines), re.MULTILINE)]
    assert sum(counts) == hostile.report()["summary"]["total_live_actions"]


def test_a_field_of_influx_never_changes_its_type(filled: Site) -> None:
    def kinds(text: str) -> dict[tuple[str, str], set[str]]:
        found: dict[tuple[str, str], set[str]] = {}
        for line in text.splitlines():
            measurement = line.partition(",")[0].partition(" ")[0]
            for name, value in re.findall(r'([a-z0-9_]+)=("[^"]*"|[0-9.]+i?)(?=[, ])', line.partition(" ")[2]):
                kind = "string" if value[0] == '"' else "integer" if value[-1] == "i" else "float"
                found.setdefault((measurement, name), set()).add(kind)
        return found

    for rec in range(20, 30):
        filled.add(rec, "STARTED")  # which it was when it was first seen: after 0 seconds
    before = kinds(filled.output("--format", "influx"))
    for rec in range(10, 20):
        filled.add(rec, "STARTED", ago=9000, after=rec * 97)
    after = kinds(filled.output("--format", "influx"))
    assert before and all(len(found) == 1 for found in after.values())
    assert {key: after[key] for key in before} == before


# What an operator should look at

REMEDY = "set hsm_control to shutdown, then to enabled, and restart the copytools"


def test_every_form_tells_lines_that_are_not_understood_and_lost_slots(site: Site) -> None:
    site.add(1)
    site.beat(lines=120, lines_not_understood=3, max_requests=10, archive_count=23, slots_lost_since=time.time() - 900)
    worker = site.report()["summary"]["streams"][KEY]
    lost = f"no slot is left (max_requests 10), and no copytool works on 20 of the 23 active requests: {REMEDY}"
    lines = "3 of 120 lines of the actions file are not understood, and not shipped"
    troubles = [f"{lines}: `hsm-action-shipper check` shows the first", lost]
    assert worker["worker_troubles"] == troubles
    beat = worker["heartbeat"]
    assert (beat["lines_not_understood"], beat["archive_count"], beat["lost_slots"]) == (3, 23, 20)
    assert 900 <= beat["lost_slots_age_seconds"] < 960
    table = site.output("--format", "table")
    assert table.endswith("".join(f"{MDT}: {trouble}\n" for trouble in troubles))
    text = site.output("--format", "prometheus")
    of_mdt = f'mdt="{MDT}"'
    assert samples(text, "hsm_worker_not_understood_lines") == {of_mdt: 3}
    assert samples(text, "hsm_coordinator_lost_slots") == {of_mdt: 20}
    assert samples(text, "hsm_coordinator_active_requests") == {
        f'action="ARCHIVE",{of_mdt}': 23,
        f'action="RESTORE",{of_mdt}': 0,
        f'action="REMOVE",{of_mdt}': 0,
    }
    influx = site.output("--format", "influx")
    assert "lines_not_understood=3i" in influx and "active_requests=23i,lost_slots=20i" in influx


def test_what_some_copytools_do_is_not_told_as_if_it_were_all(site: Site) -> None:
    site.add(1)
    site.beat(agents_not_understood=1)
    text = site.output("--format", "prometheus")
    assert samples(text, "hsm_copytools") == {f'mdt="{MDT}"': 2}
    assert samples(text, "hsm_copytool_running_requests") == samples(text, "hsm_copytool_ended_requests") == {}
    assert f"{MDT}: 1 copytools are not understood" in site.output("--format", "table")
    influx = site.output("--format", "influx")
    assert "copytools=2i" in influx and "copytool_errors" not in influx


def test_a_heartbeat_of_an_earlier_release_accuses_nobody(site: Site) -> None:
    site.add(1)
    site.beat(lines_not_understood=None, archive_count=None, restore_count=None, remove_count=None, max_requests=0)
    worker = site.report()["summary"]["streams"][KEY]
    assert worker["worker_troubles"] == []
    assert (worker["heartbeat"]["lines_not_understood"], worker["heartbeat"]["lost_slots"]) == (None, None)
    text = site.output("--format", "prometheus")
    for name in ("worker_not_understood_lines", "coordinator_lost_slots", "coordinator_active_requests"):
        assert samples(text, f"hsm_{name}") == {}


# The table


def test_the_table_is_for_eighty_columns_and_forty_mdts(site: Site) -> None:
    for number in range(40):
        mdt = f"elmfs123-MDT{number:04x}"
        for rec, (action, status) in enumerate(
            (("ARCHIVE", "STARTED"), ("RESTORE", "WAITING"), ("REMOVE", "CANCELED"))
        ):
            site.add(rec, status, mdt=mdt, action=action, ago=100_000)
        site.beat(mdt, lines=351_204)
    site.beat("elmfs123-MDT0007", hsm_control="disabled")
    site.client.delete(heartbeat_key(PREFIX, "elmfs123-MDT0009"))
    lines = site.output("--format", "table").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "Live actions:  120, the oldest 1d 3h"
    assert sum(line.startswith("elmfs123-MDT0003 ") for line in lines) == 4
    assert lines[-2:] == ["elmfs123-MDT0007: coordinator is disabled", "elmfs123-MDT0009: no heartbeat"]


def test_the_table_shows_what_it_counts(filled: Site) -> None:
    lines = [line.split() for line in filled.output("--format", "table").splitlines()]
    assert [MDT, "ARCHIVE", "-", "1", "1", "-", "-"] in lines
    assert [MDT, "RESTORE", "-", "-", "-", "1", "-"] in lines
    assert ["all", "1", "1", "1", "1", "-"] in lines
    assert ["ARCHIVE", "STARTED", "2", "20s", "40s", "40s", "40s"] in lines
    assert ["Failures:", "RESTORE", "1"] in lines
