"""A request that failed in a passing way is sent once more by itself, when the provider wants it; and never a third time."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate

import pytest

from bench.fake_provider import FakeProvider
from bench.script import text
from bench.wire import DONE, LAST_CHUNK, as_json, chunk, error, event, whole
from chat.runner.talk import LONGEST_RETRY_WAIT, RETRY_WAIT
from tests.parley import Frame, Parley, shown, until


def calls_of(provider: FakeProvider, model: str) -> list:
    return [call for call in provider.calls if call.model == model]


def final(frames: list[Frame]) -> dict:
    [found] = [frame for frame in frames if frame.name in ("done", "error")]
    return found.data


def refusing(status: int, **headers: str):
    """A script: this status at first, then a good answer of three tokens."""

    def play(job):
        if job.call.attempt == 1:
            return iter([whole(status, as_json(error("scripted")), **headers)])
        return good(job)

    return play


def good(job):
    yield job.head()
    yield chunk(job.says("one two three") + event(job.chunk({}, "stop")) + DONE)
    yield LAST_CHUNK


def test_the_repetition_waits_for_as_long_as_the_provider_asks(parley, alice, provider, offer):
    model = offer("fake?tokens=3&seed=31&fault=429-retry-once&retry_after=0.9")
    asked = alice.ask(model=model)
    frames = alice.read_to_end(asked["answer"])
    assert shown(frames) == text(31, 3)
    assert [frame.name for frame in frames].count("started") == 1
    first, second = calls_of(provider, model)
    assert second.opened_at - first.opened_at >= 0.9
    assert [bill["outcome"] for bill in parley.calls(asked["answer"])] == ["failed", "done"]


@pytest.mark.parametrize("said", ["", "soon", "nan", "-5", "0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_without_a_readable_time_to_come_the_repetition_waits_for_the_usual_one(alice, provider, offer, said):
    model = offer(f"usual wait after {said!r}")
    provider.script(model, refusing(503, **({"Retry_After": said} if said else {})))
    frames = alice.read_to_end(alice.ask(model=model)["answer"])
    assert (final(frames)["reason"], shown(frames)) == ("stop", "one two three")
    first, second = calls_of(provider, model)
    assert second.opened_at - first.opened_at >= RETRY_WAIT


def test_a_date_is_waited_for(alice, provider, offer):
    model = offer("until a date")
    due = time.time() + 2.5  # dates count whole seconds
    provider.script(model, refusing(429, Retry_After=formatdate(due, usegmt=True)))
    frames = alice.read_to_end(alice.ask(model=model)["answer"])
    assert shown(frames) == "one two three"
    assert time.time() >= due - 1
    first, second = calls_of(provider, model)
    assert second.opened_at - first.opened_at > RETRY_WAIT


@pytest.mark.parametrize("wait", [f"{LONGEST_RETRY_WAIT + 0.1:g}", "inf", "1e400", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_provider_that_asks_for_more_than_ten_seconds_is_left_alone(parley, alice, provider, offer, wait):
    model = offer(f"left alone for {wait}")
    provider.script(model, refusing(429, Retry_After=wait))
    asked = alice.ask(model=model)
    assert final(alice.read_to_end(asked["answer"]))["code"] == "rate_limited"
    assert len(calls_of(provider, model)) == len(parley.calls(asked["answer"])) == 1


def test_ten_seconds_are_waited_and_a_stop_ends_the_wait_with_the_bill_of_what_was_sent(parley, alice, provider, offer):
    model = offer("fake?fault=429-retry-after&retry_after=10&seed=32")
    asked = alice.ask(model=model)
    until(lambda: parley.calls(asked["answer"])[0]["closed_at"], "the first request has failed")
    assert alice.state(asked["answer"])["status"] == "open"
    receipt = alice.post(f"/answers/{asked['answer']}/stop").json()
    assert receipt["completion_tokens"] == 0
    assert final(alice.read_to_end(asked["answer"]))["reason"] == "stopped"
    [bill] = parley.calls(asked["answer"])
    assert (bill["outcome"], bill["error_code"]) == ("failed", "rate_limited")
    assert len(calls_of(provider, model)) == 1


def test_a_second_failure_is_final(parley, alice, provider, offer):
    model = offer("fake?fault=503-once&fails=2&seed=33")
    asked = alice.ask(model=model)
    told = final(alice.read_to_end(asked["answer"]))
    assert (told["code"], told["retryable"]) == ("provider", True)
    assert len(calls_of(provider, model)) == len(parley.calls(asked["answer"])) == 2


@pytest.mark.parametrize(
    ("status", "code", "ending"),
    [
        (400, "context_length_exceeded", "too_long"),
        (413, None, "too_long"),
        (429, "insufficient_quota", "rate_limited"),
    ],
)
def test_an_error_that_names_its_reason_is_told_in_our_words(alice, provider, offer, status, code, ending):
    model = offer(f"refuses with {status} {code}")
    body = as_json(error("You said bench-key-in-words", code=code))
    provider.script(model, lambda job: iter([whole(status, body)]))
    told = final(alice.read_to_end(alice.ask(model=model)["answer"]))
    assert told["code"] == ending
    assert "bench-key-in-words" not in str(told)


KEY = b"sk-canary-7"
QUOTING = {
    "unauthorized": lambda job: iter([whole(401, as_json(error(f"Incorrect API key provided: {KEY.decode()}")))]),
    "provider": lambda job: iter([job.head(), chunk(event({"error": {"message": KEY.decode()}})), LAST_CHUNK]),
    "protocol": lambda job: iter([job.head(), chunk(b"data: {%b}\n\n" % KEY), LAST_CHUNK]),
    "refused": lambda job: iter([whole(400, b"{}", X_Request_Id=KEY.decode(), WWW_Authenticate=KEY.decode())]),
    "no_model": lambda job: iter([whole(404, b"<h1>%b</h1>" % KEY, "text/html")]),
}


@pytest.mark.parametrize("ending", QUOTING)
def test_a_provider_that_quotes_the_key_tells_it_to_nobody(parley, alice, provider, offer, ending):
    model = offer(f"quotes the key: {ending}")
    provider.script(model, QUOTING[ending])
    asked = alice.ask(model=model)
    frames = alice.read_to_end(asked["answer"])
    assert final(frames)["code"] == ending
    page = alice.get(f"/c/{asked['conversation']}/").text
    rows = [parley.answer(asked["answer"]), *parley.calls(asked["answer"])]
    assert KEY.decode() not in f"{frames} {page} {rows} {parley.log.read_text()}"


def test_a_provider_that_is_not_there_is_unreachable_and_found_again_when_it_is(serve):
    with FakeProvider() as gone:
        server = serve(OPENAI_BASE_URL=gone.url, CHAT_MODELS="fake")
        alice = server.client("alice")
        gone.stop()
        asked = alice.ask()
        told = final(alice.read_to_end(asked["answer"]))
        assert (told["code"], told["retryable"]) == ("unreachable", True)
        bills = server.calls(asked["answer"])
        assert [bill["error_code"] for bill in bills] == ["unreachable", "unreachable"]
        assert all(bill["closed_at"] for bill in bills)
        gone.start()
        frames = alice.read_to_end(alice.ask()["answer"])
        assert (final(frames)["reason"], shown(frames)) == ("stop", text(0, 20))


@contextmanager
def full_socket() -> Iterator[str]:
    """An address that takes connections, but whose queue of them is full: connecting waits for ever."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(busy.getsockname())
        yield f"http://127.0.0.1:{busy.getsockname()[1]}/v1"
        for caller in callers:
            caller.close()


def test_a_connection_that_does_not_come_about_is_given_up(serve):
    with full_socket() as url:
        server: Parley = serve(OPENAI_BASE_URL=url, CHAT_MODELS="fake", CHAT_CONNECT_SECONDS="0.4")
        alice = server.client("alice")
        start = time.monotonic()
        asked = alice.ask()
        assert final(alice.read_to_end(asked["answer"]))["code"] == "unreachable"
        took = time.monotonic() - start
        assert 0.8 + RETRY_WAIT <= took < 0.8 + RETRY_WAIT + 2
        assert [bill["error_code"] for bill in server.calls(asked["answer"])] == ["unreachable", "unreachable"]
