"""Values both ways: the echo mode, the limits of types, and every configuration field."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import peerage
import pytest
from described import EVENTS, FIELDS, RECORDS, Field
from peerage import Cluster, Event, Events, Member, Observation, _native
from support import ROOT, awaited, refused

SAMPLES = json.loads((ROOT / "tests/conformance/echo.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**53 + 1,
        2**63,
        2**64 - 1,
        -(2**63),
        0.0,
        1.5,
        -0.1,
        math.inf,
        5e-324,
        "",
        "größe 雪 🦀 zero\0width",
        b"",
        bytes(range(256)),
        [],
        {},
        [1, [2.5, ["x", b"y", None, True]]],
        {"": {"größe": [1, 2]}, "x": None},
        timedelta(0),
        timedelta(days=9999, microseconds=1),
    ],
    ids=repr,
)
def test_values_come_back_as_they_went(value: object) -> None:
    back = _native.echo_value(value)
    assert back == value
    assert type(back) is type(value)


def test_values_that_others_are_nearest_to() -> None:
    assert _native.echo_value((1, 2)) == [1, 2]
    assert _native.echo_value(bytearray(b"x")) == b"x"
    assert _native.echo_value(memoryview(b"abc")[::-1]) == b"cba"
    assert _native.echo_value(Path("some/file")) == str(Path("some/file"))
    assert _native.echo_value(timedelta(seconds=-1.5)) == -1.5
    assert math.isnan(_native.echo_value(math.nan))


def test_values_of_no_use_are_described_and_never_crash() -> None:
    knot: list[Any] = []
    knot.append(knot)
    for value, words in {
        "function": (len, "a function of type builtin_function_or_method"),
        "object": (object(), "a value of type object"),
        "number": (2**200, "a number of more than 128 bits"),
        "surrogate": ("\ud800", "text with half a surrogate pair"),
        "keys": ({1: 2}, "a dict with a key that is no text"),
    }.values():
        assert _native.echo_value(value) == words
    deep = _native.echo_value(knot)
    for _ in range(9):
        deep = deep[0]
    assert deep == "a value that is nested too deep"


def test_a_panic_is_an_exception() -> None:
    with pytest.raises(peerage.PanicError, match="the call panicked: größe"):
        _native.echo_panic("größe")


def as_json(value: object) -> object:
    if isinstance(value, Member):
        shown = {name: as_json(getattr(value, name)) for name in RECORDS["Member"]}
        rtt = value.rtt
        shown["rtt_us"] = None if rtt is None else round(rtt * 1e6)
        del shown["rtt"]
        for name in ("incarnation", "instance"):
            shown[name] = str(shown[name])
        return shown
    if isinstance(value, Observation):
        return {name: as_json(getattr(value, name)) for name in RECORDS["Observation"]}
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return value


def event_as_json(event: Event) -> dict[str, object]:
    names = EVENTS[event.kind]
    shown = {name: as_json(getattr(event, name)) for name in names}
    if event.kind == "EventsDropped":
        shown["count"] = str(shown["count"])
    return {"kind": event.kind, **shown}


@awaited
async def test_events_of_every_kind_come_whole() -> None:
    events = [event async for event in Events(_native.echo_events(len(SAMPLES)))]
    assert [event_as_json(event) for event in events] == SAMPLES
    assert [event.seq for event in events] == list(range(1, len(SAMPLES) + 1))
    assert [event.kind for event in events] == list(EVENTS)
    again = [event async for event in Events(_native.echo_events(len(SAMPLES)))]
    assert again == events
    for event in events:
        assert event.__match_args__ == tuple(EVENTS[event.kind])
        assert repr(event).startswith(f"{event.kind}(seq={event.seq}, ")
        assert isinstance(event, Event)
        assert type(event).__doc__
        with pytest.raises(AttributeError):
            event.seq = 5  # type: ignore[misc]
        with pytest.raises(TypeError):
            hash(event)


# One value that is wrong by its type, for each kind of field.
WRONG_TYPES: dict[str, Any] = {
    "text": 5,
    "address": 7000,
    "addresses": "127.0.0.1:7000",
    "tags": ["a"],
    "secret": b"0123456789abcdef",
    "secrets": "0123456789abcdef",
    "path": 5,
    "flag": "yes",
    "duration": "1s",
    "count": 7.5,
    "bytes": -1,
}

# And values that are wrong otherwise, where there are no bounds.
WRONG_VALUES: dict[str, Any] = {
    "cluster": "",
    "node_id": "line\nbreak",
    "listen": "nowhere",
    "advertise": "0.0.0.0:0",
    "seeds": ["127.0.0.1:0"],
    "tags": {"": "x"},
    "secret": "short",
    "secrets": ["0123456789abcdef", "short"],
}


async def wrong_fields(**changed: Any) -> list[str]:
    config: dict[str, Any] = {"cluster": "test", "node_id": "x", "insecure": True, **changed}
    error = await refused(Cluster.start(**config))
    assert isinstance(error, peerage.ConfigError)
    assert isinstance(error, ValueError)
    assert error.code == "Config"
    assert all(field.expected for field in error.fields)
    return [field.field for field in error.fields]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
@awaited
async def test_every_field_is_refused_by_its_name(field: Field) -> None:
    wrong: list[Any] = [WRONG_TYPES[field.kind], len, object()]
    if field.minimum is not None and field.maximum is not None:
        if field.kind == "duration":
            wrong += [field.minimum - 0.001, field.maximum + 0.001, math.nan, -1, 2**70]
            wrong += [timedelta(seconds=field.maximum + 1), timedelta(seconds=-1)]
        else:
            wrong += [
                field.minimum - 1,
                field.maximum + 1,
                2**32 if field.kind == "count" else 2**64,
            ]
    elif field.name in WRONG_VALUES:
        wrong.append(WRONG_VALUES[field.name])
    # Two ways to authenticate would be one mistake more.
    others: dict[str, Any] = {"insecure": None} if field.kind in ("secret", "secrets") else {}
    for value in wrong:
        assert field.name in await wrong_fields(**{**others, field.name: value}), value


@awaited
async def test_all_wrong_fields_are_named_at_once() -> None:
    wrong = await wrong_fields(node_id="", links_max=0, drain_timeout=70.0, no_such_field=1)
    assert sorted(wrong) == ["drain_timeout", "links_max", "no_such_field", "node_id"]
    error = await refused(Cluster.start(node_id="x", insecure=True))  # type: ignore[call-arg]
    assert [field.field for field in error.fields] == ["cluster"]
    error = await refused(
        Cluster.start(cluster="x", node_id="x", insecure=True, probe_intervall=1.0)  # type: ignore[call-arg]
    )
    assert error.fields[0].expected == "is no configuration field; did you mean probe_interval?"


@awaited
async def test_a_secret_is_never_repeated() -> None:
    for secret in ("tooshort", b"tooshort"):
        error = await refused(Cluster.start(cluster="x", node_id="x", secret=secret))  # type: ignore[arg-type]
        assert "tooshort" not in str(error) + repr(error.details)


@awaited
async def test_every_field_takes_its_limits() -> None:
    for at in ("minimum", "maximum"):
        config: dict[str, Any] = {"cluster": "c" * 128, "node_id": "🦀" * 32, "insecure": True}
        for field in FIELDS:
            limit = getattr(field, at)
            if limit is not None:
                config[field.name] = limit
        # These two hang together.
        config["probe_interval"], config["probe_timeout"] = 60, timedelta(milliseconds=50)
        # There is room for the watch edges.
        config["links_max"] = max(config["links_max"], 2 * config["watch_rings"] + 8)
        config["tags"] = {str(n): "x" * 8 for n in range(64)}
        config["advertise"] = None
        cluster = await Cluster.start(**config)
        assert cluster.local.tags == config["tags"]
        await cluster.shutdown_now()


@awaited
async def test_certificates_are_given_by_their_paths() -> None:
    nowhere = Path("no/such/file.pem")
    error = await refused(
        Cluster.start(cluster="x", node_id="x", ca=nowhere, cert=nowhere, key=str(nowhere))
    )
    assert error.code == "Config"
    assert "file.pem" in str(error)
