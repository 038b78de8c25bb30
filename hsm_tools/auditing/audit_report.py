"""The auditor's reports, as a table for people and as JSON. Pure functions."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import msgspec

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.kernel_line import unpack_place
from hsm_shipper.process.output import printable
from hsm_tools.auditing.audit import (
    EXIT_CONSISTENT,
    EXIT_INCONSISTENT,
    Comparison,
    Difference,
    Kind,
    MdtReport,
    exit_code,
)
from hsm_tools.live_state.health import Health, WorkerHealth

_EXAMPLES_MAX = 3
_JSON_EXAMPLES_MAX = 100
_UNKNOWN = "?"
_NONE = "-"

_HEADERS = (
    "MDT",
    "verdict",
    "live",
    "orphans",
    "missing",
    "differing",
    "malformed",
    "duplicates",
    "PURGED only",
    "garbage",
    "entries",
    "bound",
    "heartbeat",
)
_ALIGN = ("left", "left", *("right" for _ in _HEADERS[2:]))
_SAID = {
    Kind.ORPHAN: "live in the stream, not in the",
    Kind.MISSING: "not in the stream, but in the",
    Kind.DIFFERING: "in another state in the stream than in the",
}


def to_text(reports: list[MdtReport]) -> str:
    """A table, and below it what differs, with a few examples, and what could not be told."""
    from tabulate import tabulate

    lines = [tabulate([_row(report) for report in reports], _HEADERS, colalign=_ALIGN, disable_numparse=True)]
    for report in reports:
        lines += [printable(f"{report.mdt}: {remark}") for remark in _remarks(report)]
    return "\n".join(lines)


def _row(report: MdtReport) -> tuple[str, ...]:
    found = tuple(_number(report.count(kind)) for kind in Kind)
    heartbeat = _heartbeat(report.worker)
    counts = report.counts
    if counts is None:
        return (report.mdt, verdict(report.exit_code), _UNKNOWN, *found, *(_UNKNOWN for _ in _HEADERS[6:-1]), heartbeat)
    return (
        report.mdt,
        verdict(report.exit_code),
        _number(counts.live),
        *found,
        _number(counts.malformed),
        _number(counts.duplicates),
        _number(counts.purged_without_new),
        f"{counts.garbage_ratio:.0%}",
        _number(counts.entries),
        _number(counts.length_bound),
        heartbeat,
    )


def _heartbeat(worker: WorkerHealth) -> str:
    if worker.state is Health.UNREADABLE:
        return str(worker.state)
    if worker.age_s is None:
        return _NONE
    return f"{worker.age_s:,.0f} s{' (old)' if worker.state is Health.OLD else ''}"


def _number(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def verdict(code: int) -> str:
    """An exit code in a word."""
    return {EXIT_CONSISTENT: "consistent", EXIT_INCONSISTENT: "inconsistent"}.get(code, "unknown")


def _remarks(report: MdtReport) -> list[str]:
    remarks = []
    for name, comparison in (("state file", report.state_file), ("actions file", report.actions_file)):
        if comparison is not None:
            remarks += [remark for kind in Kind if (remark := _remark(kind, name, comparison))]
    if report.counts is not None and report.counts.malformed:
        malformed = report.counts.malformed
        remarks.append(f"{malformed:,} malformed entries: {_some(report.counts.malformed_ids, malformed)}")
    if report.remark is not None:
        remarks.append(report.remark)
    return remarks + report.troubles


def _remark(kind: Kind, name: str, comparison: Comparison) -> str | None:
    found = [difference for difference in comparison.found.values() if difference.kind == kind]
    if not found:
        return None
    return (
        f"{len(found):,} actions {_SAID[kind]} {name}: {_some(tuple(map(_example, found[:_EXAMPLES_MAX])), len(found))}"
    )


def _some(examples: tuple[str, ...], total: int) -> str:
    more = ", …" if total > len(examples) else ""
    return ", ".join(examples) + more


def _example(difference: Difference) -> str:
    action = difference.stream or difference.reference
    assert action is not None, "one of them holds something there"
    cat_idx, rec_idx = unpack_place(action.place)
    status = action.status
    if difference.stream is not None and difference.reference is not None:
        status = f"{difference.stream.status} (there {difference.reference.action_key} {difference.reference.status})"
    return f"{cat_idx}/{rec_idx} {action.action_key} {status}"


def to_json(reports: list[MdtReport]) -> str:
    """One JSON object. Times are seconds since the epoch, ages seconds; what is not known is null."""
    told = {"verdict": verdict(exit_code(reports)), "mdts": [_mdt_json(report) for report in reports]}
    return json.dumps(told, indent=2)


def _mdt_json(report: MdtReport) -> dict[str, Any]:
    counts = report.counts
    return {
        "mdt": report.mdt,
        "stream": report.stream,
        "verdict": verdict(report.exit_code),
        "live": counts and counts.live,
        "orphans": report.count(Kind.ORPHAN),
        "missing": report.count(Kind.MISSING),
        "differing": report.count(Kind.DIFFERING),
        "malformed": counts and counts.malformed,
        "malformed_ids": counts and counts.malformed_ids,
        "duplicates": counts and counts.duplicates,
        "purged_without_new": counts and counts.purged_without_new,
        "garbage_ratio": counts and counts.garbage_ratio,
        "entries": counts and counts.entries,
        "entries_bound": counts and counts.length_bound,
        "worker": str(report.worker.state),
        "heartbeat_age_s": report.worker.age_s,
        "heartbeat": report.heartbeat and msgspec.to_builtins(report.heartbeat),
        "state_file": _comparison_json(report.state_file),
        "actions_file": _comparison_json(report.actions_file),
        "troubles": report.troubles,
        "remark": report.remark,
    }


def _comparison_json(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    kinds = [difference.kind for difference in comparison.found.values()]
    told = comparison.untold is None
    return {
        "path": comparison.path,
        "untold": comparison.untold,
        "orphans": kinds.count(Kind.ORPHAN) if told else None,
        "missing": kinds.count(Kind.MISSING) if told else None,
        "differing": kinds.count(Kind.DIFFERING) if told else None,
        "not_compared": comparison.not_compared if told else None,
        "examples": [
            {"kind": difference.kind, "stream": _action(difference.stream), "reference": _action(difference.reference)}
            for difference in islice(comparison.found.values(), _JSON_EXAMPLES_MAX)
        ],
    }


def _action(action: ActionState | None) -> dict[str, Any] | None:
    if action is None:
        return None
    return {
        "cat_idx": action.cat_idx,
        "rec_idx": action.rec_idx,
        "fid": action.fid,
        "action": action.action,
        "status": action.status,
        "cookie": action.cookie,
    }
