"""An agent in Python: one node, ordered and asked as `src/report.rs` says.

When it is told to block, it holds the GIL.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
import time
from typing import Any

from peerage import Cluster, PeerageError


async def main() -> None:
    """Obeys until standard input ends. The node ends with the process, without a goodbye."""
    cluster: Cluster | None = None
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        if order["type"] == "start":
            cluster = await start(order)
        elif cluster is None:
            sys.exit(f"there is no node yet to {order['type']}")
        elif order["type"] == "view":
            view(cluster)
        elif order["type"] == "block":
            block(cluster, order["ms"])
        else:
            sys.exit(f"no order: {line!r}")
    os._exit(0)


async def start(order: dict[str, Any]) -> Cluster | None:
    """Starts the node."""
    node = order["id"]
    try:
        cluster = await Cluster.start(
            cluster="faults",
            node_id=node,
            listen=order["listen"],
            seeds=order["seeds"],
            secret=os.environ["PEERAGE_SECRET"],
        )
    except PeerageError as error:
        say("not_started", node=node, error=str(error))
        return None
    say("started", node=node, addr=cluster.addr)
    return cluster


def view(cluster: Cluster) -> None:
    """Says what the node sees now."""
    members = cluster.members()
    say(
        "view",
        node=cluster.local.id,
        alive=sum(member.state == "alive" for member in members),
        others=[(member.id, member.state) for member in members if member.state != "alive"],
        unresponsive=[member.id for member in members if member.unresponsive],
    )


def block(cluster: Cluster, ms: int) -> None:
    """Holds the GIL: PyDLL, unlike CDLL, does not release it, so no thread of Python's runs."""
    began = time.monotonic()
    ctypes.PyDLL(None).usleep(ctypes.c_uint(ms * 1000))
    blocked_ms = round((time.monotonic() - began) * 1000)
    say("blocked", node=cluster.local.id, blocked_ms=blocked_ms)


def say(kind: str, /, **rest: object) -> None:
    """Writes one report."""
    print(json.dumps({"type": kind, **rest}), flush=True)


asyncio.run(main())
