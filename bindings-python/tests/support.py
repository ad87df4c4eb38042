"""What the tests share: nodes, waiting for conditions, programs of their own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from peerage import Cluster, Event, Events, PeerageError, Request, generate_secret

T = TypeVar("T")
P = TypeVar("P", bound=Callable[..., Any])

#: No test waits longer for a condition.
PATIENCE = 30.0

ROOT = Path(__file__).resolve().parents[2]

#: Faults are noticed within a few seconds instead of ten.
QUICK: dict[str, Any] = {
    "probe_interval": 0.2,
    "probe_timeout": 0.1,
    "indirect_timeout": 0.2,
    "suspicion_min": 1.0,
    "suspicion_max_factor": 1,
    "gossip_interval": 0.05,
}


def awaited(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs an asynchronous test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def timed() -> None:
            await asyncio.wait_for(test(*args, **kwargs), 4 * PATIENCE)

        asyncio.run(timed())

    return run


async def until(what: str, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Waits until a condition holds; the failure says what it waited for."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"waited {patience} s in vain until {what}"
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def two_nodes(**config: Any) -> AsyncIterator[tuple[Cluster, Cluster]]:
    """Nodes `a` and `b`, which see each other."""
    secret = generate_secret()
    common: dict[str, Any] = {"cluster": "test", "secret": secret, **config}
    async with (
        Cluster(node_id="a", **common) as a,
        Cluster(node_id="b", seeds=[a.addr], **common) as b,
    ):
        await b.join(PATIENCE)
        await until("both are alive", lambda: a.stats().alive == b.stats().alive == 2)
        yield a, b


async def never(_: Request) -> None:
    """A handler that does not answer."""
    await asyncio.Event().wait()


async def nothing_under_way(*nodes: Cluster) -> None:
    """Waits until no request is under way in or out of any of the nodes."""

    def idle() -> bool:
        return all(n.stats().requests_in == n.stats().requests_out == 0 for n in nodes)

    await until("no request is under way", idle)


async def next_event(events: Events) -> Event:
    return await asyncio.wait_for(anext(events), PATIENCE)


async def refused(call: Awaitable[Any]) -> PeerageError:
    """The error that a call ends with."""
    try:
        result = await call
    except PeerageError as error:
        return error
    raise AssertionError(f"it gave {result!r} instead of an error")


def python(source: str, *args: str, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Runs a program in an interpreter of its own; it must end by itself."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bindings-python/python")}
    # A crash in the interpreter's end says where.
    options = ["-X", "faulthandler"]
    return subprocess.run(
        [sys.executable, *options, "-c", source, *args],
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
