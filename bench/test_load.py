"""The load client must see what is wrong, or its figures say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from bench.fake_provider import FakeProvider
from bench.http_client import Unchunked
from bench.load import load, measure, percentile, run
from bench.report import Figure, table
from bench.targets import Direct, Stream, ThroughParley, events


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def test_a_healthy_load_has_all_its_figures(provider: FakeProvider) -> None:
    seen = run(Direct(provider.url, "fake?tokens=20&rate=100&ttft=0.1"), provider.url, 10, 0.1)
    assert (seen.problems, len(seen.ttft), len(seen.late)) == ({}, 10, 200)
    assert 100 <= percentile(seen.ttft, 0.5) < 200
    assert min(seen.late) > -1  # timers of asyncio may come as early as the clock's resolution
    assert min(seen.before) > 0
    assert min(seen.after) > 0


@pytest.mark.parametrize(
    ("fault", "problem"),
    [("cut", "ended without an ending"), ("status-500", "status 500"), ("finish-length", "ended length"),
     ("choice-second", "wrong text"), ("silent-headers", "status 0"), ("json-malformed", "unreadable")],
)  # fmt: skip
def test_what_goes_wrong_is_counted_and_not_measured(provider: FakeProvider, fault: str, problem: str) -> None:
    async def go() -> list[Stream]:
        loading = asyncio.create_task(load(Direct(provider.url, f"fake?fault={fault}"), 2, 0))
        await asyncio.sleep(0.5)
        if not loading.done():
            provider.stop()  # what hangs is cut
        return await loading

    target = Direct(provider.url, f"fake?fault={fault}")
    seen = measure(target, asyncio.run(go()), [vars(call) for call in provider.calls])
    ((said, count),) = seen.problems.items()
    assert said.startswith(problem)
    assert (count, seen.ttft, seen.late) == (2, [], [])


def test_a_stream_that_starts_again_counts_from_its_last_start() -> None:
    wire = (
        b'retry: 1000\n\nevent: started\nid: 1-1\ndata: {"answer":"a","attempt":1,"model":"m"}\n\n'
        b'event: token\nid: 1-2\ndata: {"text":"lost ","n":1}\n\nevent: ping\ndata: {}\n\n'
        b'event: started\nid: 2-1\ndata: {"answer":"a","attempt":2,"model":"m"}\n\n'
        b'event: token\nid: 2-2\ndata: {"text":"kept ","n":3}\n\nevent: done\nid: 2-3\ndata: {"reason":"stop"}\n\n'
    )
    pieces = [(float(i), wire[i : i + 1]) for i in range(len(wire))]  # every byte on its own

    class Wire:
        def timed_body(self) -> list[tuple[float, bytes]]:
            return pieces

    seen = Stream("prompt")
    response: Any = Wire()
    ThroughParley("", "fake", []).read(seen, response)
    assert (seen.text, len(seen.tokens), seen.ending) == ("kept ", 3, "stop")
    assert [name for _, name, _ in events(pieces)] == ["started", "token", "ping", "started", "token", "done"]


def test_chunks_are_taken_apart_wherever_they_are_split() -> None:
    wire = b"5\r\nhello\r\n1\r\n\n\r\n00a;x=y\r\n0123456789\r\n0\r\n\r\n"
    for size in range(1, len(wire) + 1):
        frames = Unchunked()
        assert b"".join(frames.feed(wire[i : i + size]) for i in range(0, len(wire), size)) == b"hello\n0123456789"


def test_percentiles_are_values_that_were_seen() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [percentile(values, share) for share in (0.0, 0.2, 0.5, 0.95, 1.0)] == [1, 1, 3, 5, 5]


def test_the_table_shows_spread_and_verdict() -> None:
    shown = table([Figure("first", "ms", 15, values=[10, 30, 12]), Figure("second", "ms", 1, values=[2.0])], 3)
    assert "12.0 ms" in shown
    assert "10.0 … 30.0" in shown
    assert "≤ 15 ms  met" in shown
    assert "missed" in shown
