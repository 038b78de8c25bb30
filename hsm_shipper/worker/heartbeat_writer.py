"""Writes a worker's heartbeat."""

from __future__ import annotations

import logging
from pathlib import Path

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.heartbeat import Heartbeat, encode, expiry_s
from hsm_shipper.contract.poll import told_of
from hsm_shipper.contract.redis_keys import heartbeat_key
from hsm_shipper.contract.slots import Slots
from hsm_shipper.lustre.coordinator import read_hsm_control, read_slots, read_tunable
from hsm_shipper.process.log import RepeatedErrors
from hsm_shipper.state.poll_status import PollStatus
from hsm_shipper.stream.connection import address

_log = logging.getLogger(__name__)


class HeartbeatWriter:
    """Writes the heartbeat of the worker of `mdt`, whose actions file is `actions`.

    `client` is the one that the worker appends with. A poll with nothing to append only compares, which a replica
    answers as well: then it is the heartbeat that finds out that the primary was demoted, for all of them.
    """

    def __init__(self, client: redis.Redis, config: Config, mdt: str, actions: Path) -> None:
        self._client = client
        self._config = config
        self._key = heartbeat_key(config.redis_stream_prefix, mdt)
        self._actions = actions
        self.failed_polls = 0
        """Since this process began; of those while Redis was away the next heartbeat tells."""
        self._slots_lost_since: float | None = None
        self._errors = RepeatedErrors(_log)

    def beat(self, status: PollStatus) -> None:
        """Tell how the last poll went. Never raises: trouble with it is said at a low rate.

        Not to be called after a poll that could not reach Redis: it would wait for it a second time.
        """
        expiry_ms = round(1000 * expiry_s(self._config.poll_interval_s, status.last_poll_duration_s))
        try:
            self._client.set(self._key, encode(self._heartbeat(status)), px=expiry_ms)
        except redis.RedisError as error:
            self._client.connection_pool.disconnect()  # the next poll may find the primary by the same name
            where = address(self._config)
            self._errors.failed("heartbeat", f"cannot write the heartbeat {self._key} at {where}: {error}")
        else:
            self._errors.worked("heartbeat")

    def _heartbeat(self, status: PollStatus) -> Heartbeat:
        slots = read_slots(self._actions)
        self._slots_lost_since = (self._slots_lost_since or status.last_poll_at) if slots.lost else None
        heartbeat = Heartbeat(
            **told_of(status),
            poll_interval_s=self._config.poll_interval_s,
            last_error=status.error,
            failed_polls=self.failed_polls,
            hsm_control=read_hsm_control(self._actions),
            slots_lost_since=self._slots_lost_since,
            grace_delay_s=read_tunable(self._actions, "grace_delay"),
            loop_period_s=read_tunable(self._actions, "loop_period"),
            **slots._asdict(),
        )
        self._say_lost(heartbeat.lost_slots)
        return heartbeat

    def _say_lost(self, slots: Slots | None) -> None:
        if slots is None:
            self._errors.worked("the coordinator's slots")
        else:
            self._errors.failed("the coordinator's slots", slots)
