"""Stop means stop: one ending, the provider hung up on, the text kept that was seen, and a receipt that stays the same."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bench.script import Gate, Script, text
from tests.parley import Client, Frame, hear, say, shown, until

FINAL = ("done", "error")


def final_events(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.name in FINAL]


def by_http(client: Client, answer: str) -> dict[str, Any]:
    return client.stop(answer)


def by_socket(client: Client, answer: str) -> dict[str, Any]:
    with client.socket() as page:
        say(page, type="cancel", answer=answer)
        return hear(page, "cancelled")


WAYS = pytest.mark.parametrize("stop", [by_http, by_socket])


@pytest.fixture
def held(alice, offer, provider):
    """Ask for an answer that says some tokens and then waits: held("name", 10) returns its id."""
    gates = []

    def ask(name: str, tokens: int) -> str:
        gates.append(Gate())
        provider.script(name, Script(tokens=tokens + 10, seed=31, gate=gates[-1], at=tokens))
        return alice.ask("go on", offer(name))["answer"]

    yield ask
    for gate in gates:
        gate.open()


def call_of(provider, model: str) -> Any:
    """The one call that the provider got for this model."""
    [call] = [call for call in provider.calls if call.model == model]
    return call


def assert_stopped_by_user(parley, answer: str, frames: list[Frame], receipt: dict[str, Any]) -> None:
    """Row, ledger, readers and receipt tell the same."""
    row, [call] = parley.ended(answer), parley.calls(answer)
    [final] = final_events(frames)
    assert (row["status"], row["reason"], row["stop_by"]) == ("stopped", "stopped", "user")
    assert (final.name, final.data["reason"], final.data["by"]) == ("done", "stopped", "user")
    assert [frame.name for frame in frames[-3:]] == ["usage", "done", "close"]
    assert row["text"] == shown(frames)
    assert (call["outcome"], call["completion_tokens"]) == ("stopped", row["completion_tokens"])
    assert call["closed_at"]
    assert receipt == {
        "type": "cancelled",
        "answer": answer,
        "ms": row["ms"],
        "completion_tokens": row["completion_tokens"],
        "estimated": bool(row["estimated"]),
    }
    assert final.data["ms"] == receipt["ms"]


@WAYS
def test_stop_before_the_first_token_hangs_up_and_leaves_an_empty_answer(parley, alice, held, provider, stop):
    model = f"held-at-0-{stop.__name__}"
    answer = held(model, 0)
    provider.wait(lambda calls: any(call.model == model for call in calls))
    with alice.events(answer) as stream:
        receipt = stop(alice, answer)
        frames = stream.read_until("close")
    assert_stopped_by_user(parley, answer, frames, receipt)
    assert shown(frames) == ""
    until(lambda: call_of(provider, model).state == "aborted")


@WAYS
def test_stop_in_the_middle_keeps_what_was_seen_and_bills_it_as_an_estimate(parley, alice, held, provider, stop):
    model = f"held-at-7-{stop.__name__}"
    answer = held(model, 7)
    with alice.events(answer) as stream:
        seen = stream.read_tokens(7)
        receipt = stop(alice, answer)
        frames = seen + stream.read_until("close")
    assert_stopped_by_user(parley, answer, frames, receipt)
    assert shown(frames) == text(31, 7)
    assert receipt["completion_tokens"] >= 7
    assert receipt["estimated"] is True
    until(lambda: call_of(provider, model).state == "aborted")


@WAYS
def test_the_receipt_stays_the_same_however_often_and_from_wherever_it_is_asked_for(parley, alice, held, stop):
    answer = held(f"held-receipt-{stop.__name__}", 3)
    with alice.events(answer) as stream:
        stream.read_tokens(3)
    receipt = stop(alice, answer)
    assert receipt["type"] == "cancelled"
    row = parley.ended(answer)
    program = parley.client("alice", token=True)
    assert [by_http(alice, answer), by_socket(alice, answer), by_http(program, answer)] == [receipt] * 3
    assert parley.answer(answer) == row


@WAYS
def test_two_stops_at_once_get_one_receipt(parley, alice, held, stop):
    answer = held(f"held-twice-{stop.__name__}", 3)
    with alice.events(answer) as stream, ThreadPoolExecutor(4) as pool:
        seen = stream.read_tokens(3)
        receipts = list(pool.map(lambda _: stop(alice, answer), range(4)))
        frames = seen + stream.read_until("close")
    assert receipts == receipts[:1] * 4
    assert_stopped_by_user(parley, answer, frames, receipts[0])


@WAYS
def test_a_second_session_of_the_same_person_stops_it_too(parley, offer, provider, stop):
    name, gate = f"harbour-{stop.__name__}", Gate()
    phone, laptop = parley.sign_up(name), parley.sign_in(name)
    assert phone.session != laptop.session
    provider.script(f"held-{name}", Script(tokens=9, seed=31, gate=gate, at=4))
    answer = phone.ask("go on", offer(f"held-{name}"))["answer"]
    with phone.events(answer) as stream:
        seen = stream.read_tokens(4)
        receipt = stop(laptop, answer)
        frames = seen + stream.read_until("close")
    gate.open()
    assert_stopped_by_user(parley, answer, frames, receipt)


def test_somebody_else_cannot_stop_it_by_any_way(parley, alice, bob, held):
    answer = held("held-foreign", 3)
    assert bob.post(f"/answers/{answer}/stop", Accept="application/json").status == 404
    with bob.socket() as page:
        say(page, type="cancel", answer=answer)
        assert hear(page, "error")["code"] == "not_found"
    assert parley.answer(answer)["status"] == "open"
    assert parley.answer(answer)["stop_by"] == ""
    assert by_http(alice, answer)["answer"] == answer


@WAYS
def test_stop_of_an_answer_that_has_ended_changes_nothing(parley, alice, offer, stop):
    answer = alice.ask(model=offer("fake?tokens=6&seed=32"))["answer"]
    before = alice.read_to_end(answer)
    row, calls = parley.ended(answer), parley.calls(answer)
    receipt = stop(alice, answer)
    assert (parley.answer(answer), parley.calls(answer)) == (row, calls)
    assert alice.read_to_end(answer) == before
    assert (row["status"], receipt["completion_tokens"], receipt["estimated"]) == ("done", 6, False)


@WAYS
def test_stop_of_an_answer_that_failed_leaves_it_failed(parley, alice, offer, stop):
    answer = alice.ask(model=offer("fake?fault=cut&at=3&seed=33"))["answer"]
    before = alice.read_to_end(answer)
    stop(alice, answer)
    assert parley.answer(answer)["status"] == "failed"
    assert alice.read_to_end(answer) == before


def test_stop_while_the_provider_is_being_given_time_ends_the_wait_and_asks_no_more(parley, alice, offer, provider):
    model = offer("fake?fault=429-retry-once&retry_after=9")
    answer = alice.ask(model=model)["answer"]
    until(lambda: [call["outcome"] for call in parley.calls(answer)] == ["failed"], "the wait has begun")
    with alice.events(answer) as stream:
        receipt = by_http(alice, answer)
        frames = stream.read_until("close")
    row = parley.answer(answer)
    assert final_events(frames)[0].data["by"] == row["stop_by"] == "user"
    assert (row["status"], receipt["completion_tokens"]) == ("stopped", 0)
    assert [call["outcome"] for call in parley.calls(answer)] == ["failed"]
    assert call_of(provider, model).state == "finished", "it was asked once"
