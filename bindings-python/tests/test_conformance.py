"""The Python runner of `tests/conformance`: one test for each scenario.

A step is one call, or one look that is repeated until it is as expected.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peerage
import pytest
from peerage import Cluster, Event, Events, Observation, Request, Stream, generate_secret
from support import PATIENCE, ROOT, awaited, never

SCENARIOS = sorted((ROOT / "tests/conformance/scenarios").glob("*.json"))
assert SCENARIOS, "there are no scenarios"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
@awaited
async def test_scenario(path: Path, tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for number, step in enumerate(json.loads(path.read_text(encoding="utf-8"))["steps"], 1):
        step = dict(step)
        expected = step.pop("error", None)
        step.pop("untyped", None)  # Python's types let us say it
        ((verb, given),) = step.items()
        place = f"step {number}: {json.dumps(step)[:300]}"
        try:
            await asyncio.wait_for(getattr(scene, verb)(**given), 2 * PATIENCE)
        except peerage.PeerageError as error:
            assert expected is not None, f"{place}: {error!r}"
            assert error.code == expected["code"], f"{place}: {error!r}"
            if "fields" in expected:
                fields = sorted(field.field for field in error.fields)
                assert fields == sorted(expected["fields"]), f"{place}: {error!r}"
            assert expected.get("message", "") in str(error), f"{place}: {error!r}"
        except Exception as error:
            raise AssertionError(place) from error
        else:
            assert expected is None, f"{place}: succeeds instead of {expected}"


class Scene:
    """The nodes of one scenario; a method for each verb."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = {"@secret": generate_secret(), "@other-secret": generate_secret()}
        self.nodes: dict[str, Cluster] = {}
        self.subscriptions: dict[str, Events] = {}
        self.bags: dict[tuple[str, str], list[bytes]] = {}
        self.streams: dict[str, Stream] = {}

    async def start(self, node: str, config: dict[str, Any] | None = None) -> None:
        fields = {"cluster": "conformance", "node_id": node, "secret": "@secret", **(config or {})}
        given = {name: self.value(value) for name, value in fields.items() if value is not None}
        self.nodes[node] = await Cluster.start(**given)

    async def copy(self, **files: str) -> None:
        beside = Path(self.value(files["to"]) + ".new")
        shutil.copyfile(self.value(files["from"]), beside)
        beside.replace(self.value(files["to"]))

    async def damage(self, dir: str) -> None:
        Path(self.value(dir), "node.peerage").write_text("damaged", encoding="utf-8")

    async def join(self, node: str, deadline: Any = None) -> None:
        await self.nodes[node].join(self.value(deadline))

    async def members(self, node: str, expect: dict[str, str]) -> None:
        await see(expect, lambda: {m.id: m.state for m in self.nodes[node].members()})

    async def get(self, node: str, id: str, expect: dict[str, Any] | None) -> None:
        def look() -> dict[str, Any] | None:
            member = self.nodes[node].get(id)
            return member and {name: getattr(member, name) for name in expect or ("id",)}

        await see(expect, look)

    async def members_with(self, node: str, tags: dict[str, str], expect: list[str]) -> None:
        await see(expect, lambda: [m.id for m in self.nodes[node].members_with(tags)])

    async def set_tags(self, node: str, tags: dict[str, str]) -> None:
        await self.nodes[node].set_tags(tags)

    async def set_secrets(self, node: str, secrets: Any) -> None:
        self.nodes[node].set_secrets(self.value(secrets))

    async def reload_certificates(self, node: str) -> None:
        await self.nodes[node].reload_certificates()

    async def update_tag(self, node: str, key: str, value: str) -> None:
        await self.nodes[node].update_tag(key, value)

    async def update_tags_at_once(self, node: str, tags: dict[str, str]) -> None:
        calls = (self.nodes[node].update_tag(key, value) for key, value in tags.items())
        await asyncio.gather(*calls)

    async def remove_tag(self, node: str, key: str, expect: bool) -> None:
        assert await self.nodes[node].remove_tag(key) is expect

    async def explain(self, node: str, id: str, expect: dict[str, str] | None) -> None:
        found = await self.nodes[node].explain(id)
        if found is None or expect is None:
            assert found is None
            assert expect is None
            return
        first, last = found.history[0], found.history[-1]
        assert {"state": found.state, "begins": first.what, "ends": last.what} == expect, found
        assert found.id == id
        ages = [happened.ago for happened in found.history]
        assert ages == sorted(ages, reverse=True)
        assert found.phi is None or 0 <= found.phi <= 1000
        for seconds in (found.heard, found.refute_within):
            assert seconds is None or seconds >= 0
        for happened in found.history:
            sound(happened.observers)
        sound(found.observers)

    async def handle(self, node: str, topic: str, does: str) -> None:
        bag: list[bytes] = []

        def fail(_: Request) -> None:
            raise RuntimeError("told to fail")

        doings: dict[str, Callable[[Request], Any]] = {
            "echo": lambda request: request.payload,
            "from": lambda request: request.from_,
            "fail": fail,
            "never": never,
            "keep": lambda request: bag.append(request.payload),
        }
        self.nodes[node].handle(topic, doings[does])
        self.bags[node, topic] = bag

    async def unhandle(self, node: str, topic: str, expect: bool) -> None:
        assert self.nodes[node].unhandle(topic) is expect

    async def handle_streams(self, node: str, topic: str, does: str) -> None:
        async def echo(stream: Stream) -> None:
            async for chunk in stream:
                await stream.write(chunk)
            await stream.finish()

        async def fail(_: Stream) -> None:
            raise RuntimeError("told to fail")

        async def give_up(stream: Stream) -> None:
            stream.reset(7)
            stream.stop(8)

        async def leave_unfinished(_: Stream) -> None:
            pass

        async def ignore(_: Stream) -> None:
            await asyncio.Event().wait()

        doings = {
            "echo": echo,
            "fail": fail,
            "give_up": give_up,
            "leave_unfinished": leave_unfinished,
            "ignore": ignore,
        }
        self.nodes[node].handle_streams(topic, doings[does])

    async def unhandle_streams(self, node: str, topic: str, expect: bool) -> None:
        assert self.nodes[node].unhandle_streams(topic) is expect

    async def open_stream(
        self, node: str, target: str, topic: str, deadline: Any = None, **name: str
    ) -> None:
        opening = self.nodes[node].open_stream(target, topic, self.value(deadline))
        self.streams[name["as"]] = await opening

    async def write(self, stream: str, payload: Any, deadline: Any = None) -> None:
        await self.streams[stream].write(carried(payload), self.value(deadline))

    async def write_until_it_fails(self, stream: str) -> None:
        while True:
            await self.streams[stream].write(bytes(1000))

    async def sent(self, stream: str, expect: int) -> None:
        assert self.streams[stream].sent == expect

    async def finish(self, stream: str) -> None:
        await self.streams[stream].finish()

    async def read(self, stream: str, expect: Any, deadline: Any = None) -> None:
        expected, found = carried(expect), b""
        while len(found) < len(expected):
            chunk = await self.streams[stream].read(self.value(deadline))
            assert chunk is not None, "the end comes early"
            found += chunk
        assert found == expected

    async def read_end(self, stream: str) -> None:
        assert await self.streams[stream].read() is None

    async def reset(self, stream: str, code: int) -> None:
        self.streams[stream].reset(code)

    async def stop(self, stream: str, code: int) -> None:
        self.streams[stream].stop(code)

    async def close_stream(self, stream: str) -> None:
        self.streams[stream].close()

    async def request(
        self,
        node: str,
        target: str,
        topic: str,
        payload: Any,
        deadline: Any = None,
        expect: Any = None,
    ) -> None:
        answer = await self.nodes[node].request(
            target, topic, carried(payload), self.value(deadline)
        )
        assert expect is None or answer == carried(expect)

    async def cancelled_request(self, node: str, target: str, topic: str, payload: Any) -> None:
        task = asyncio.ensure_future(self.nodes[node].request(target, topic, carried(payload)))
        await see(1, lambda: self.nodes[target].stats().requests_in)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def send(
        self, node: str, target: str, topic: str, payload: Any, deadline: Any = None
    ) -> None:
        await self.nodes[node].send(target, topic, carried(payload), self.value(deadline))

    async def kept(self, node: str, topic: str, expect: list[Any]) -> None:
        await see([carried(payload) for payload in expect], lambda: self.bags[node, topic])

    async def subscribe(self, **given: str) -> None:
        self.subscriptions[given["as"]] = self.nodes[given["node"]].events()

    async def events(self, subscription: str, expect: list[list[str | None]]) -> None:
        for expected in expect:
            await self.expected(subscription, expected)

    async def evidence(self, subscription: str, expect: list[str], observers: list[str]) -> None:
        event = await self.expected(subscription, expect)
        kinds = peerage.MemberSuspected | peerage.MemberFailed | peerage.HealthCheckFailed
        assert isinstance(event, kinds)
        ids = [seen.observer for seen in event.observers]
        assert ids
        assert len(set(ids)) == len(ids)
        assert set(ids) <= set(observers)
        sound(event.observers)

    async def expected(self, subscription: str, expected: Sequence[str | None]) -> Event:
        """The next event, which is this one."""
        passed = {"LocalHealthChanged", "HealthCheckFailed"} - {expected[0]}
        event = await self.next(subscription)
        while event.kind in passed:
            event = await self.next(subscription)
        member = getattr(event, "member", None)
        assert [event.kind, member and member.id] == expected, event
        return event

    async def ended(self, subscription: str) -> None:
        async for _ in self.subscriptions[subscription]:
            pass

    async def dropped(self, subscription: str, members: dict[str, dict[str, str]]) -> None:
        event = await self.next(subscription)
        assert isinstance(event, peerage.EventsDropped), event
        assert event.count > 0
        assert {m.id: m.tags for m in event.members} == members

    async def stats(self, node: str, expect: dict[str, int]) -> None:
        def look() -> dict[str, int]:
            stats = self.nodes[node].stats()
            return {name: getattr(stats, name) for name in expect}

        await see(expect, look)

    async def link(self, node: str, id: str, expect: dict[str, Any] | None) -> None:
        def look() -> Any:
            links = [link for link in self.nodes[node].stats().links if link.id == id]
            if len(links) != 1:
                return links or None
            (link,) = links
            sound = (
                (link.rtt is None or link.rtt > 0)
                and link.heard is not None
                and link.heard >= 0
                and link.idle >= 0
                and link.packets_sent > 0
                and link.packets_received > 0
            )
            if not sound or expect is None:
                return link
            return {name: getattr(link, name) for name in expect}

        await see(expect, look)

    async def quiet(self, node: str) -> None:
        await self.stats(node, {"requests_in": 0, "requests_out": 0})

    async def leave(self, node: str, complete: bool) -> None:
        report = await self.nodes[node].leave()
        assert all(phase.complete for phase in report.phases) is complete, report

    async def shutdown(self, node: str) -> None:
        await self.nodes[node].shutdown_now()

    async def closed(self, node: str, code: str) -> None:
        def look() -> str | None:
            reason = self.nodes[node].closed
            return None if reason is None else reason.code

        await see(code, look)

    async def next(self, subscription: str) -> Event:
        return await asyncio.wait_for(anext(self.subscriptions[subscription]), PATIENCE)

    def value(self, value: Any) -> Any:
        """A value as Python gives it: times in seconds, placeholders filled in."""
        if isinstance(value, dict) and value.keys() == {"ms"}:
            return value["ms"] / 1000
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, str) and value.startswith("@certificates/"):
            made = os.environ.get("PEERAGE_CERTIFICATES")
            assert made, "run this by `cargo xtask test`, which makes certificates"
            return str(Path(made, value[14:]))
        if isinstance(value, str) and value.startswith("@dir/"):
            return str(self.folder / value[5:])
        if isinstance(value, str) and value.startswith("@"):
            return self.secrets.get(value) or self.nodes[value[1:]].addr
        return value


def sound(observers: Sequence[Observation]) -> None:
    """Observations are as the README says."""
    for seen in observers:
        assert seen.phi is None or 0 <= seen.phi <= 1000, seen
        assert seen.missed_probes >= 0, seen
        assert seen.direction in ("fromMember", "toMember", "both", "unknown"), seen
        assert 0 <= seen.health_score <= 8, seen


def carried(payload: dict[str, Any]) -> bytes:
    ((form, value),) = payload.items()
    if form == "text":
        return bytes(value, "utf-8")
    if form == "hex":
        return bytes.fromhex(value)
    byte, count = value
    return bytes([byte]) * int(count)


async def see(expected: Any, look: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := look()) != expected:
        assert time.monotonic() < deadline, f"{found!r} instead of {expected!r}"
        await asyncio.sleep(0.005)
