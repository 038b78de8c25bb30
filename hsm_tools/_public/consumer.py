"""The public consumer API; everything is defined and documented in `hsm_tools`.

The asyncio twins are in `lustre_hsm_action_stream.aio`, so that nobody else pays for importing asyncio.
"""

from hsm_shipper.contract.event import Event
from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.errors import ConfigError, HsmError, MalformedEvent, StreamRefused, StreamUnavailable
from hsm_shipper.process.output import printable
from hsm_tools.consumer import ConsumerGroup, StreamReader
from hsm_tools.event import StreamEvent
from hsm_tools.live import LiveAction, LiveActions
from hsm_tools.live_view import LiveView
from hsm_tools.reader.replica import ReplicaState
from hsm_tools.record import HsmRecord

__all__ = [
    "ConfigError",
    "ConsumerGroup",
    "Event",
    "Heartbeat",
    "HsmError",
    "HsmRecord",
    "LiveAction",
    "LiveActions",
    "LiveView",
    "MalformedEvent",
    "ReplicaState",
    "StreamEvent",
    "StreamReader",
    "StreamRefused",
    "StreamUnavailable",
    "printable",
]
