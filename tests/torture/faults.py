"""Faults done to real processes, each by its name. What is over leaves nothing that a hand would have to mend."""

from __future__ import annotations

from tests.torture import file_faults, process_faults, redis_faults, site_faults
from tests.torture.fault import Kind

KINDS: list[Kind] = [*process_faults.KINDS, *redis_faults.KINDS, *file_faults.KINDS, *site_faults.KINDS]
