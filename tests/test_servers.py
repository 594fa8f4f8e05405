"""The same contract on every server that Parley may be served with: ours, and uvicorn."""

import http.client
import signal
import sys
import time
from contextlib import nullcontext

import pytest

from bench.script import Gate, Script, text
from tests.parley import Parley, hear, say, shown, until

UVICORN = [
    *(sys.executable, "-m", "uvicorn", "chatproject.asgi:application", "--port", "{port}"),
    *("--log-level", "warning", "--timeout-graceful-shutdown", "1"),
]
COMMANDS = {"daphne": None, "uvicorn": UVICORN}


SETTINGS = {"CHAT_ABANDON_AFTER": "1", "CHAT_DRAIN_SECONDS": "1"}


@pytest.fixture(scope="module", params=COMMANDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server in turn."""
    return request.param


@pytest.fixture(scope="module")
def parley(kind, serve_all) -> Parley:
    """A server of this kind, in place of the one that other files share."""
    return serve_all(COMMANDS[kind], **SETTINGS)


@pytest.fixture
def held(parley, offer, provider):
    """Ask for an answer that says some tokens and waits at a gate: held("name", 1) returns its id, its model and its gate."""
    gates = []

    def ask(name: str, at: int, server: Parley = parley) -> tuple[str, str, Gate]:
        gates.append(Gate())
        model = f"{name}-{server.port}"
        provider.script(model, Script(tokens=12, seed=61, gate=gates[-1], at=at))
        return server.client("alice").ask("go on", offer(model, server))["answer"], model, gates[-1]

    yield ask
    for gate in gates:
        gate.open()


def aborted(provider, model: str) -> bool:
    return [call.state for call in provider.calls if call.model == model] == ["aborted"]


def test_the_first_token_is_with_its_reader_while_the_provider_still_thinks_about_the_second(alice, held):
    answer, _, gate = held("first-token", 1)
    with alice.events(answer) as stream:
        frames = stream.read_tokens(1)  # the gate is closed: nothing that comes later can have pushed it out
        assert shown(frames) == text(61, 1)
        gate.open()
        assert shown(frames + stream.read_until("close")) == text(61, 12)


def test_an_asker_of_the_stream_itself_has_the_first_token_as_early(parley, alice, held, provider, offer):
    gate, model = Gate(), f"one-step-{parley.port}"
    provider.script(model, Script(tokens=3, seed=62, gate=gate, at=1))
    with alice.stream(model=offer(model)) as stream:
        frames = stream.read_tokens(1)
        gate.open()
        assert shown(frames + stream.read_until("close")) == text(62, 3)


def test_a_reader_that_comes_back_continues_exactly_where_it_was_cut(alice, held):
    answer, _, gate = held("resumes", 6)
    with alice.events(answer) as stream:
        before = stream.read_tokens(6)
    gate.open()
    with alice.events(answer, last_event_id=before[-1].id) as stream:
        after = stream.read_until("close")
    assert shown(before + after) == text(61, 12)
    ids = [frame.id for frame in before + after if frame.id]
    assert ids == [f"1-{n}" for n in range(1, len(ids) + 1)]
    with alice.events(answer, ids[-1]) as stream:
        assert stream.status == 204


@pytest.mark.parametrize("by_socket", [False, True])
def test_stop_hangs_up_on_the_provider_and_ends_every_stream(parley, alice, held, provider, by_socket):
    answer, model, _ = held(f"stops-{by_socket}", 4)
    with alice.events(answer) as stream, alice.socket() as page:
        frames = stream.read_tokens(4)
        if by_socket:
            say(page, type="cancel", answer=answer)
            receipt = hear(page, "cancelled")
        else:
            receipt = alice.stop(answer)
        frames += stream.read_until("close")
    [final] = [frame for frame in frames if frame.name in ("done", "error")]
    assert (final.data["reason"], final.data["by"]) == ("stopped", "user")
    assert shown(frames) == text(61, 4) == parley.answer(answer)["text"]
    assert receipt["ms"] == final.data["ms"]
    until(lambda: aborted(provider, model))


def test_a_reader_that_leaves_is_noticed_and_its_answer_given_up_after_the_grace(parley, alice, held, provider):
    answer, model, _ = held("leaves", 4)
    with alice.events(answer) as stream:
        stream.read_tokens(4)
        time.sleep(2)  # longer than the grace: with its reader there, the answer lives
        assert not aborted(provider, model)
    left = time.monotonic()
    until(lambda: aborted(provider, model))
    assert time.monotonic() - left > 0.75
    assert parley.ended(answer)["stop_by"] == "abandoned"


def test_when_it_is_told_to_leave_readers_come_loose_and_open_answers_are_interrupted(kind, serve, held, provider):
    parley = serve(COMMANDS[kind], **SETTINGS)
    answer, model, _ = held("drained", 4, parley)
    with parley.client("alice").events(answer) as stream:
        frames = stream.read_tokens(4)
        status = parley.end(patience=10)
        # uvicorn cuts what is open before the application hears of it; a cut body is no ended one, so readers come back.
        with pytest.raises(http.client.IncompleteRead) if kind == "uvicorn" else nullcontext():
            frames += list(stream)
    assert status in (0, -signal.SIGTERM)
    assert shown(frames) == text(61, 4)
    row, [call] = parley.answer(answer), parley.calls(answer)
    assert (row["status"], row["text"], call["outcome"]) == ("interrupted", text(61, 4), "interrupted")
    until(lambda: aborted(provider, model))
    again = parley.start().client("alice").read_to_end(answer)
    assert [frame.name for frame in again] == ["started", "token", "usage", "error", "close"]
    assert shown(again) == text(61, 4)
