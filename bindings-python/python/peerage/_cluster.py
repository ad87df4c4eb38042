"""A running node."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, overload

from peerage import _native
from peerage._bridge import Bridge, Registration
from peerage._errors import ClosedError
from peerage._events import Events
from peerage._failure import PeerageError
from peerage._native import Explanation, LeaveReport, Member, Request, Stats
from peerage._stream import OpeningStream, Stream, StreamHandler

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from peerage._config import Config

__all__ = ["Answer", "Cluster", "Duration", "Handler", "Payload"]

Duration: TypeAlias = float | timedelta
"""A time: seconds, or a timedelta."""

Payload: TypeAlias = bytes | bytearray | memoryview | str
"""What is sent: bytes, or text as UTF-8."""

Answer: TypeAlias = Payload | None
"""What a handler answers; None is an empty answer."""

Handler: TypeAlias = Callable[[Request], Answer | Awaitable[Answer]]
"""What handles requests: a function, plain or asynchronous."""

_H = TypeVar("_H", bound=Handler)
_S = TypeVar("_S", bound=StreamHandler)


class Cluster:
    """A running node of a cluster.

    `async with Cluster(...) as cluster:` starts a node and leaves at the end of the block;
    `await Cluster.start(...)` starts one as well, and `leave` is then up to you. The keyword
    arguments are the configuration, see `Config`. The node begins to join its seeds at once;
    `join` waits for that.

    Reads (`members`, `get` and so on) never wait. Calls that are awaited may be made from any
    event loop; cancelling the task cancels the call, on both nodes. Handlers run on the event loop
    that the node was started in. The core has threads of its own: neither a busy event loop nor a
    held GIL costs a heartbeat. If that loop does not respond for `unresponsive_after`, the others
    see this member as `unresponsive`, and nobody suspects it.

    Dropping the last reference stops the node without a goodbye: others will find it failed. A
    process that was forked off cannot use the nodes of its parent: everything raises `ClosedError`.
    """

    def __init__(self, **config: Unpack[Config]) -> None:
        self._config: dict[str, Any] | None = cast("dict[str, Any]", config)
        self._running: _native.Node | None = None
        self._bridge: Callable[[], Bridge | None] = lambda: None
        self._handlers: dict[str, Registration] = {}
        self._takers: dict[str, Registration] = {}

    @classmethod
    async def start(cls, **config: Unpack[Config]) -> Self:
        """Checks the configuration, binds the socket and starts the node.

        On an error nothing is left behind; a `ConfigError` names every wrong field.
        """
        cluster = cls(**config)
        await cluster._start()
        return cluster

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.leave()

    async def join(self, deadline: Duration | None = None) -> None:
        """Waits until one of the seeds has admitted us; at once without seeds.

        Fails early when every seed refuses us for good, else with `JoinFailedError` at the
        deadline (default: `join_timeout`); the node runs on and keeps trying.
        """
        await self._call(self._node.join, deadline)

    async def leave(self) -> LeaveReport:
        """Announces that we go, lets requests under way finish, closes everything.

        Goes on to its end even if the task is cancelled; a second call gets the same report.
        """
        return cast("LeaveReport", await self._call(self._node.leave))

    async def shutdown_now(self) -> LeaveReport:
        """Stops at once, without a goodbye and without waiting for requests."""
        return cast("LeaveReport", await self._call(self._node.shutdown_now))

    @property
    def local(self) -> Member:
        """Our own node as the others see it."""
        return self._node.local()

    @property
    def addr(self) -> str:
        """The address that is announced to others."""
        return self._node.addr()

    @property
    def bound_addr(self) -> str:
        """The address that the socket is bound to."""
        return self._node.bound_addr()

    @property
    def closed(self) -> PeerageError | None:
        """Why the node has ended, once it has."""
        return self._node.closed()

    def members(self) -> list[Member]:
        """All members in order of their ids: ourselves, the live, and the dead for a while."""
        return self._node.members()

    def get(self, id: str) -> Member | None:
        """What is known about one node."""
        return self._node.get(id)

    def members_with(self, tags: dict[str, str]) -> list[Member]:
        """The alive members that announce all these tags with exactly these values."""
        return self._node.members_with(tags)

    def stats(self) -> Stats:
        """Counters and gauges."""
        return self._node.stats()

    async def set_tags(self, tags: dict[str, str]) -> None:
        """Announces these tags in place of the present ones."""
        await self._call(self._node.set_tags, tags)

    async def update_tag(self, key: str, value: str) -> None:
        """Announces one tag, or another value of it.

        The others stay as they are, also those that another task changes at the same time.
        """
        await self._call(self._node.update_tag, key, value)

    async def remove_tag(self, key: str) -> bool:
        """Announces one tag no more; whether it was announced."""
        return cast("bool", await self._call(self._node.remove_tag, key))

    def set_secrets(self, secrets: list[str] | tuple[str, ...]) -> None:
        """Changes the secrets while the node runs.

        From now on it proves itself by the first, and believes whoever holds any of them (1 to 8).
        Links made with another first secret are made anew at once, for all requests, messages and
        streams to come. A link made with a secret that is not among these is closed within 5 s:
        what is still under way on it, such as a stream opened before, ends with `LinkLost`. So a
        secret is replaced without an interruption in three steps, each on all nodes before the
        next: `[old, new]`, `[new, old]`, `[new]`.
        """
        self._node.set_secrets(secrets)

    async def reload_certificates(self) -> None:
        """Reads the PEM files again.

        The node does so by itself within two seconds after they were changed. Where they cannot be
        used this raises `ConfigError`, and those before stay in use.
        """
        await self._call(self._node.reload_certificates)

    async def explain(self, id: str) -> Explanation | None:
        """What is known about another node and how we came to know it.

        Who observed what, and what happened to it before. `None` about ourselves, and about one
        that was forgotten.
        """
        return cast("Explanation | None", await self._call(self._node.explain, id))

    async def request(
        self,
        target: str,
        topic: str,
        payload: Payload | None = None,
        deadline: Duration | None = None,
    ) -> bytes:
        """Asks a live member and waits for its handler's answer.

        The deadline (default: `request_timeout`) covers everything, the making of a link included.
        Cancelling the task cancels the request on both nodes.
        """
        call = self._call(self._node.request, target, topic, payload, deadline)
        return cast("bytes", await call)

    async def send(
        self,
        target: str,
        topic: str,
        payload: Payload | None = None,
        deadline: Duration | None = None,
    ) -> None:
        """Sends a live member a message that its handler gets like a request, without an answer.

        Returns when the link has taken it whole; nobody says whether it was handled. While the
        member does not read, that waits until the deadline (default: `request_timeout`): a short
        one fails rather than waits. What has not gone by then, or when the task is cancelled, is
        taken back.
        """
        await self._call(self._node.send, target, topic, payload, deadline)

    @overload
    def handle(self, topic: str, handler: None = None) -> Callable[[_H], _H]: ...
    @overload
    def handle(self, topic: str, handler: _H) -> _H: ...
    def handle(self, topic: str, handler: _H | None = None) -> _H | Callable[[_H], _H]:
        """Handles requests and messages for a topic; also a decorator: `@cluster.handle("topic")`.

        The handler is called on the event loop that the node was started in, with a `Request`. An
        asynchronous one runs as a task of its own, which is cancelled when nobody waits for the
        answer any more; a plain one must not block. It returns the answer: bytes, text, or None
        for an empty one. What it raises is logged, and reaches the caller as `HandlerError` with
        the exception's text. A topic has one handler; a second one is refused.
        """
        if handler is None:
            return lambda handler: self.handle(topic, handler)
        self._handlers[topic] = self._register(self._node.handle, topic, handler)
        return handler

    def unhandle(self, topic: str) -> bool:
        """Stops handling a topic; requests under way are finished. Whether it was handled."""
        was_handled = self._node.unhandle(topic)
        self._retire(self._handlers.pop(topic, None))
        return was_handled

    def open_stream(
        self, target: str, topic: str, deadline: Duration | None = None
    ) -> OpeningStream:
        """Opens a stream to a live member: `await` it, or use it in `async with`.

        It is open once the member has taken it. The deadline (default: `request_timeout`) is for
        the opening, the making of a link included.
        """
        return OpeningStream(self._node.open_stream, target, topic, deadline)

    @overload
    def handle_streams(self, topic: str, handler: None = None) -> Callable[[_S], _S]: ...
    @overload
    def handle_streams(self, topic: str, handler: _S) -> _S: ...
    def handle_streams(self, topic: str, handler: _S | None = None) -> _S | Callable[[_S], _S]:
        """Handles the streams that others open for a topic; also a decorator.

        The handler is an asynchronous function that takes a `Stream`; it runs as a task of its own
        on the event loop that the node was started in. When it returns, the stream is closed. What
        it raises is logged, and reaches the opener as `HandlerError` with the exception's text,
        unless it closed the stream before. A topic has one handler for streams, and another one for
        requests.
        """
        if handler is None:
            return lambda handler: self.handle_streams(topic, handler)
        taken = handler

        async def take(stream: _native.NativeStream) -> None:
            await taken(Stream(stream))

        self._takers[topic] = self._register(self._node.handle_streams, topic, take)
        return handler

    def unhandle_streams(self, topic: str) -> bool:
        """Stops handling the streams of a topic; those that are open go on. Whether it was."""
        was_handled = self._node.unhandle_streams(topic)
        self._retire(self._takers.pop(topic, None))
        return was_handled

    def events(self) -> Events:
        """Everything that happens from now on.

        Take it before `members`, so that nothing falls between.
        """
        return Events(self._node.events())

    def __repr__(self) -> str:
        if self._running is None:
            return "<Cluster, not started>"
        return f"<Cluster {self.local.id!r} at {self.addr}>"

    def _register(
        self,
        handle: Callable[[_native.Port, int, object], None],
        topic: str,
        handler: Callable[[Any], Any],
    ) -> Registration:
        bridge = self._bridge()
        if bridge is None:
            raise ClosedError("the event loop that the node was started in is closed")
        registration = Registration(handler)
        bridge.add(registration)
        handle(bridge.port, registration.number, topic)
        return registration

    def _retire(self, registration: Registration | None) -> None:
        bridge = self._bridge()
        if registration is not None and bridge is not None:
            bridge.retire(registration)

    async def _start(self) -> None:
        if self._config is None:
            raise RuntimeError("a Cluster is started once; make another one")
        bridge = Bridge.running()
        config, self._config = self._config, None
        self._running = await bridge.call(_native.start, config)
        self._bridge = weakref.ref(bridge)
        bridge.watch(self._running)
        # Others see the node once the program had its turn: until it first waits for something it
        # may add handlers and subscriptions, and nobody asks it in vain.
        asyncio.get_running_loop().call_soon(self._running.open)

    @property
    def _node(self) -> _native.Node:
        if self._running is None:
            raise ClosedError("it was not started: use `async with` or `await Cluster.start(...)`")
        return self._running

    async def _call(self, begin: Callable[..., _native.Call], *args: object) -> Any:
        return await Bridge.running().call(begin, *args)
