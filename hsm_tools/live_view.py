"""What is live on every MDT, now and after every `refresh`, for tools of one's own.

    with LiveView(host="redis") as live:
        live.refresh()
        print(len(live), live.counts())

The same that hsm-action-top shows: a look costs one round trip, and what was added since is folded. A stream whose past
is not the one that was folded (flushed, rolled back, trimmed before it was read or by somebody else) is folded anew, so
that nothing stays live that is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from hsm_shipper.contract import fold
from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.contract.redis_keys import DEFAULT_PREFIX, check_prefix
from hsm_tools.live import Live
from hsm_tools.live_state.follow import DISCOVERY_INTERVAL_S, LiveStreams
from hsm_tools.reader.finding import check_discovery_interval
from hsm_tools.reader.replica import ReplicaState
from hsm_tools.reader.server import Server


class LiveView(Live):
    """The live actions of all streams `<prefix>:<MDT>` of one Redis database; none before the first `refresh`.

    The arguments are those of `StreamReader`, but for `refreshes`, which it needs. Use it from one thread at a time.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        db: int | None = None,
        prefix: str = DEFAULT_PREFIX,
        discovery_interval: float = DISCOVERY_INTERVAL_S,
        redis_url: str | None = None,
        **redis_kwargs: Any,
    ) -> None:
        server = Server.from_arguments(host, port, db, redis_url, redis_kwargs)
        self._streams = LiveStreams(
            server, check_prefix(prefix), discovery_interval_s=check_discovery_interval(discovery_interval)
        )

    def refresh(self) -> None:
        """Make it what the streams say now.

        Raises `StreamUnavailable` without a server, and `StreamRefused` if it refuses. What was known stays, and the
        next refresh goes on from there.
        """
        self._streams.refresh()

    def folds(self) -> Iterable[tuple[str, fold.ActionFold]]:
        """MDTs in order, and what is live there."""
        return ((stream.mdt, stream.live) for stream in self._streams)

    @property
    def heartbeats(self) -> dict[str, Heartbeat | None]:
        """By MDT, what its worker said of its last poll; None where none polls: what is live there is of the past.

        Also None where it cannot be read, and then `heartbeat_troubles` says why.
        """
        return {stream.mdt: stream.heartbeat for stream in self._streams}

    @property
    def heartbeat_troubles(self) -> dict[str, str]:
        """By MDT, why its heartbeat cannot be read: nothing is known of its worker then."""
        return {s.mdt: s.heartbeat_trouble for s in self._streams if s.heartbeat_trouble is not None}

    @property
    def troubles(self) -> dict[str, str]:
        """By MDT, why its stream could not be read by the last refresh: what is live there is of an earlier one."""
        return {stream.mdt: stream.trouble for stream in self._streams if stream.trouble is not None}

    @property
    def replica(self) -> ReplicaState | None:
        """The replica that the last refresh has read from, and how old what it says may be; None for the primary."""
        return self._streams.replica

    @property
    def malformed(self) -> int:
        """Entries that were no events, and passed over."""
        return sum(stream.malformed for stream in self._streams)

    def close(self) -> None:
        """Close the connection; what was known stays."""
        self._streams.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
