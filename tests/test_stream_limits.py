"""So many streams and sockets are open at once, and no more: for one user, and for the whole process."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from bench.script import Gate, Script
from chat import readers
from chat.readers import Credential, Crowded, Reader
from tests.parley import Client, EventStream, Parley, close_code, hear, say, until
from tests.refusals import assert_partial, assert_refused, nothing_changes

MINE, ALL = 3, 5  # streams of one user, and of everybody


@pytest.fixture(scope="module")
def site(serve_all) -> Parley:
    return serve_all(CHAT_MAX_USER_STREAMS=str(MINE), CHAT_MAX_STREAMS=str(ALL))


@pytest.fixture
def held(site, offer, provider) -> Iterator[Callable[..., str]]:
    """Ask for an answer that says two tokens and waits until the test has ended: held(client) returns its id."""
    with ExitStack() as gates:

        def ask(client: Client) -> str:
            gate, name = Gate(), f"fake-held-{uuid4()}"
            gates.callback(gate.open)
            provider.script(name, Script(tokens=4, at=2, gate=gate))
            return client.ask("Hold on", offer(name, site))["answer"]

        yield ask


@pytest.fixture
def opened(site) -> Iterator[Callable[..., EventStream]]:
    """Open streams, which are closed at the end; then there is room for the next test."""
    with ExitStack() as streams:

        def follow(client: Client, answer: str) -> EventStream:
            stream = streams.enter_context(client.events(answer))
            assert stream.status == 200
            stream.read_until("started")
            return stream

        yield follow
    until(lambda: viewers(site) == 0, "the streams of this test are gone")


def viewers(site: Parley) -> int:
    """How many streams are open, as the board says."""
    with site.client("staff").socket("/ws/dashboard/") as board:
        return sum(answer["viewers"] for answer in hear(board, "snapshot")["answers"])


def refused(client: Client, answer: str, status: int, code: str) -> None:
    response = client.get(f"/answers/{answer}/events", Accept="text/event-stream")
    assert_refused(response, status, code)
    assert int(response.headers["retry-after"]) > 0


def goes(client: Client, answer: str) -> bool:
    """Whether one more stream is let in. It is closed again."""
    with client.events(answer) as stream:
        return stream.status == 200


def test_one_stream_more_than_a_user_may_have_is_refused_until_another_one_is_closed(site, held, opened):
    alice, bob = site.client("alice"), site.client("bob")
    hers, his = held(alice), held(bob)
    streams = [opened(alice, hers) for _ in range(MINE)]
    for _ in range(3):
        refused(alice, hers, 429, "too_many_streams")
    refused(site.client("alice", token=True), hers, 429, "too_many_streams")
    opened(bob, his)
    streams[0].close()
    until(lambda: goes(alice, hers), "there is room again")
    streams[1].read_until("ping", "status")


def test_one_stream_more_than_the_process_has_room_for_is_refused_until_another_one_is_closed(site, held, opened):
    alice, bob, boss = (site.client(name) for name in ("alice", "bob", "boss"))
    hers, his, bosses = held(alice), held(bob), held(boss)
    streams = [opened(alice, hers) for _ in range(MINE)] + [opened(bob, his) for _ in range(ALL - MINE)]
    refused(boss, bosses, 503, "full")
    streams[-1].close()
    until(lambda: goes(boss, bosses), "there is room again")


def ways(client: Client, site: Parley) -> list[tuple[str, dict[str, str]]]:
    """Every address at which one request asks and follows."""
    asked = client.ask("Before", "fake?tokens=3&fault=cut&at=1")
    site.ended(asked["answer"])
    return [
        ("/conversations", {"text": "One more"}),
        (f"/conversations/{asked['conversation']}/messages", {"text": "One more"}),
        (f"/messages/{asked['question']}/edit", {"text": "One more"}),
        (f"/answers/{asked['answer']}/regenerate", {}),
        (f"/answers/{asked['answer']}/continue", {}),
    ]


def test_asking_and_following_in_one_step_is_refused_before_anything_is_stored(site, held, opened, provider, offer):
    offer("fake?tokens=3&fault=cut&at=1", site)
    model = offer("fake?tokens=3", site)
    alice, bob = site.client("alice"), site.client("bob")
    paths = ways(alice, site)
    hers, his = held(alice), held(bob)
    for code, status, fill in [
        ("too_many_streams", 429, [(alice, hers)] * MINE),
        ("full", 503, [(bob, his)] * (ALL - MINE)),
    ]:
        for client, answer in fill:
            opened(client, answer)
        asker = alice if status == 429 else site.client("boss")
        with nothing_changes(site, provider, "alice", model), nothing_changes(site, provider, "boss", model):
            for path, body in paths if asker is alice else paths[:1]:
                form = body | {"model": model}
                response = asker.post(path, form, Accept="text/event-stream", Idempotency_Key="later")
                assert_refused(response, status, code)
                assert int(response.headers["retry-after"]) > 0
    taken = alice.post(paths[0][0], paths[0][1] | {"model": model}, Accept="application/json")
    assert taken.status == 201, "who only asks needs no room"
    site.ended(taken.json()["answer"])


def test_a_question_that_is_refused_and_an_answer_that_is_not_there_take_no_room(site, held):
    alice = site.client("alice")
    answer = held(alice)
    for _ in range(2 * ALL):
        assert alice.post("/conversations", {"text": ""}, Accept="text/event-stream").status == 422
        assert alice.get(f"/answers/{uuid4()}/events", Accept="text/event-stream").status == 404
    assert goes(alice, answer)


def test_streams_that_end_and_readers_that_vanish_at_any_moment_leave_their_room(site, held, offer):
    alice = site.client("alice")
    short = offer("fake?tokens=3", site)
    for _ in range(2 * ALL):
        ended = until(lambda: whole(alice, short), "a stream from its question to its end")
        assert ended[-1].name == "close"
    answer = held(alice)
    for patience in range(4 * ALL):
        vanish(alice, answer, 64 * (patience % 4))
    until(lambda: goes(alice, answer), "those who vanished are not counted")


def whole(client: Client, model: str) -> Any:
    with client.stream("Quickly", model) as stream:
        return stream.status == 200 and stream.read_until("close")


def vanish(client: Client, answer: str, size: int) -> None:
    """Ask for a stream, read at most so many bytes, and hang up."""
    host, port = client.base.split(":")
    lines = [f"GET /answers/{answer}/events HTTP/1.1", f"Host: {client.base}"]
    lines += [f"{name}: {value}" for name, value in client.headers().items()]
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        if size:
            raw.recv(size)


def test_a_reader_that_was_admitted_and_is_never_heard_of_again_does_not_count_for_ever(settings):
    settings.CHAT_MAX_USER_STREAMS = settings.CHAT_MAX_STREAMS = 1
    somebody, kind = Credential(7, "hash"), f"test-{uuid4()}"
    readers.admit(Reader(somebody, page=kind, opened_at=monotonic() - readers.ENTRY_SECONDS - 1))
    readers.admit(Reader(somebody, page=kind))
    for asker, of_user in ((somebody, True), (Credential(8, "hash"), False)):
        with pytest.raises(Crowded) as crowded:
            readers.admit(Reader(asker, page=kind))
        assert crowded.value.of_user is of_user


def test_the_page_is_told_in_words_too(site, held, opened):
    alice = site.client("alice")
    answer = held(alice)
    for _ in range(MINE):
        opened(alice, answer)
    assert_partial(alice.get(f"/answers/{answer}/events", HX_Request="true"), 429, "too_many_streams")


def fill(stack: ExitStack, client: Client, count: int) -> list[ClientConnection]:
    sockets = [stack.enter_context(client.socket()) for _ in range(count)]
    for one in sockets:
        lets_in(one)
    return sockets


def lets_in(one: ClientConnection) -> None:
    say(one, type="nonsense")
    assert hear(one, "error")["code"] == "unknown_type"


def comes_in(client: Client) -> bool:
    with client.socket() as one:
        say(one, type="nonsense")
        with suppress(ConnectionClosed):
            return bool(hear(one, "error"))
    return False


def test_sockets_have_the_same_limits_and_are_counted_apart_from_streams(site, held, opened):
    alice, bob = site.client("alice"), site.client("bob")
    answer = held(alice)
    for _ in range(MINE):
        opened(alice, answer)
    with ExitStack() as stack:
        hers = fill(stack, alice, MINE)
        with alice.socket() as one_more:
            assert close_code(one_more) == 4429
        fill(stack, bob, ALL - MINE)
        with site.client("boss").socket() as one_more:
            assert close_code(one_more) == 4503
        say(hers[0], type="cancel", answer=answer)
        assert hear(hers[0], "cancelled")["answer"] == answer
        hers[0].close()
        until(lambda: comes_in(site.client("boss")), "there is room again")
    until(lambda: comes_in(alice), "and for her")
