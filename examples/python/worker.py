"""A worker: joins the cluster and answers requests until it is told to leave.

It announces what it can do as tags, and is told by the line `leave`, or the end, on standard
input. Told `ask <id>`, it asks that member for work itself, by a request and over a stream. People
read standard error; programs read standard output, one JSON object a line. The same program as
`examples/src/bin/worker.rs`.

    PEERAGE_SECRET=… python worker.py --id w1 --seed 127.0.0.1:7000 --tag role=worker
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
import time

from peerage import Cluster, Events, Member, PeerageError, Request, Stream

#: The variable that holds the cluster secret. Never an argument: every user of a machine can read
#: the arguments of every process.
SECRET_VARIABLE = "PEERAGE_SECRET"

#: How long it tries to join before it gives up, in seconds.
JOIN_DEADLINE = 30.0

#: Views are repeated this often even when nothing changed, since round trips drift.
VIEW_INTERVAL = 0.2

#: The topic that workers handle.
TOPIC = "work"


async def main() -> None:
    """Runs one worker."""
    arguments = parse_arguments()
    secret = os.environ.get(SECRET_VARIABLE)
    if secret is None:
        sys.exit(f"set {SECRET_VARIABLE} to the secret that all nodes of the cluster share")
    cluster = await Cluster.start(
        cluster=arguments.cluster,
        node_id=arguments.id,
        listen=arguments.listen,
        seeds=arguments.seed,
        tags=dict(arguments.tag),
        secret=secret,
    )
    # Before joining: whoever sees us in the cluster may ask at once.
    cluster.handle(TOPIC, work)
    cluster.handle_streams(TOPIC, work_on)

    say("ready", id=arguments.id, addr=cluster.addr)
    views = asyncio.ensure_future(report_views(cluster, cluster.events()))
    if arguments.seed:
        await cluster.join(JOIN_DEADLINE)

    leave = told_to_leave(cluster)
    await asyncio.wait({leave, views}, return_when=asyncio.FIRST_COMPLETED)
    if views.done():
        # A node that was stopped from within (another one took our name, say) must not idle on.
        views.result()
        sys.exit(f"the cluster has ended: {cluster.closed}")
    left = await cluster.leave()
    await views
    print(f"{arguments.id}: {left}", file=sys.stderr)


async def ask(cluster: Cluster, target: str) -> None:
    """Asks another worker, as the director does, and reports how it went."""
    payload = f"from {cluster.local.id}".encode()
    error = None
    try:
        answers = [await cluster.request(target, TOPIC, payload)]
        answers.append(await ask_over_stream(cluster, target, payload))
        if answers != [checksum(payload)] * 2:
            error = "a wrong answer"
    except PeerageError as refused:
        error = refused.code
    say("asked", target=target, ok=error is None, error=error)


async def ask_over_stream(cluster: Cluster, target: str, payload: bytes) -> bytes:
    """The payload in two pieces, and the answer once they have ended."""
    half = len(payload) // 2
    async with cluster.open_stream(target, TOPIC) as stream:
        for piece in (payload[:half], payload[half:]):
            await stream.write(piece, JOIN_DEADLINE)
        await stream.finish(JOIN_DEADLINE)
        return b"".join([piece async for piece in stream])


def work(request: Request) -> bytes:
    """What a worker does for others."""
    if not request.payload:
        raise ValueError("there is nothing to do")
    return checksum(request.payload)


async def work_on(stream: Stream) -> None:
    """The same over a stream."""
    payload = b"".join([piece async for piece in stream])
    await stream.write(checksum(payload))
    await stream.finish()


def checksum(payload: bytes) -> bytes:
    """FNV-1a over the payload, which whoever asks checks."""
    checksum = 0xCBF29CE484222325
    for byte in payload:
        checksum = ((checksum ^ byte) * 0x100000001B3) & 0xFFFF_FFFF_FFFF_FFFF
    return checksum.to_bytes(8, "big")


async def report_views(cluster: Cluster, events: Events) -> None:
    """Reports every event, and the members whenever one happened or a while has passed."""
    began = time.monotonic()

    async def report_events() -> None:
        async for event in events:
            # The view first: whoever acts on the event then knows at least what it changed.
            view(cluster)
            member = getattr(event, "member", None)
            at_ms = int((time.monotonic() - began) * 1000)
            say("event", kind=event.kind, member=member and member.id, at_ms=at_ms)

    ended = asyncio.ensure_future(report_events())
    while not ended.done():
        view(cluster)
        await asyncio.wait({ended}, timeout=VIEW_INTERVAL)
    ended.result()


def view(cluster: Cluster) -> None:
    """Reports the members as this process sees them."""
    say("view", members=[row(member) for member in cluster.members()])


def row(member: Member) -> dict[str, object]:
    """One member."""
    return {
        "id": member.id,
        # As text: a JSON number does not hold 64 bits everywhere.
        "instance": f"{member.instance:016x}",
        "incarnation": member.incarnation,
        "state": member.state,
        "rtt_us": None if member.rtt is None else round(member.rtt * 1e6),
        "unresponsive": member.unresponsive,
        "tags": member.tags,
    }


def say(kind: str, /, **rest: object) -> None:
    """Writes one report.

    Whoever read them may be gone. That is no reason to fail: standard input has ended as well
    then, and we leave in good order.
    """
    try:
        sys.stdout.write(json.dumps({"type": kind, **rest}) + "\n")
        sys.stdout.flush()
    except OSError:
        # Nor shall the interpreter complain about it at its end.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def told_to_leave(cluster: Cluster) -> asyncio.Future[None]:
    """Follows orders until standard input says `leave`, or ends: whoever started us is gone then.

    The other order is `ask <id>`.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()
    asking: set[asyncio.Task[None]] = set()

    def start(target: str) -> None:
        task = asyncio.ensure_future(ask(cluster, target))
        asking.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(asking.discard)

    def listen() -> None:
        # Not by `sys.stdin`: its lock would be held when the interpreter ends before the line.
        with open(0, "rb", buffering=0, closefd=False) as lines:
            while (line := lines.readline()) and line.strip() != b"leave":
                order, _, target = line.decode(errors="replace").strip().partition(" ")
                if order == "ask":
                    loop.call_soon_threadsafe(start, target)
        loop.call_soon_threadsafe(told.set_result, None)

    threading.Thread(target=listen, daemon=True).start()
    return told


def parse_arguments() -> argparse.Namespace:
    """The arguments that every node of the example takes."""
    parser = argparse.ArgumentParser(description="A worker of the Peerage example cluster.")
    parser.add_argument("--id", required=True, help="this node's stable name")
    parser.add_argument("--cluster", default="demo", help="the name of the cluster")
    parser.add_argument("--seed", action="append", default=[], help="where to join; repeatable")
    parser.add_argument("--listen", default="127.0.0.1:0", help="the UDP address to listen on")
    parser.add_argument(
        "--tag", action="append", default=[], type=tag, help="key=value; repeatable"
    )
    return parser.parse_args()


def tag(text: str) -> tuple[str, str]:
    """A tag as `key=value`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError("expected key=value")
    return key, value


if __name__ == "__main__":
    asyncio.run(main())
