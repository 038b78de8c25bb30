"""What is wrong and what to do about it, in one line."""

from __future__ import annotations

import pytest

from hsm_shipper.commands.findings import problem, to_text, warning
from hsm_shipper.errors import HsmError


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("WRONGPASS user is disabled.", "WRONGPASS user is disabled; look at its log"),
        ("cannot reach it", "cannot reach it; look at its log"),
        ("cannot read debug...", "cannot read debug...; look at its log"),
        ("is it up?", "is it up?; look at its log"),
    ],
)
def test_a_sentence_of_somebody_elses_goes_on(text: str, told: str) -> None:
    assert str(HsmError(text, "look at its log")) == told
    assert to_text([problem("Redis", text, "look at its log")]).splitlines()[0] == f"problem  Redis  {told}"


def test_an_error_without_a_hint_can_be_a_part_of_a_longer_one() -> None:
    error = HsmError("user is disabled.")
    assert (f"{error}: tried again", error.message) == ("user is disabled: tried again", "user is disabled")


def test_no_advice_is_none() -> None:
    text = "redis_url is set, so redis_host is not used"
    assert to_text([warning("configuration", text, "")]).splitlines()[0] == f"warning  configuration  {text}"
