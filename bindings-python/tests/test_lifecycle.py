"""Ends of every kind: of interpreters, loops, forks and references. And a GIL that is held."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any

import peerage
import pytest
from peerage import Cluster, LocalHealthChanged, MemberFailed, MemberSuspected, MemberUpdated
from peerage._bridge import Bridge
from support import PATIENCE, QUICK, ROOT, awaited, next_event, python, two_nodes, until

#: What the programs below begin with: a node, a subscription that waits, a handler, a request.
BUSY = """
import asyncio, gc, os, sys, threading, time
import peerage
from peerage import Cluster

async def busy():
    global a, events, waiting, asked
    a = await Cluster.start(cluster="t", node_id="a", insecure=True)
    async def never(_):
        await asyncio.Event().wait()
    a.handle("never", never)
    a.handle("plain", lambda request: request.payload)
    events = a.events()
    waiting = asyncio.ensure_future(anext(events))
    asked = asyncio.ensure_future(a.request("a", "never"))
    assert await a.request("a", "plain", "x") == b"x"
    while a.stats().subscribers != 1:
        await asyncio.sleep(0.001)
"""

#: How programs end with all that still there: the rest of the program, its exit code.
ENDS = {
    "the end of main": ("asyncio.run(busy())", 0),
    "sys.exit": ("async def main():\n await busy()\n sys.exit(3)\nasyncio.run(main())", 3),
    "an exception": ("async def main():\n await busy()\n 1 / 0\nasyncio.run(main())", 1),
    "a loop that is never closed": (
        "loop = asyncio.new_event_loop()\nloop.run_until_complete(busy())",
        0,
    ),
    "a loop closed with tasks in it": (
        "loop = asyncio.new_event_loop()\nloop.run_until_complete(busy())\nloop.close()",
        0,
    ),
    "no collection at the end": ("asyncio.run(busy())\ngc.disable()\nkept = [a, events]", 0),
    "a loop in a thread of its own": (
        "t = threading.Thread(target=lambda: asyncio.run(busy()))\nt.start()\nt.join()",
        0,
    ),
    "a daemon thread under way": (
        "def forever():\n"
        " async def main():\n"
        "  await busy()\n"
        "  ready.set()\n"
        "  while True:\n"
        "   await a.request('a', 'plain', 'x')\n"
        " asyncio.run(main())\n"
        "ready = threading.Event()\n"
        "threading.Thread(target=forever, daemon=True).start()\n"
        "ready.wait()",
        0,
    ),
    "main is cancelled": (
        "async def main():\n"
        " asyncio.get_running_loop().call_later(0.05, asyncio.current_task().cancel)\n"
        " async with Cluster(cluster='t', node_id='b', insecure=True) as b:\n"
        "  await busy()\n"
        "  await asyncio.Event().wait()\n"
        "try:\n asyncio.run(main())\nexcept asyncio.CancelledError:\n sys.exit(4)",
        4,
    ),
    "handlers while it goes down": (
        "async def main():\n"
        " await busy()\n"
        " for n in range(50):\n"
        "  asyncio.ensure_future(a.request('a', 'plain', bytes(100_000)))\n"
        " await asyncio.sleep(0)\n"
        "asyncio.run(main())",
        0,
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_an_interpreter_with_a_live_cluster_ends(how: str) -> None:
    source, code = ENDS[how]
    ended = python(BUSY + source)
    shown = f"{ended.stdout}\n{ended.stderr}"
    assert ended.returncode == code, shown
    if how == "an exception":
        assert "ZeroDivisionError" in ended.stderr
    else:
        for bad in ("panicked", "Fatal Python error", "Traceback"):
            assert bad not in shown, shown


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_gets_errors_and_ends() -> None:
    ended = python(
        BUSY
        + """
async def refused(call):
    try:
        await call
    except peerage.ClosedError as error:
        assert "forked" in str(error), error
    else:
        raise AssertionError("it worked")

def child():
    for look in (a.members, a.stats, a.events, lambda: a.local, lambda: a.closed,
                 lambda: a.handle("x", len), lambda: a.unhandle("never")):
        try:
            look()
        except peerage.ClosedError as error:
            assert error.code == "Closed" and "forked" in str(error), error
        else:
            raise AssertionError("it worked")
    for call in (lambda: a.request("a", "plain"), lambda: a.leave(), lambda: a.join(),
                 lambda: anext(events),
                 lambda: Cluster.start(cluster="t", node_id="b", insecure=True)):
        asyncio.run(refused(call()))

loop = asyncio.new_event_loop()
loop.run_until_complete(busy())
pid = os.fork()
if pid == 0:
    child()
    gc.collect()
    sys.exit(7)  # with everything inherited still there
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
# The parent has noticed nothing.
assert loop.run_until_complete(a.request("a", "plain", "x")) == b"x"
loop.run_until_complete(a.leave())
print("well")
"""
    )
    assert (ended.returncode, ended.stdout) == (0, "well\n"), ended.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_of_a_process_that_only_imported_it_may_use_it() -> None:
    ended = python(
        """
import asyncio, os, sys
from peerage import Cluster
async def main():
    async with Cluster(cluster="t", node_id="a", insecure=True) as a:
        a.handle("x", lambda _: b"y")
        return await a.request("a", "x")
pid = os.fork()
if pid == 0:
    sys.exit(7 if asyncio.run(main()) == b"y" else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert asyncio.run(main()) == b"y"
"""
    )
    assert ended.returncode == 0, ended.stderr


#: A node in a process of its own, which when told to blocks its loop for some time: it holds the
#: GIL, or sleeps.
HOLDER = """
import asyncio, ctypes, json, sys, time
from peerage import Cluster

async def main():
    seed, secret, config = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    how, seconds = sys.argv[4], float(sys.argv[5])
    told = lambda: asyncio.to_thread(sys.stdin.readline)
    async with Cluster(cluster="test", node_id="held", secret=secret, seeds=[seed], **config) as c:
        await c.join(30)
        print("joined", flush=True)
        await told()
        began = time.monotonic()
        # PyDLL, unlike CDLL, keeps the GIL: no thread of Python's runs meanwhile.
        if how == "sleep":
            time.sleep(seconds)
        elif sys.platform == "win32":
            ctypes.PyDLL("kernel32").Sleep(int(seconds * 1000))
        else:
            ctypes.PyDLL(None).usleep(int(seconds * 1e6))
        print(round(time.monotonic() - began, 1), flush=True)
        await told()
        print(c.stats().refutations, flush=True)

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def holder(
    a: Cluster, secret: str, config: dict[str, Any], how: str, seconds: float
) -> AsyncIterator[tuple[asyncio.StreamWriter, asyncio.StreamReader]]:
    """The program above, joined; it must end well once it was told to."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", HOLDER, a.addr, secret, json.dumps(config), how, str(seconds)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "bindings-python/python")},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert await asyncio.wait_for(child.stdout.readline(), PATIENCE) == b"joined\n"
        await until("it is there", lambda: a.stats().alive == 2)
        yield child.stdin, child.stdout
        assert await asyncio.wait_for(child.wait(), PATIENCE) == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


@awaited
async def test_a_gil_held_for_ten_seconds_costs_no_heartbeat() -> None:
    secret = peerage.generate_secret()
    async with (
        Cluster(cluster="test", node_id="a", secret=secret, **QUICK) as a,
        holder(a, secret, QUICK, "gil", 10) as (tell, said),
    ):
        events = a.events()
        heard = a.stats().datagrams_received
        tell.write(b"hold\n")
        held = float(await asyncio.wait_for(said.readline(), 2 * PATIENCE))
        assert held >= 10
        assert a.stats().datagrams_received >= heard + 8, "one heartbeat a second"
        # It is watched and was heard all the while, and never found wanting.
        explained = await a.explain("held")
        assert explained is not None
        assert explained.watched
        assert explained.phi is not None
        assert explained.phi < 8
        assert explained.unseen <= 1
        seen = events._subscription.take(1000) if events._subscription else []
        assert not [e for e in seen if isinstance(e, MemberSuspected | MemberFailed)], seen
        member = a.get("held")
        assert member is not None
        assert member.state == "alive"
        tell.write(b"end\n")
        assert await said.readline() == b"0\n"


@pytest.mark.parametrize("how", ["gil", "sleep"])
@awaited
async def test_a_blocked_loop_is_unresponsive_and_never_suspect(how: str) -> None:
    secret = peerage.generate_secret()
    config = {"unresponsive_after": 0.5}
    async with (
        Cluster(cluster="test", node_id="a", secret=secret) as a,
        holder(a, secret, config, how, 3) as (tell, said),
    ):
        events = a.events()
        flags: list[bool] = []
        tell.write(b"hold\n")
        while flags != [True, False]:
            event = await next_event(events)
            # No suspicion, and nobody failed to reach it.
            assert isinstance(event, MemberUpdated | LocalHealthChanged), event
            if isinstance(event, MemberUpdated):
                assert event.member.id == "held"
                assert event.member.state == "alive"
                flags.append(event.member.unresponsive)
        assert float(await said.readline()) >= 3
        explained = await a.explain("held")
        assert explained is not None
        assert all(happened.state == "alive" for happened in explained.history)
        tell.write(b"end\n")
        assert await said.readline() == b"0\n"


def test_a_loop_that_has_ended_is_not_asked_any_more() -> None:
    async def begin() -> Cluster:
        a = await Cluster.start(cluster="test", node_id="a", insecure=True, unresponsive_after=0.1)
        await a.join()  # by then the node goes about its business
        deadline = time.monotonic() + PATIENCE
        while not a.local.unresponsive:
            assert time.monotonic() < deadline
            time.sleep(0.01)  # the loop is blocked
        return a

    a = asyncio.run(begin())
    gc.collect()
    deadline = time.monotonic() + PATIENCE
    while a.local.unresponsive:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.5)
    assert not a.local.unresponsive
    asyncio.run(a.shutdown_now())


@awaited
async def test_a_dropped_cluster_is_collected_and_stops() -> None:
    async with two_nodes(**QUICK) as (a, b):
        c = await Cluster.start(cluster="test", node_id="c", insecure=True, **QUICK)

        def hold(cluster: Cluster) -> None:
            # A cycle through a handler, as handlers have them.
            cluster.handle("who", lambda _: cluster.local.id)

        hold(c)
        events = c.events()
        gone = weakref.ref(c)
        del c
        gc.collect()
        assert gone() is None
        # Without anybody's help the node ends, and its subscription with it.
        assert [event async for event in events] == []
        assert a.stats().alive == b.stats().alive == 2


@awaited
async def test_a_handler_of_a_collected_cluster_is_no_handler() -> None:
    async with two_nodes() as (a, b):
        a.handle("x", lambda _: b"y")
        registration = a._handlers.pop("x")
        del registration
        gc.collect()
        with pytest.raises(peerage.HandlerError, match="the handler is gone"):
            await b.request("a", "x")


def test_a_node_outlives_its_loop_and_its_handlers_do_not() -> None:
    async def begin() -> Cluster:
        a = await Cluster.start(cluster="test", node_id="a", insecure=True)
        a.handle("x", lambda _: b"y")
        assert await a.request("a", "x") == b"y"
        return a

    async def go_on(a: Cluster) -> None:
        gc.collect()
        with pytest.raises(peerage.HandlerError, match="event loop of the handler is closed"):
            await a.request("a", "x")
        with pytest.raises(peerage.ClosedError, match="event loop"):
            a.handle("z", lambda _: None)
        await a.leave()

    a = asyncio.run(begin())
    asyncio.run(go_on(a))


def test_loops_come_and_go_without_leaving_descriptors() -> None:
    descriptors = f"/proc/{os.getpid()}/fd"
    if not os.path.isdir(descriptors):
        pytest.skip("this system does not list descriptors")

    async def one() -> None:
        async with Cluster(cluster="test", node_id="a", insecure=True) as a:
            a.handle("x", lambda _: b"y")
            assert await a.request("a", "x") == b"y"

    asyncio.run(one())
    gc.collect()
    before = len(os.listdir(descriptors))
    for _ in range(10):
        asyncio.run(one())
    gc.collect()

    async def settled() -> None:
        await until("all is closed", lambda: len(os.listdir(descriptors)) <= before + 4)

    asyncio.run(settled())


def test_a_loop_that_watches_no_descriptors_is_served_by_a_thread() -> None:
    class Proactor(asyncio.SelectorEventLoop):
        def add_reader(self, *_: object) -> None:
            raise NotImplementedError

    async def main() -> None:
        async with Cluster(cluster="test", node_id="a", insecure=True) as a:
            a.handle("x", lambda request: request.payload)
            for n in range(200):
                assert await a.request("a", "x", str(n)) == str(n).encode()
            texts = [str(n).encode() for n in range(200)]
            calls = (a.request("a", "x", text) for text in texts)
            assert await asyncio.gather(*calls) == texts

    loop = Proactor()
    loop.run_until_complete(main())
    loop.close()


@awaited
async def test_one_wake_serves_many_notes() -> None:
    bridge, loop = Bridge.running(), asyncio.get_running_loop()
    assert Bridge.running() is bridge
    wakes = 0

    def drain() -> None:
        nonlocal wakes
        wakes += 1
        bridge._drain()

    loop.remove_reader(bridge.port.fileno())
    loop.add_reader(bridge.port.fileno(), drain)
    async with Cluster(cluster="test", node_id="a", insecure=True) as a:
        wakes = 0
        calls = [asyncio.ensure_future(a.set_tags({"n": str(n)})) for n in range(200)]
        await asyncio.sleep(0)
        time.sleep(0.2)  # the loop is busy while they end
        await asyncio.gather(*calls)
        assert wakes < 20


@awaited
async def test_clusters_in_several_threads() -> None:
    def other(addr: str, secret: str, name: str) -> bytes:
        async def main() -> bytes:
            async with Cluster(
                cluster="test", node_id=name, secret=secret, seeds=[addr]
            ) as cluster:
                await cluster.join(PATIENCE)
                await until("it is known", lambda: cluster.get("a") is not None)
                return await cluster.request("a", "who", b"")

        return asyncio.run(main())

    secret = peerage.generate_secret()
    async with Cluster(cluster="test", node_id="a", secret=secret) as a:
        a.handle("who", lambda request: request.from_)
        loop = asyncio.get_running_loop()
        names = ["b", "c", "d"]
        answers = await asyncio.gather(
            *(loop.run_in_executor(None, other, a.addr, secret, name) for name in names)
        )
        assert answers == [name.encode() for name in names]
