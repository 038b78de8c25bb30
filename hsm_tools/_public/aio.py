"""The public consumer API for asyncio; everything is defined and documented in `hsm_tools.aio`."""

from hsm_tools.aio import AsyncBatches, AsyncConsumerGroup, AsyncEvents, AsyncStreamReader

__all__ = ["AsyncBatches", "AsyncConsumerGroup", "AsyncEvents", "AsyncStreamReader"]
