"""The whole surface, against a real second node."""

from __future__ import annotations

import asyncio
import pickle
import time
from datetime import timedelta

import peerage
import pytest
from described import ERRORS
from peerage import (
    Cluster,
    Explanation,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    Request,
    generate_secret,
)
from support import (
    PATIENCE,
    awaited,
    never,
    next_event,
    nothing_under_way,
    refused,
    two_nodes,
    until,
)


@awaited
async def test_nobody_sees_a_node_before_its_program_had_its_turn() -> None:
    secret = generate_secret()
    async with Cluster(cluster="test", node_id="a", secret=secret) as a:
        b = await Cluster.start(cluster="test", node_id="b", secret=secret, seeds=[a.addr])
        # Both nodes have threads of their own; the loop is what is held up here.
        time.sleep(0.5)
        assert a.get("b") is None
        b.handle("echo", lambda request: request.payload)
        await until("the node has joined", lambda: a.get("b") is not None)
        assert await a.request("b", "echo", "hi") == b"hi"
        await b.leave()


@awaited
async def test_two_nodes_find_ask_and_leave_each_other() -> None:
    secret = generate_secret()
    async with Cluster(cluster="test", node_id="a", secret=secret) as a:
        events = a.events()
        assert a.local.id == "a"
        assert a.local.rtt is None
        assert a.addr == a.bound_addr == a.local.addr

        @a.handle("greet")
        async def greet(request: Request) -> str:
            await asyncio.sleep(0)
            return f"hello {request.from_}, about {request.topic}: {request.payload.decode()}"

        heard: list[bytes] = []
        a.handle("note", lambda request: heard.append(request.payload))

        b = await Cluster.start(
            cluster="test", node_id="b", secret=secret, seeds=[a.addr], tags={"role": "x"}
        )
        await b.join(timedelta(seconds=PATIENCE))
        assert await b.request("a", "greet", "hi") == b"hello b, about greet: hi"
        assert await b.request("a", "note", b"one", 10.0) == b""
        await b.send("a", "note", memoryview(b"two"))
        await until("the message is heard", lambda: heard == [b"one", b"two"])

        match await next_event(events):
            case MemberJoined(member) as event:
                assert (event.kind, event.seq, member.id) == ("MemberJoined", 1, "b")
                assert member.tags == {"role": "x"}
            case other:
                raise AssertionError(other)
        assert [m.id for m in b.members()] == ["a", "b"]
        assert [m.id for m in a.members_with({"role": "x"})] == ["b"]
        assert a.members_with({"role": "y"}) == []
        found = a.get("b")
        assert found is not None
        assert found.state == "alive"
        assert found == b.local or found.rtt is not None
        assert a.get("c") is None

        await b.set_tags({"role": "y", "größe": "🦀"})
        assert b.local.tags == {"role": "y", "größe": "🦀"}
        updated = await next_event(events)
        assert isinstance(updated, MemberUpdated)
        assert updated.member.tags == {"role": "y", "größe": "🦀"}

        assert a.unhandle("note") is True
        assert a.unhandle("note") is False
        assert (await refused(b.request("a", "note"))).code == "UnknownTopic"
        await nothing_under_way(a, b)
        assert a.stats().requests_handled >= 3
        assert a.stats().subscribers == 1

        report = await b.leave()
        assert [phase.name for phase in report.phases] == ["announce", "drain", "clear", "close"]
        assert all(phase.complete and phase.took >= 0 for phase in report.phases)
        assert report.requests_cut_off == 0
        assert await b.leave() == report
        assert isinstance(await next_event(events), MemberLeft)
    assert isinstance(a.closed, peerage.ClosedError)
    assert [event async for event in events] == []


@awaited
async def test_tags_change_one_by_one_and_none_is_lost() -> None:
    async with two_nodes() as (a, b):
        keys = [f"key {n}" for n in range(20)]
        await asyncio.gather(*(b.update_tag(key, "größe-雪-🦀") for key in keys))
        assert b.local.tags == dict.fromkeys(keys, "größe-雪-🦀")
        assert await b.remove_tag("key 0") is True
        assert await b.remove_tag("key 0") is False
        await b.update_tag("key 1", "")
        expected = {**dict.fromkeys(keys[2:], "größe-雪-🦀"), "key 1": ""}

        def known() -> bool:
            member = a.get("b")
            return member is not None and member.tags == expected

        await until("a knows", known)


@awaited
async def test_an_explanation_says_what_is_known_of_a_member() -> None:
    async with two_nodes() as (a, b):
        found = await a.explain("b")
        deadline = time.monotonic() + PATIENCE
        while not (found and found.watched):  # watch edges are laid after a while
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
            found = await a.explain("b")
        assert isinstance(found, Explanation)
        assert (found.id, found.state, found.missed_probes) == ("b", "alive", 0)
        assert found.incarnation == b.local.incarnation
        assert found.linked
        assert found.phi is None or 0 <= found.phi <= 1000
        assert found.heard is None or found.heard >= 0
        assert found.refute_within is None
        assert found.observers == ()
        assert [(h.what, h.state, h.observers) for h in found.history] == [
            ("MemberJoined", "alive", ())
        ]
        assert repr(found).startswith("Explanation(id='b', state='alive', ")
        assert await a.explain("a") is None
        assert await a.explain("nobody") is None


@awaited
async def test_after_the_end_everything_says_so() -> None:
    async with two_nodes() as (a, b):
        events = a.events()
        assert a.closed is None
        await a.shutdown_now()
        assert [event async for event in events] == []
        assert isinstance(a.closed, peerage.ClosedError)
        for call in (
            a.request("b", "x"),
            a.send("b", "x"),
            a.set_tags({}),
            a.update_tag("x", "y"),
            a.remove_tag("x"),
            a.explain("b"),
            a.join(),
        ):
            error = await refused(call)
            assert isinstance(error, peerage.ClosedError)
            assert error.code == "Closed"
        with pytest.raises(peerage.ClosedError):
            a.handle("x", lambda _: None)
        assert [event async for event in a.events()] == []
        assert a.local.id == "a"
        await b.leave()


@awaited
async def test_a_cluster_is_started_first_and_once() -> None:
    cluster = Cluster(cluster="test", node_id="a", insecure=True)
    assert repr(cluster) == "<Cluster, not started>"
    with pytest.raises(peerage.ClosedError, match="not started"):
        cluster.members()
    async with cluster:
        assert "'a'" in repr(cluster)
        with pytest.raises(RuntimeError, match="once"):
            await cluster._start()


@awaited
async def test_a_block_that_raises_leaves_as_well() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Cluster(cluster="test", node_id="a", insecure=True) as cluster:
            _ = 1 // 0
    assert isinstance(cluster.closed, peerage.ClosedError)


@awaited
async def test_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    async with Cluster(cluster="test", node_id="a", insecure=True) as a:
        addr = a.addr
    # The port is free again; a node that lingered would hold it.
    for _ in range(20):
        start = asyncio.ensure_future(
            Cluster.start(cluster="test", node_id="a", insecure=True, listen=addr)
        )
        await asyncio.sleep(0)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        try:
            async with Cluster(cluster="test", node_id="a", insecure=True, listen=addr):
                return
        except peerage.BindError:
            assert asyncio.get_running_loop().time() < deadline


@awaited
async def test_arguments_are_refused_by_name() -> None:
    async with Cluster(cluster="test", node_id="a", insecure=True) as a:
        wrong = {
            "target": a.request(5, "x"),  # type: ignore[arg-type]
            "topic": a.request("a", ""),
            "payload": a.request("a", "x", 5),  # type: ignore[arg-type]
            "deadline": a.request("a", "x", deadline=-1.0),
            "tags": a.set_tags({"": "x"}),
            "tag": a.update_tag("", "x"),
            "key": a.remove_tag(5),  # type: ignore[arg-type]
            "value": a.update_tag("x", 5),  # type: ignore[arg-type]
            "id": a.explain(5),  # type: ignore[arg-type]
        }
        for field, call in wrong.items():
            error = await refused(call)
            assert isinstance(error, peerage.ArgumentError)
            assert isinstance(error, ValueError)
            assert [f.field for f in error.fields] == [field]
            assert str(error).startswith(f"{field} = ")
        with pytest.raises(peerage.ArgumentError, match=r"deadline = .* in seconds"):
            await a.join(float("nan"))
        with pytest.raises(peerage.ArgumentError, match="topic"):
            a.handle("", lambda _: None)
        a.handle("x", lambda _: None)
        with pytest.raises(peerage.ArgumentError, match="one handler"):
            a.handle("x", lambda _: None)
        with pytest.raises(peerage.ArgumentError, match="id = 5: must be text"):
            a.get(5)  # type: ignore[arg-type]
        with pytest.raises(peerage.ArgumentError, match="tags"):
            a.members_with(["x"])  # type: ignore[arg-type]


def test_every_error_is_a_class_under_one_base() -> None:
    import builtins

    for code, also in ERRORS.items():
        error = getattr(peerage, f"{code}Error")("words", {"fields": []})
        assert isinstance(error, peerage.PeerageError)
        assert error.code == code
        assert str(error) == "words"
        assert error.fields == ()
        assert also is None or isinstance(error, getattr(builtins, also))
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.args, copy.details) == (type(error), error.args, error.details)


@awaited
async def test_errors_carry_what_they_are_about() -> None:
    async with two_nodes() as (a, b):
        error = await refused(b.request("nobody", "x"))
        assert isinstance(error, LookupError)
        assert error.details == {"target": "nobody"}
        a.handle("never", never)
        error = await refused(b.request("a", "never", deadline=0.05))
        assert isinstance(error, TimeoutError)
        assert error.details == {"target": "a", "after": timedelta(milliseconds=50)}
        await nothing_under_way(a, b)
        with pytest.raises(peerage.BindError) as bind:
            await Cluster.start(cluster="x", node_id="x", insecure=True, listen=a.addr)
        assert isinstance(bind.value, OSError)
        assert bind.value.details["addr"] == a.addr
