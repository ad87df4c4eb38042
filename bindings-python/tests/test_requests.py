"""Handlers that raise, never answer or answer nonsense; requests that are cancelled."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import peerage
import pytest
from peerage import Answer, Cluster, Request
from support import PATIENCE, awaited, never, nothing_under_way, refused, two_nodes, until


@awaited
async def test_what_a_handler_raises_reaches_the_caller() -> None:
    class Odd(Exception):
        pass

    def fails(_: Request) -> Answer:
        raise ValueError("broken: größe 🦀")

    async def fails_later(_: Request) -> Answer:
        await asyncio.sleep(0)
        raise Odd

    async def cancels_itself(_: Request) -> Answer:
        raise asyncio.CancelledError

    logging.getLogger("peerage").setLevel(logging.CRITICAL)
    async with two_nodes() as (a, b):
        a.handle("plain", fails)
        a.handle("later", fails_later)
        a.handle("cancelled", cancels_itself)
        a.handle("number", lambda _: 5)  # type: ignore[type-var]
        messages = {
            "plain": "broken: größe 🦀",
            "later": "Odd",
            "cancelled": "the handler was cancelled",
            "number": "answer = 5: must be bytes or text",
        }
        for topic, message in messages.items():
            for node in (b, a):
                error = await refused(node.request("a", topic))
                assert isinstance(error, peerage.HandlerError)
                assert error.details == {"target": "a", "topic": topic, "message": message}
                assert message in str(error)
        await b.send("a", "plain")  # nobody is told
        await nothing_under_way(a, b)
    logging.getLogger("peerage").setLevel(logging.NOTSET)


@awaited
async def test_answers_of_every_kind() -> None:
    answers: dict[str, tuple[Answer, bytes]] = {
        "none": (None, b""),
        "text": ("größe 🦀\0", "größe 🦀\0".encode()),
        "bytes": (b"\xff\0", b"\xff\0"),
        "array": (bytearray(b"x"), b"x"),
        "view": (memoryview(b"abc")[::2], b"ac"),
    }

    def gives(answer: Answer) -> Callable[[Request], Answer]:
        return lambda _: answer

    async with two_nodes() as (a, b):
        for topic, (answer, expected) in answers.items():
            a.handle(topic, gives(answer))
            assert await b.request("a", topic) == expected


@awaited
async def test_sixteen_mebibytes_there_and_back() -> None:
    payload = bytes(range(256)) * (16 * 4096)
    async with two_nodes() as (a, b):
        a.handle("echo", lambda request: request.payload)
        assert await b.request("a", "echo", payload, PATIENCE) == payload
        assert await b.request("a", "echo", bytearray(payload), PATIENCE) == payload
        assert await b.request("a", "echo", b"") == b""
        await nothing_under_way(a, b)


@awaited
async def test_a_handler_that_never_answers_costs_the_caller_its_deadline_only() -> None:
    ended = asyncio.Event()

    async def hangs(_: Request) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with two_nodes() as (a, b):
        a.handle("never", hangs)
        error = await refused(b.request("a", "never", deadline=0.1))
        assert isinstance(error, TimeoutError)
        await asyncio.wait_for(ended.wait(), PATIENCE)
        await nothing_under_way(a, b)


@awaited
async def test_cancelling_releases_everything_on_both_nodes() -> None:
    begun, ended = [], []

    async def hangs(request: Request) -> None:
        begun.append(request)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(request)

    async with two_nodes() as (a, b):
        a.handle("never", hangs)
        tasks = [asyncio.ensure_future(b.request("a", "never", f"{n}")) for n in range(20)]
        await until("all are handled", lambda: len(begun) == 20)
        assert a.stats().requests_in == b.stats().requests_out == 20
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        await until("all handlers were cancelled", lambda: len(ended) == 20)
        await nothing_under_way(a, b)
        assert a.stats().requests_abandoned == 20

        # The same by a timeout of asyncio's own, and right at the beginning.
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(b.request("a", "never"), 0.05)
        task = asyncio.ensure_future(b.request("a", "never"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await nothing_under_way(a, b)


@awaited
async def test_a_cancelled_join_and_a_cancelled_wait_for_events_hurt_nobody() -> None:
    async with Cluster(
        cluster="test", node_id="a", insecure=True, seeds=["127.0.0.1:9"], connect_timeout=0.1
    ) as a:
        events = a.events()
        for waiting in (a.join(), anext(events)):
            task = asyncio.ensure_future(waiting)
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        error = await refused(a.join(0.1))
        assert isinstance(error, peerage.JoinFailedError)
        assert [seed["addr"] for seed in error.details["seeds"]] == ["127.0.0.1:9"]


@awaited
async def test_leaving_cancels_handlers_after_the_drain_timeout() -> None:
    async with two_nodes(drain_timeout=0.1) as (a, b):
        a.handle("never", never)
        request = asyncio.ensure_future(b.request("a", "never"))
        await until("it is handled", lambda: a.stats().requests_in == 1)
        report = await a.leave()
        assert report.requests_cut_off == 1
        error = await refused(request)
        assert isinstance(error, ConnectionError)
        assert error.code == "LinkLost"


@awaited
async def test_handlers_see_the_context_that_they_were_given_in() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    async with two_nodes() as (a, b):
        who.set("the one who handles")
        a.handle("plain", lambda _: who.get())

        @a.handle("later")
        async def later(_: Request) -> str:
            seen = who.get()
            who.set("leaked")
            return seen

        who.set("somebody else")
        for topic in ("plain", "later", "later"):
            assert await b.request("a", topic) == b"the one who handles"


@awaited
async def test_many_requests_at_once() -> None:
    async with two_nodes() as (a, b):

        @a.handle("echo")
        async def echo(request: Request) -> bytes:
            await asyncio.sleep(0)
            return request.payload

        texts = [str(n).encode() for n in range(500)]
        answers = await asyncio.gather(*(b.request("a", "echo", text) for text in texts))
        assert answers == texts
        await nothing_under_way(a, b)


@awaited
async def test_handling_goes_on_while_references_are_dropped() -> None:
    async with two_nodes() as (a, b):
        a.handle("echo", lambda request: request.payload)
        gc.collect()
        assert await b.request("a", "echo", b"x") == b"x"


@awaited
async def test_a_blocked_loop_piles_up_nothing() -> None:
    handled = []
    secret = peerage.generate_secret()
    async with Cluster(cluster="test", node_id="a", secret=secret) as a:
        a.handle("x", lambda request: handled.append(request))
        await a.join()  # by then others can join it

        async def hurry() -> None:
            """Asks often and waits for a short time only, from a loop of its own."""
            async with Cluster(cluster="test", node_id="b", secret=secret, seeds=[a.addr]) as b:
                await b.join(PATIENCE)
                for _ in range(10):
                    calls = (b.request("a", "x", bytes(65536), 0.05) for _ in range(50))
                    for result in await asyncio.gather(*calls, return_exceptions=True):
                        assert isinstance(result, peerage.PeerageError)
                await nothing_under_way(a, b)

        with ThreadPoolExecutor() as other:
            other.submit(asyncio.run, hurry()).result(2 * PATIENCE)  # which blocks our loop
        assert a.stats().requests_in == 0
        a.handle("y", lambda _: b"")
        await a.request("a", "y")
        assert handled == []


@awaited
async def test_what_has_come_before_unhandle_is_handled() -> None:
    async with two_nodes() as (a, b):

        def last(_: Request) -> bytes:
            return b"handled"

        a.handle("x", last)
        request = asyncio.ensure_future(b.request("a", "x"))
        await asyncio.sleep(0)
        deadline = time.monotonic() + PATIENCE
        while a.stats().requests_in == 0:  # our loop sees nothing of it yet
            assert time.monotonic() < deadline
        time.sleep(0.05)
        assert a.unhandle("x")
        assert await request == b"handled"
        assert (await refused(b.request("a", "x"))).code == "UnknownTopic"
        # And the handler has gone: its topic is free.
        a.handle("x", lambda _: b"another")
        assert await b.request("a", "x") == b"another"
