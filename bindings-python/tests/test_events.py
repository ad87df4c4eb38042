"""Subscriptions: bounded under a stalled consumer, right again after it, ended in every way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc

import peerage
import pytest
from peerage import Cluster, EventsDropped, MemberUpdated
from peerage._events import _BATCH
from support import PATIENCE, awaited, next_event, two_nodes, until


@awaited
async def test_a_stalled_consumer_is_bounded_and_right_again() -> None:
    async with two_nodes(event_queue=4, gossip_interval=0.02) as (a, b):
        events = a.events()
        before = a.stats().events_dropped
        for n in range(20):
            await b.set_tags({"n": str(n)})

            def seen(n: int = n) -> bool:
                member = a.get("b")
                return member is not None and member.tags == {"n": str(n)}

            await until("the tags are there", seen)
        assert a.stats().events_dropped - before >= 16
        dropped = await next_event(events)
        assert isinstance(dropped, EventsDropped)
        assert dropped.count >= 16
        assert [(m.id, m.tags) for m in dropped.members] == [("a", {}), ("b", {"n": "19"})]
        # From there on nothing is missing.
        await b.set_tags({"n": "20"})
        event = await next_event(events)
        assert isinstance(event, MemberUpdated)
        assert event.seq == dropped.seq + 1
        assert event.member.tags == {"n": "20"}


@awaited
async def test_what_python_holds_of_a_long_queue_is_bounded() -> None:
    events = peerage.Events(peerage._native.echo_events(200_000))
    first = await anext(events)
    assert first.seq == 1
    tracemalloc.start()
    count = 1
    async for event in events:
        count += 1
        assert event.seq == count
        assert len(events._taken) < _BATCH
    assert count == 200_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@awaited
async def test_a_busy_subscription_leaves_others_their_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    async for _ in peerage.Events(peerage._native.echo_events(100_000)):
        pass
    task.cancel()
    assert turns > 50


@awaited
async def test_breaking_off_and_going_on_loses_nothing() -> None:
    events = peerage.Events(peerage._native.echo_events(5000))
    seen = []
    async for event in events:
        seen.append(event.seq)
        if len(seen) == 700:
            break
    seen.append((await anext(events)).seq)
    async for event in events:
        seen.append(event.seq)
    assert seen == list(range(1, 5001))
    with pytest.raises(StopAsyncIteration):
        await anext(events)


@awaited
async def test_a_subscription_ends_when_it_is_dropped_or_closed() -> None:
    async with Cluster(cluster="test", node_id="a", insecure=True) as a:
        assert a.stats().subscribers == 0
        one, other = a.events(), a.events()
        assert a.stats().subscribers == 2
        del one
        gc.collect()
        assert a.stats().subscribers == 1

        async def count() -> int:
            return len([event async for event in other])

        waiting = asyncio.ensure_future(count())
        await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError, match="another task waits"):
            await anext(other)
        other.close()
        assert await asyncio.wait_for(waiting, PATIENCE) == 0
        await until("nobody subscribes", lambda: a.stats().subscribers == 0)
        assert [event async for event in other] == []

        # A loop that is left early, the subscription being nobody else's.
        async def impatient() -> None:
            await a.set_tags({"x": "y"})
            async for _ in a.events():
                break

        task = asyncio.ensure_future(impatient())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        await until("nobody subscribes", lambda: a.stats().subscribers == 0)


@awaited
async def test_events_can_be_taken_in_another_loop() -> None:
    async with two_nodes() as (a, b):
        events = a.events()

        async def elsewhere() -> str:
            await b.set_tags({"x": "y"})
            event = await next_event(events)
            return event.kind

        kind = await asyncio.get_running_loop().run_in_executor(
            None, lambda: asyncio.run(elsewhere())
        )
        assert kind == "MemberUpdated"


@awaited
async def test_waits_that_are_given_up_do_not_take_the_next_ones_wake() -> None:
    async with two_nodes(gossip_interval=0.02) as (a, b):
        events = a.events()
        for n in range(100):
            for _ in range(5):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(anext(events), 0.0005)
            await b.set_tags({"n": str(n)})
            while not isinstance(await next_event(events), MemberUpdated):
                pass
