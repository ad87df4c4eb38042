"""A subscription to what happens in a cluster."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from peerage import _native
from peerage._bridge import Bridge
from peerage._types import Event

__all__ = ["Events"]

# How many events are taken at once; after as many, other tasks get their turn.
_BATCH = 512


class Events(AsyncIterator[Event]):
    """Everything that happens, from when the subscription was taken on.

    The iteration ends when the node has ended and everything was taken. Dropping the last
    reference to the subscription, or `close`, ends it as well. What waits is bounded: a subscriber
    that falls behind by more than `event_queue` events gets one `EventsDropped` with all members
    in their place.

    One task at a time may wait for events; every task may have a subscription of its own.
    """

    def __init__(self, subscription: _native.Subscription) -> None:
        self._subscription: _native.Subscription | None = subscription
        self._taken: deque[Event] = deque()
        self._waiting: asyncio.Future[None] | None = None

    async def __anext__(self) -> Event:
        if not self._taken and not await self._more():
            raise StopAsyncIteration
        return self._taken.popleft()

    def close(self) -> None:
        """Ends the subscription; a task that waits for an event sees the iteration end."""
        self._subscription = None
        self._taken.clear()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _more(self) -> bool:
        """Takes what waits, or waits until something does; whether there is any."""
        while self._subscription is not None:
            taken = self._subscription.take(_BATCH)
            if taken:
                self._taken.extend(taken)
                if len(taken) == _BATCH:
                    await asyncio.sleep(0)
                if self._taken:
                    return True
            elif self._subscription.ended:
                return False
            elif self._waiting is not None:
                raise RuntimeError("another task waits for these events; let each have its own")
            else:
                await self._wait(self._subscription)
        return False

    async def _wait(self, subscription: _native.Subscription) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await Bridge.running().call(subscription.ready, future=self._waiting)
        finally:
            self._waiting = None
