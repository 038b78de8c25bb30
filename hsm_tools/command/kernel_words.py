"""The words that the kernel uses of requests and coordinators."""

from __future__ import annotations

# `hsm_copytool_action`, `agent_req_status` and `mdt_hsm_cdt` states of Lustre; anything else is new, or nonsense.
ACTIONS = ("ARCHIVE", "RESTORE", "REMOVE", "CANCEL")
STARTED = "STARTED"
FAILED = "FAILED"
STATUSES = ("WAITING", STARTED, "SUCCEED", FAILED, "CANCELED")
# A record in one of these waits for its grace delay to be over.
FINAL_STATUSES = frozenset(STATUSES[2:])
KERNEL_WORDS = frozenset({*ACTIONS, "NOOP", "UNKNOWN", *STATUSES, "init", "enabled", "disabled", "stopping", "stopped"})
