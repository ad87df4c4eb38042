"""What a program's type checker sees; mypy checks this file, nothing runs it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

import peerage
from peerage import Cluster, Config, Event, Request, Stream
from typing_extensions import assert_never, assert_type


def about(event: Event) -> str:
    """Every kind of event is known, with its fields."""
    assert_type(event.seq, int)
    match event:
        case peerage.MemberJoined(member) | peerage.MemberUpdated(member):
            return assert_type(member, peerage.Member).id
        case peerage.MemberSuspected(member, observers):
            seen = assert_type(observers, tuple[peerage.Observation, ...])
            return member.id + ", ".join(f"{o.observer}: {o.phi}" for o in seen)
        case peerage.HealthCheckFailed(member, observers):
            return str(assert_type(observers[0].phi, float | None))
        case peerage.StateSetAside(path, reason) | peerage.CertificatesRejected(path, reason):
            return assert_type(path, str) + assert_type(reason, str)
        case peerage.CertificatesReloaded(path):
            return assert_type(path, str)
        case peerage.CertificateExpiring(path, seconds_left):
            return path + str(assert_type(seconds_left, int))
        case peerage.MemberRecovered(member) | peerage.MemberLeft(member):
            return assert_type(member.tags, dict[str, str])["role"]
        case peerage.MemberFailed(member, _, replaced):
            return "replaced" if assert_type(replaced, bool) else member.addr
        case peerage.LocalHealthChanged(score):
            return str(assert_type(score, int))
        case peerage.NameConflict(id):
            return assert_type(id, str)
        case peerage.EventsDropped(count=count, members=members):
            return str(count + len(assert_type(members, tuple[peerage.Member, ...])))
    assert_never(event)


def by_kind(event: Event) -> peerage.Member | None:
    """The kind alone tells the classes apart as well."""
    if event.kind == "MemberFailed":
        return event.member
    return None


async def surface(config: Config) -> None:
    cluster = await Cluster.start(**config)
    assert_type(cluster, Cluster)
    async with Cluster(
        cluster="x",
        node_id="y",
        ca=Path("ca.pem"),
        seeds=("127.0.0.1:1",),
        probe_interval=timedelta(seconds=1),
        request_timeout=2,
        advertise=None,
    ) as other:
        assert_type(other, Cluster)
        assert_type(await other.leave(), peerage.LeaveReport)
    assert_type(cluster.local.rtt, float | None)
    assert_type(cluster.local.state, Literal["alive", "suspect", "failed", "left"])
    assert_type(cluster.get("x"), peerage.Member | None)
    assert_type(cluster.closed, peerage.PeerageError | None)
    assert_type(await cluster.update_tag("role", "worker"), None)
    assert_type(await cluster.remove_tag("role"), bool)
    explained = await cluster.explain("x")
    assert_type(explained, peerage.Explanation | None)
    if explained is not None:
        assert_type(explained.history[0].observers, tuple[peerage.Observation, ...])
    assert_type(await cluster.request("x", "y", "z", timedelta(seconds=1)), bytes)

    @cluster.handle("typed")
    async def typed(request: Request) -> bytes | None:
        return assert_type(request.payload, bytes) or None

    cluster.handle("plain", lambda request: request.from_)

    @cluster.handle_streams("typed")
    async def taken(stream: Stream) -> None:
        async for chunk in stream:
            await stream.write(assert_type(chunk, bytes), timedelta(seconds=1))
        await stream.finish(1)

    assert_type(await cluster.open_stream("x", "y", 1), Stream)
    async with cluster.open_stream("x", "y") as stream:
        assert_type(await stream.read(), bytes | None)
        assert_type(stream.sent, int)
        stream.reset(7)
        stream.stop("7")  # type: ignore[arg-type]
        await stream.write(5)  # type: ignore[arg-type]
    cluster.handle_streams("x", lambda _: 5)  # type: ignore[type-var]

    async for event in cluster.events():
        about(event)
    assert_type(await anext(cluster.events()), Event)

    # What is wrong is an error at the checker already.
    await Cluster.start(cluster="x", node_id="y", probe_intervall=1)  # type: ignore[call-arg]
    await Cluster.start(cluster="x", node_id="y", listen=7000)  # type: ignore[arg-type]
    await Cluster.start(cluster="x")  # type: ignore[call-arg]
    await cluster.request("x", "y", 5)  # type: ignore[arg-type]
    await cluster.update_tag("x")  # type: ignore[call-arg]
    cluster.handle("x", lambda _: 5)  # type: ignore[type-var]
    cluster.local.id = "x"  # type: ignore[misc]
