"""Measures events per second from the core into Python, by the path of `async for`.

Prints one JSON object: `python_eps`, the median of several runs in which each event is read as a
subscriber would (its place in the order, and the id of the member it is about).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time

from peerage import Events
from peerage._native import echo_events


async def drain(count: int) -> float:
    """Events per second of one run."""
    events = Events(echo_events(count))
    seen = last = letters = 0
    began = time.perf_counter()
    async for event in events:
        seen += 1
        last = event.seq
        member = getattr(event, "member", None)
        if member is not None:
            letters += len(member.id)
    took = time.perf_counter() - began
    if seen != count or last != count or letters == 0:
        raise SystemExit(f"of {count} events {seen} came, the last with number {last}")
    return count / took


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measure events from the core into Python.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    rates = [asyncio.run(drain(options.events)) for _ in range(options.runs)]
    print(json.dumps({"python_eps": round(statistics.median(rates))}))


if __name__ == "__main__":
    main()
