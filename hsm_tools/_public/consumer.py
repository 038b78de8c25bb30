"""The public consumer API; everything is defined in `hsm_tools.consumer`, and documented there."""

from hsm_shipper.errors import StreamRefused
from hsm_tools.consumer import StreamEvent, StreamReader

__all__ = ["StreamEvent", "StreamReader", "StreamRefused"]
