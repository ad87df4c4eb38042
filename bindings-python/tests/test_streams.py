"""Streams, against a real second node."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import peerage
import pytest
from peerage import Cluster, Stream
from support import PATIENCE, awaited, refused, two_nodes, until


async def echo(stream: Stream) -> None:
    async for chunk in stream:
        await stream.write(chunk)
    await stream.finish()


async def nothing_is_open(*nodes: Cluster) -> None:
    def idle() -> bool:
        return all(n.stats().streams_in == n.stats().streams_out == 0 for n in nodes)

    await until("nothing is open", idle)


async def write_on(stream: Stream) -> None:
    while True:
        await stream.write(b"x")


async def read_on(stream: Stream) -> None:
    """Reads what came before the reset, if that is quicker than the reset."""
    while await stream.read() is not None:
        pass


@awaited
async def test_both_ways_and_each_direction_ends_on_its_own() -> None:
    async with two_nodes() as (a, b):
        assert a.handle_streams("echo", echo) is echo
        for node in (b, a):
            async with node.open_stream("a", "echo", PATIENCE) as stream:
                assert (stream.peer, stream.topic, stream.sent) == ("a", "echo", 0)
                await stream.write("größe 🦀", PATIENCE)
                assert await stream.read(PATIENCE) == "größe 🦀".encode()
                await stream.write("")
                await stream.write(memoryview(b"abc")[::2])
                assert await stream.read() == b"ac"
                assert stream.sent == len("größe 🦀".encode()) + 2
                await stream.finish(PATIENCE)
                error = await refused(stream.write("more"))
                assert isinstance(error, peerage.ArgumentError)
                assert await stream.read() is None
                assert [chunk async for chunk in stream] == []
        await nothing_is_open(a, b)


@awaited
async def test_much_at_once_from_one_task_while_another_reads() -> None:
    whole = bytes(range(256)) * (16 * 1024)
    async with two_nodes() as (a, b):
        a.handle_streams("echo", echo)
        async with await b.open_stream("a", "echo") as stream:

            async def send() -> None:
                await stream.write(whole, PATIENCE)
                await stream.finish(PATIENCE)

            sending = asyncio.create_task(send())
            assert b"".join([chunk async for chunk in stream]) == whole
            await sending


def rss_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@awaited
async def test_a_gibibyte_through_one_stream_in_flat_memory() -> None:
    piece = bytes(range(256)) * (4 << 10)

    async def count(stream: Stream) -> None:
        length = 0
        async for chunk in stream:
            at = length % 256
            assert chunk[:1] == piece[at : at + 1]
            length += len(chunk)
        await stream.write(str(length))
        await stream.finish()

    async with two_nodes() as (a, b):
        a.handle_streams("count", count)
        async with await b.open_stream("a", "count") as stream:
            for _ in range(32):  # buffers of the stack and the runtime are warm after these
                await stream.write(piece, PATIENCE)
            before = most = rss_kib()
            while stream.sent < 1 << 30:
                await stream.write(piece, PATIENCE)
                most = max(most, rss_kib())
            await stream.finish(PATIENCE)
            answer = b"".join([chunk async for chunk in stream])
            assert answer == str(1 << 30).encode()
            assert most - before <= 64 << 10, f"grown by {most - before} KiB"


@awaited
async def test_codes_and_messages_reach_the_other_end() -> None:
    ends: list[peerage.PeerageError] = []

    async def ended(stream: Stream) -> None:
        ends.append(await refused(stream.read()))

    async def give_up(stream: Stream) -> None:
        stream.reset(7)
        stream.stop(8)

    async def unfinished(_: Stream) -> None:
        pass

    async def fails(_: Stream) -> None:
        raise ValueError("broken: größe 🦀")

    async def cancels_itself(_: Stream) -> None:
        raise asyncio.CancelledError

    logging.getLogger("peerage").setLevel(logging.CRITICAL)
    async with two_nodes() as (a, b):
        a.handle_streams("ended", ended)
        a.handle_streams("give up", give_up)
        a.handle_streams("unfinished", unfinished)
        a.handle_streams("fails", fails)
        a.handle_streams("cancelled", cancels_itself)
        async with b.open_stream("a", "give up") as stream:
            error = await refused(stream.read())
            assert isinstance(error, peerage.StreamResetError)
            assert isinstance(error, ConnectionResetError)
            assert error.details == {"target": "a", "code": 7}
            error = await refused(write_on(stream))
            assert error.details == {"target": "a", "code": 8}
        async with b.open_stream("a", "unfinished") as stream:
            assert (await refused(stream.read())).details["code"] == 4294967295
        messages = {"fails": "broken: größe 🦀", "cancelled": "the handler was cancelled"}
        for topic, message in messages.items():
            for node in (b, a):
                async with node.open_stream("a", topic) as stream:
                    error = await refused(stream.read())
                    assert isinstance(error, peerage.HandlerError)
                    assert error.details == {"target": "a", "topic": topic, "message": message}
        async with b.open_stream("a", "ended") as stream:
            stream.reset(2147483647)
            await until("it is heard", lambda: len(ends) == 1)
        async with b.open_stream("a", "ended"):
            pass
        await until("it is heard", lambda: len(ends) == 2)
        stream = await b.open_stream("a", "ended")
        del stream
        gc.collect()
        await until("the last reference is gone", lambda: len(ends) == 3)
        assert [end.details["code"] for end in ends] == [2147483647, 4294967295, 4294967295]
        await nothing_is_open(a, b)
    logging.getLogger("peerage").setLevel(logging.NOTSET)


@awaited
async def test_who_does_not_read() -> None:
    taken: list[Stream] = []
    done = asyncio.Event()

    async def ignore(stream: Stream) -> None:
        taken.append(stream)
        await done.wait()

    async with two_nodes() as (a, b):
        a.handle_streams("ignore", ignore)
        stream = await b.open_stream("a", "ignore")
        await until("it is taken", lambda: len(taken) == 1)
        filling = asyncio.create_task(refused(stream.write(bytes(1 << 20), 1.0)))
        await until("the window is full", lambda: stream.sent == 65536)
        assert isinstance(await filling, peerage.TimeoutError)
        assert stream.sent == 65536
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.write(b"more"), 0.05)
        assert isinstance(await refused(stream.read(0.01)), peerage.TimeoutError)
        # A reset cuts off what waits.
        waiting = asyncio.create_task(refused(stream.write(b"more")))
        reading = asyncio.create_task(refused(stream.read()))
        await asyncio.sleep(0)
        stream.reset(1)
        stream.stop(2)
        assert isinstance(await waiting, peerage.CancelledError)
        assert isinstance(await reading, peerage.CancelledError)
        assert (await refused(read_on(taken[0]))).details["code"] == 1
        assert (await refused(write_on(taken[0]))).details["code"] == 2
        stream.close()
        assert isinstance(await refused(stream.read()), peerage.ArgumentError)
        done.set()
        await nothing_is_open(a, b)
        # A handler's stream is closed with it.
        assert isinstance(await refused(taken[0].write(b"x")), peerage.ArgumentError)


@awaited
async def test_a_read_that_is_cancelled_has_lost_nothing() -> None:
    whole = bytes(n // 7 % 256 for n in range(5000))

    async def drip(stream: Stream) -> None:
        for at in range(0, len(whole), 5):
            await stream.write(whole[at : at + 5], PATIENCE)
            if at % 100 == 0:
                await asyncio.sleep(0.001)
        await stream.finish(PATIENCE)

    async with two_nodes() as (a, b):
        a.handle_streams("drip", drip)
        async with b.open_stream("a", "drip", PATIENCE) as stream:
            read, cancelled = b"", 0
            kept = []  # an exception keeps its frames, and what they hold
            for turn in itertools.count():
                reading = asyncio.ensure_future(stream.read(PATIENCE))
                # At once, when the outcome may be on its way, or a little later.
                for _ in range(turn % 4):
                    await asyncio.sleep(0)
                if turn % 4 == 3:
                    await asyncio.sleep(0.001)
                reading.cancel()
                try:
                    chunk = await reading
                except asyncio.CancelledError as error:
                    cancelled += 1
                    kept.append(error)
                    continue
                if chunk is None:
                    break
                read += chunk
        assert read == whole
        assert cancelled >= 20
        await nothing_is_open(a, b)


@awaited
async def test_an_opening_that_is_cancelled_leaves_nothing() -> None:
    async with two_nodes() as (a, b):
        a.handle_streams("echo", echo)
        for turn in range(50):
            opening = asyncio.ensure_future(b.open_stream("a", "echo"))
            await asyncio.sleep(turn % 5 / 1000)  # some are open by then
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await opening).close()
        del opening
        gc.collect()
        await nothing_is_open(a, b)


@awaited
async def test_what_is_wrong_and_what_is_refused() -> None:
    async with two_nodes() as (a, b):

        @a.handle_streams("echo")
        async def decorated(stream: Stream) -> None:
            await echo(stream)

        async def code(*args: object) -> str:
            return (await refused(b.open_stream(*args))).code  # type: ignore[arg-type]

        assert await code("a", "nothing") == "UnknownTopic"
        assert await code("nobody", "echo") == "UnknownMember"
        assert await code("a", "") == "Argument"
        assert await code("a", 5) == "Argument"
        assert await code("a", "echo", 0) == "Argument"
        with pytest.raises(peerage.ArgumentError):
            a.handle_streams("echo", decorated)
        stream = await b.open_stream("a", "echo")
        wrong: list[tuple[str, Awaitable[object]]] = [
            ("chunk", stream.write(5)),  # type: ignore[arg-type]
            ("deadline", stream.write("x", -1)),
            ("deadline", stream.read(0)),
        ]
        for field, call in wrong:
            error = await refused(call)
            assert [f.field for f in error.fields] == [field]
        bad: list[object] = [-1, 2147483648, 1.5, "x", None]
        ends: list[Callable[[int], None]] = [stream.reset, stream.stop]
        for end in ends:
            for value in bad:
                with pytest.raises(peerage.ArgumentError, match="code"):
                    end(value)  # type: ignore[arg-type]
        assert a.unhandle_streams("echo")
        assert not a.unhandle_streams("echo")
        assert await code("a", "echo") == "UnknownTopic"
        await stream.write("goes on")
        assert await stream.read(PATIENCE) == b"goes on"
        reading = asyncio.create_task(refused(stream.read()))
        await asyncio.sleep(0)
        await a.shutdown_now()
        assert (await reading).code in ("LinkLost", "StreamReset")
        await b.leave()
        assert await code("a", "echo") == "Closed"
