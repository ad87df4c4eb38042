"""A stream to another member, or from one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from peerage import _native
from peerage._bridge import Bridge

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["OpeningStream", "Stream", "StreamHandler"]


class Stream(AsyncIterator[bytes]):
    """Both directions at once, each ended on its own.

    What one side writes, the other reads in order and whole, in chunks of any size; iterating
    gives the chunks up to the end. A direction ends cleanly with `finish`. What is unfinished when
    the stream is closed, at the end of its handler or of an `async with` block, is given up: the
    other side gets `StreamResetError` instead of an end. Calls of several tasks take effect in the
    order in which they were made; cancelling a task cancels its call, and the stream stays open.
    """

    def __init__(self, stream: _native.NativeStream) -> None:
        self._stream = stream

    @property
    def peer(self) -> str:
        """Who is at the other end."""
        return self._stream.peer

    @property
    def topic(self) -> str:
        """What it is about."""
        return self._stream.topic

    @property
    def sent(self) -> int:
        """How many bytes were sent in all, by writes that failed as well."""
        return self._stream.sent

    async def write(
        self,
        chunk: bytes | bytearray | memoryview | str,
        deadline: float | timedelta | None = None,
    ) -> None:
        """Sends the whole chunk; text is sent as UTF-8.

        Returns when its last bytes are on their way, which they are not while the other side does
        not read. After a `TimeoutError` the stream is still open, and `sent` says how far it came.
        """
        await Bridge.running().call(self._stream.write, chunk, deadline)

    async def finish(self, deadline: float | timedelta | None = None) -> None:
        """Ends our direction; the other side reads what was sent and then the end.

        Returns when its node has all of it, be it read there or not.
        """
        await Bridge.running().call(self._stream.finish, deadline)

    async def read(self, deadline: float | timedelta | None = None) -> bytes | None:
        """The next bytes, none of them empty; `None` at the end.

        A read that ends at its `deadline`, or whose task is cancelled, as by `asyncio.wait_for`,
        has lost nothing: the next one has it. After `StreamResetError`, `HandlerError` and
        `LinkLostError` nothing more comes.
        """
        future: asyncio.Future[_native.Chunk] = asyncio.get_running_loop().create_future()
        try:
            await Bridge.running().call(self._stream.read, deadline, future=future)
        except asyncio.CancelledError:
            # It may have come a moment before.
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().give_back()
            raise
        return future.result().take()

    async def __anext__(self) -> bytes:
        chunk = await self.read()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def reset(self, code: int) -> None:
        """Gives our direction up: the other side gets `StreamResetError` with this code.

        The code is 0 to 2147483647. What the other side has not read is lost. A write under way
        fails with `CancelledError`.
        """
        self._stream.reset(code)

    def stop(self, code: int) -> None:
        """Tells the other side to stop sending: its writing fails with this code.

        The code is 0 to 2147483647. What was not read is lost. A read under way fails with
        `CancelledError`.
        """
        self._stream.stop(code)

    def close(self) -> None:
        """Gives up what is unfinished, in both directions."""
        self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Stream with {self.peer!r} about {self.topic!r}>"


StreamHandler: TypeAlias = Callable[[Stream], Awaitable[object]]
"""What takes streams that others open: an asynchronous function."""


class OpeningStream(Awaitable[Stream]):
    """A stream that is to be opened: `await` it, or use it in `async with`."""

    def __init__(self, begin: Callable[..., _native.Call], *args: object) -> None:
        self._begin = begin
        self._args = args
        self._opened: Stream | None = None

    def __await__(self) -> Generator[Any, None, Stream]:
        return self._open().__await__()

    async def __aenter__(self) -> Stream:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            self._opened.close()

    async def _open(self) -> Stream:
        return Stream(await Bridge.running().call(self._begin, *self._args))
