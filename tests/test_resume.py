"""A reload in the middle loses nothing: whoever comes back with a position gets exactly what follows it, or all of it again."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice

import pytest

from bench.answer import closing, streamed
from bench.script import Gate, Script, text, token
from tests.parley import PATIENCE, Client, EventStream, Frame, shown, until

CUTS = 1000
READERS = 20
SEEDS = (11, 12, 13, 14)
LONG = "fake?tokens=700&rate=50&seed={}"

# What no server has sent as the position of an event of this answer. Each means: from the start.
STRANGE = [
    "1-0", "7-0", "0-0", "999-1", "1-99999999", "99999999999999999999999999-1", "garbage", "x-0", "1-x", "-", "1-", "-1",
    "1-2-3", "1 - 2", "1.5-2", "١-٢".encode().decode("latin-1"), "1-1'--", "9" * 64, "1-" + "1" * 63, "0" * 500 + "-1",
]  # fmt: skip


def events_in(data: bytes) -> list[bytes]:
    """The complete events of the log among these bytes, as they were sent; what a cut left half is dropped."""
    return [event for event in data.split(b"\n\n")[:-1] if event.startswith(b"id: ")]


def position_of(event: bytes) -> str:
    return event.split(b"\n")[0].removeprefix(b"id: ").decode()


def logged(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.id]


def rest_of(stream: EventStream) -> bytes:
    """The body to its end, which pings do not put off for ever."""
    data, end = b"", time.monotonic() + 2 * PATIENCE
    while piece := stream.response.read1():
        data += piece
        assert time.monotonic() < end, f"the stream does not end: {data[-200:]!r}"
    return data


def body_of(client: Client, answer: str) -> bytes:
    with client.events(answer) as stream:
        return rest_of(stream)


def has_all(client: Client, answer: str, position: str) -> bool:
    """Whether the server says to a reader at this position that there is nothing more, by either way to say where it is."""
    with client.events(answer, position) as by_address, client.events(answer, last_event_id=position) as by_header:
        return {by_address.status, by_header.status} == {204}


class Restless:
    """A reader whose connection is cut again and again, at random bytes and behind random frames."""

    def __init__(self, client: Client, answer: str, seed: int) -> None:
        self.client = client
        self.answer = answer
        self.random = random.Random(seed)
        self.events: list[bytes] = []
        self.passes: list[list[bytes]] = []

    def read(self, cuts: int) -> None:
        """Read with this many cuts, begin again whenever the end is reached, and read on to the end after the last cut."""
        while cuts:
            with self.come_back() as stream:
                cuts -= not self.take(stream, self.random.choice((self.until_byte, self.until_frame))(stream))
        with self.come_back() as stream:
            assert self.take(stream, rest_of(stream))

    def come_back(self) -> EventStream:
        position = position_of(self.events[-1]) if self.events else ""
        if self.random.random() < 0.5:
            return self.client.events(self.answer, after=position)
        return self.client.events(self.answer, last_event_id=position, after="garbage" if position else "")

    def until_byte(self, stream: EventStream) -> bytes:
        return stream.response.read(self.random.randrange(1500))

    def until_frame(self, stream: EventStream) -> bytes:
        frames, data = self.random.randrange(12), b""
        while data.count(b"\n\n") <= frames and (line := stream.response.readline()):
            data += line
        return data

    def take(self, stream: EventStream, data: bytes) -> bool:
        """Keep what came; True if that was the end."""
        self.events += events_in(data)
        ended = data.endswith(b"event: close\ndata: {}\n\n") or stream.status == 204
        if ended:
            self.passes.append(self.events)
            self.events = []
        return ended


def test_a_thousand_cuts_at_random_bytes_and_frames_lose_and_repeat_nothing(parley, alice, offer):
    asked = [alice.ask("long", offer(LONG.format(seed)))["answer"] for seed in SEEDS]
    readers = [Restless(alice, asked[i % len(asked)], seed=i) for i in range(READERS)]
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda reader: reader.read(CUTS // READERS), readers))  # the list brings errors up
    for answer, seed in zip(asked, SEEDS, strict=True):
        frames, whole = alice.read_to_end(answer), events_in(body_of(alice, answer))
        assert shown(frames) == text(seed, 700) == parley.ended(answer)["text"]
        assert [position_of(event) for event in whole] == [f"1-{n}" for n in range(1, len(whole) + 1)]
        passes = [events for reader in readers if reader.answer == answer for events in reader.passes]
        assert len(passes) >= READERS // len(SEEDS)
        assert all(events == whole for events in passes), "a reader that was cut saw other bytes"


def test_every_position_of_an_ended_answer_is_continued_with_exactly_what_follows_it(parley, alice, offer):
    answer = alice.ask(model=offer("fake?tokens=60&rate=150&seed=15"))["answer"]
    frames = logged(alice.read_to_end(answer))
    assert len(frames) > 5
    for i, frame in enumerate(frames[:-1]):
        with alice.events(answer, last_event_id=frame.id) as stream:
            assert logged(stream.read_until("close")) == frames[i + 1 :]


def test_a_reader_that_has_the_final_event_gets_204_and_by_that_knows_that_it_has_all(parley, alice, offer):
    answer = alice.ask(model=offer("fake?tokens=5&seed=16"))["answer"]
    final = logged(alice.read_to_end(answer))[-1]
    assert final.name == "done"
    assert has_all(alice, answer, final.id)
    assert alice.state(answer)["last_id"] == final.id


def test_a_strange_position_in_an_open_answer_means_from_the_start(parley, alice, offer, provider):
    gate = Gate()
    provider.script("held-strange", Script(tokens=12, seed=17, gate=gate, at=6))
    answer = alice.ask(model=offer("held-strange"))["answer"]
    with ExitStack() as open_streams:
        open_streams.callback(gate.open)
        until(lambda: parley.answer(answer)["text"] == text(17, 6), "six tokens are stored")
        places = [place for position in STRANGE for place in ({"last_event_id": position}, {"after": position})]
        streams = [open_streams.enter_context(alice.events(answer, **place)) for place in places]
        first = [next(iter(stream)) for stream in streams]
        gate.open()
        frames = [[frame, *stream.read_until("close")] for frame, stream in zip(first, streams, strict=True)]
    for place, whole in zip(places, frames, strict=True):
        assert whole[0].name == "started", place
        assert [frame.id for frame in logged(whole)] == [f"1-{n}" for n in range(1, len(logged(whole)) + 1)], place
        assert shown(whole) == text(17, 12), place


def test_a_strange_position_in_an_ended_answer_means_from_the_start_too(parley, alice, offer):
    answer = alice.ask(model=offer("fake?tokens=30&rate=300&seed=18"))["answer"]
    whole = logged(alice.read_to_end(answer))
    for position in STRANGE:
        for place in ({"last_event_id": position}, {"after": position}):
            with alice.events(answer, **place) as stream:
                assert logged(stream.read_until("close")) == whole, (position, place)


def test_the_header_of_a_browser_that_comes_back_counts_more_than_the_address_it_began_with(parley, alice, offer):
    answer = alice.ask(model=offer("fake?tokens=30&rate=300&seed=19"))["answer"]
    frames = logged(alice.read_to_end(answer))
    with alice.events(answer, after=frames[1].id, last_event_id=frames[3].id) as stream:
        assert logged(stream.read_until("close")) == frames[4:]


def test_a_position_of_another_answer_that_this_one_has_not_reached_means_from_the_start(parley, alice, offer):
    long = alice.ask(model=offer("fake?tokens=60&rate=200&seed=20"))["answer"]
    short = alice.ask(model=offer("fake?tokens=2&seed=21"))["answer"]
    foreign = logged(alice.read_to_end(long))[-1].id
    alice.read_to_end(short)
    with alice.events(short, last_event_id=foreign) as stream:
        assert shown(stream.read_until("close")) == text(21, 2)


def test_somebody_elses_answer_is_404_at_any_position_and_not_a_byte_of_it_is_sent(parley, alice, bob, offer):
    answer = alice.ask(model=offer("fake?tokens=5&seed=22"))["answer"]
    last = logged(alice.read_to_end(answer))[-1].id
    for position in ("", "1-1", last, "garbage"):
        response = bob.get(f"/answers/{answer}/events", Last_Event_ID=position, Accept="text/event-stream")
        assert response.status == 404
        assert text(22, 1).encode() not in response.body


@pytest.mark.own_stores
def test_an_answer_that_the_log_has_forgotten_is_told_from_its_row(serve, offer):
    parley = serve()
    alice = parley.client("alice")
    good = alice.ask(model=offer("fake?tokens=40&rate=400&seed=23", parley))["answer"]
    cut = alice.ask(model=offer("fake?tokens=5&fault=cut&at=3", parley))["answer"]
    before = {answer: alice.read_to_end(answer) for answer in (good, cut)}
    assert parley.end() == 0
    parley.start()
    for answer, frames in before.items():
        final = logged(frames)[-1]
        for position in ("", "1-1", logged(frames)[-2].id, "1-99999", *STRANGE):
            with alice.events(answer, last_event_id=position) as stream:
                again = stream.read_until("close")
            assert [frame.name for frame in again] == ["started", "token", "usage", final.name, "close"], position
            assert shown(again) == shown(frames) == parley.answer(answer)["text"]
            assert logged(again)[-1] == final
            assert [f.data for f in again if f.name == "usage"] == [f.data for f in frames if f.name == "usage"]
        assert has_all(alice, answer, final.id)


def test_an_answer_that_has_outgrown_the_memory_of_the_log_is_joined_from_row_and_log(parley, alice, offer, provider):
    gate = Gate()

    def alternating(job):
        """Neighbours of two kinds are never joined, so that every delta is an event of its own."""
        turns = [job.says(token(24, i), field) for i in range(3000) for field in ("reasoning_content", "content")]
        return streamed(job, chain(turns[:5000], [gate], turns[5000:], closing(job)))

    provider.script("outgrown", alternating)
    answer = alice.ask(model=offer("outgrown"))["answer"]
    until(lambda: parley.answer(answer)["text"] == text(24, 2500), "5,000 events are stored")
    frames = []
    with ExitStack() as open_streams:
        late = [open_streams.enter_context(alice.events(answer, after)) for after in ("", "1-3", "1-4990")]
        before = [list(islice(stream, n)) for stream, n in zip(late, (3, 3, 11), strict=True)]
        gate.open()
        frames = [[*first, *stream.read_until("close")] for first, stream in zip(before, late, strict=True)]
    for whole in frames[:2]:
        assert [frame.name for frame in whole[:3]] == ["started", "reasoning", "token"]
        assert [frame.id for frame in whole[:3]] == ["1-0", "", "1-5001"], "told from the row"
        assert whole[3].id == "1-5002", "went on from the log"
        assert shown(whole) == parley.answer(answer)["text"] == text(24, 3000)
        assert "".join(f.data["text"] for f in whole if f.name == "reasoning") == text(24, 3000)
    assert [frame.id for frame in logged(frames[2])] == [f"1-{n}" for n in range(4991, 6004)], "told from the log alone"
