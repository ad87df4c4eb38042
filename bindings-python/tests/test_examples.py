"""The example programs run, and say what the others of their kind say."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import peerage
import pytest
from peerage import Cluster
from support import PATIENCE, ROOT, awaited, refused, until

EXAMPLES = ROOT / "examples/python"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "bindings-python/python")}


def test_the_quickstart_does_what_it_says() -> None:
    ended = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "bob heard: hello bob, this is alice",
        'alice saw: MemberJoined bob {"role": "guest"}',
        'alice saw: MemberLeft bob {"role": "guest"}',
    ]


@pytest.mark.parametrize("how", ["leave", "end of input", "nobody reads"])
@awaited
async def test_the_worker_works_and_leaves(how: str) -> None:
    secret = peerage.generate_secret()
    async with Cluster(cluster="demo", node_id="director", secret=secret) as director:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, EXAMPLES / "worker.py", "--id", "w1", "--seed", director.addr),
            *("--tag", "role=worker", "--tag", "note=a=b"),
            env={**ENVIRONMENT, "PEERAGE_SECRET": secret},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, into = worker.stdout, worker.stdin
        assert out is not None
        assert into is not None

        async def line(kind: str, /, **fits: Any) -> dict[str, Any]:
            while True:
                said: dict[str, Any] = json.loads(await asyncio.wait_for(out.readline(), PATIENCE))
                if said["type"] == kind and all(said[k] == v for k, v in fits.items()):
                    return said

        try:
            ready = json.loads(await asyncio.wait_for(out.readline(), PATIENCE))
            await until("it is there", lambda: len(director.members_with({"role": "worker"})) == 1)
            member = director.get("w1")
            assert member is not None
            assert member.tags == {"role": "worker", "note": "a=b"}
            assert ready == {"type": "ready", "id": "w1", "addr": member.addr}

            await director.set_tags({"x": "y"})
            event = await line("event", kind="MemberUpdated")
            assert list(event) == ["type", "kind", "member", "at_ms"]
            assert event["member"] == "director"
            view = await line("view")
            assert [m["id"] for m in view["members"]] == ["director", "w1"]
            us = view["members"][1]
            assert us.pop("rtt_us") is None
            assert us == {
                "id": "w1",
                "instance": f"{member.instance:016x}",
                "incarnation": member.incarnation,
                "state": "alive",
                "unresponsive": False,
                "tags": member.tags,
            }

            answer = await director.request("w1", "work", b"a")
            assert answer == 0xAF63DC4C8601EC8C.to_bytes(8, "big")
            error = await refused(director.request("w1", "work", b""))
            assert error.details["message"] == "there is nothing to do"

            if how == "leave":
                into.write(b"anything\nleave\n")
            elif how == "end of input":
                into.close()
            else:
                transport: Any = worker._transport  # type: ignore[attr-defined]
                transport.get_pipe_transport(1).close()
                await asyncio.sleep(0.5)  # it goes on, though nobody reads
                assert worker.returncode is None
                into.write(b"leave\n")
            reading = out.read() if how != "nobody reads" else asyncio.sleep(0)
            await asyncio.wait_for(asyncio.gather(reading, worker.wait()), PATIENCE)
            assert worker.stderr is not None
            words = (await worker.stderr.read()).decode()
            assert worker.returncode == 0, words
            assert "w1: LeaveReport(" in words
            assert "Exception ignored" not in words
            assert "BrokenPipe" not in words
            left = director.get("w1")
            assert left is not None
            assert left.state == "left"
        finally:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()


def test_the_worker_wants_a_secret() -> None:
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "PEERAGE_SECRET"}
    ended = subprocess.run(
        [sys.executable, EXAMPLES / "worker.py", "--id", "w1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1
    assert "PEERAGE_SECRET" in ended.stderr
