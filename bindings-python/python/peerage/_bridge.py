"""Between the core's threads and an event loop.

The core's threads never touch Python. They leave notes in a port and make its file descriptor
readable; the loop watches that, and everything else happens on the loop's own thread: one wake
for any number of notes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import itertools
import logging
import select
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from peerage import _native

_Subject: TypeAlias = _native.Request | _native.NativeStream

_log = logging.getLogger("peerage")

# The kinds of notes, as `Port.drain` has them.
_RESULT, _EXCEPTION, _ASKED, _GAVE_UP, _QUESTION = range(5)

_bridges: weakref.WeakValueDictionary[int, Bridge] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


class Registration:
    """A handler. Only its cluster holds it, so that a cluster can be collected with it."""

    __slots__ = ("__weakref__", "context", "handler", "number")

    def __init__(self, handler: Callable[[Any], Any]) -> None:
        self.handler = handler
        self.number = next(_numbers)
        self.context = contextvars.copy_context()


class Bridge:
    """What one event loop has of Peerage. The loop holds it; it ends with the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.port = _native.Port()
        self._loop = loop
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._handlers: weakref.WeakValueDictionary[int, Registration] = (
            weakref.WeakValueDictionary()
        )
        self._serving: dict[int, asyncio.Task[None]] = {}
        # Only its cluster holds a node, so that it can be collected.
        self._nodes: weakref.WeakValueDictionary[int, _native.Node] = weakref.WeakValueDictionary()
        # Whatever happens to run first must not lend its context to all that follows.
        contextvars.Context().run(self._watch)

    @classmethod
    def running(cls) -> Bridge:
        """The bridge of the running loop."""
        loop = asyncio.get_running_loop()
        bridge = _bridges.get(id(loop))
        if bridge is None or bridge._loop is not loop:
            bridge = _bridges[id(loop)] = cls(loop)
        return bridge

    async def call(
        self,
        begin: Callable[..., _native.Call],
        *args: object,
        future: asyncio.Future[Any] | None = None,
    ) -> Any:
        """Makes a call of the core and waits for its end.

        Cancelling the task cancels it, and so does giving `future`, where there is one, a result.
        """
        ticket = next(_numbers)
        if future is None:
            future = self._loop.create_future()
        self._waiting[ticket] = future
        try:
            call = begin(self.port, ticket, *args)
            try:
                return await future
            finally:
                call.cancel()  # nothing happens if it has ended
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                future.exception()  # nobody else will look at it
            raise
        finally:
            del self._waiting[ticket]

    def add(self, registration: Registration) -> None:
        """Requests under the registration's number go to its handler from now on."""
        self._handlers[registration.number] = registration

    def watch(self, node: _native.Node) -> None:
        """Lets the others know, from now on, when the loop does not respond."""
        number = next(_numbers)
        self._nodes[number] = node
        node.watch_loop(self.port, number)

    def retire(self, registration: Registration) -> None:
        """Lets a handler go after the requests that have come for it."""
        # The loop may be closed: then nothing comes any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._last, registration, context=contextvars.Context())

    def _last(self, _: Registration) -> None:
        self._drain()

    def _watch(self) -> None:
        try:
            self._loop.add_reader(self.port.fileno(), self._drain)
        except NotImplementedError:
            # Windows' proactor loop watches no descriptors: a thread of Python's does it, and
            # the loop holds us all the same.
            self._loop.__dict__["peerage bridge"] = self
            threading.Thread(
                target=_watch_for, args=(self.port, weakref.ref(self)), daemon=True
            ).start()

    def _drain(self) -> None:
        stop: BaseException | None = None
        for kind, key, value in self.port.drain():
            if kind in (_RESULT, _EXCEPTION):
                self._end(kind, key, value)
            elif kind == _ASKED:
                try:
                    self._serve(key, value)
                except (KeyboardInterrupt, SystemExit) as error:
                    stop = error  # once the other notes are delivered
            elif kind == _GAVE_UP:
                if task := self._serving.get(key):
                    task.cancel()
            elif node := self._nodes.get(key):
                node.answer_loop(value)  # that we are here is the answer
        if stop is not None:
            raise stop

    def _end(self, kind: int, ticket: int, value: Any) -> None:
        future = self._waiting.get(ticket)
        if future is None or future.done():
            return
        if kind == _RESULT:
            future.set_result(value)
        else:
            future.set_exception(value)

    def _serve(self, number: int, asked: _native.Asked) -> None:
        registration = self._handlers.get(number)
        if registration is None:
            asked.fail("the handler is gone")
        else:
            registration.context.copy().run(self._handle, registration.handler, asked)

    def _handle(self, handler: Callable[[Any], Any], asked: _native.Asked) -> None:
        request = asked.subject()
        try:
            answer = handler(request)
            if not inspect.isawaitable(answer):
                asked.answer(answer)
                return
        except Exception as error:
            _failed(asked, request, error)
            return
        except BaseException:
            asked.fail("the handler was stopped")
            raise
        number = asked.id
        task = self._loop.create_task(_finish(asked, request, answer))
        self._serving[number] = task
        task.add_done_callback(lambda _: self._serving.pop(number, None))

    def __del__(self) -> None:
        # It may be that not even the port came to be.
        if port := getattr(self, "port", None):
            port.close()


async def _finish(asked: _native.Asked, request: _Subject, answer: Awaitable[Any]) -> None:
    try:
        asked.answer(await answer)
    except Exception as error:
        _failed(asked, request, error)
    except BaseException:
        asked.fail("the handler was cancelled")
        raise


def _failed(asked: _native.Asked, request: _Subject, error: Exception) -> None:
    asked.fail(str(error) or type(error).__name__)
    _log.warning("the handler of %r failed", request.topic, exc_info=error)


def _watch_for(port: _native.Port, held: weakref.ref[Bridge]) -> None:
    drained = threading.Event()

    def drain(bridge: Bridge) -> None:
        try:
            bridge._drain()
        finally:
            drained.set()

    while True:
        select.select([port.fileno()], [], [])
        bridge = held()
        if bridge is None or port.closed:
            return
        try:
            bridge._loop.call_soon_threadsafe(drain, bridge, context=contextvars.Context())
        except RuntimeError:
            port.close()  # the loop is closed
            return
        del bridge
        drained.wait()
        drained.clear()
