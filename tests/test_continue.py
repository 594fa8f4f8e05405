"""An answer that was cut off can be continued: a new one begins with its text, and the model is asked for the rest alone."""

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from bench.fake_provider import FakeProvider
from bench.ledger import Call
from bench.script import Gate, Script, text
from chat.events import Position
from chat.runner.jobs import GO_ON
from tests.parley import Client, EventStream, Parley, Response, shown, until
from tests.refusals import assert_refused, nothing_changes

SAID, REST = 8, 12  # tokens before the cut, and after it
BEFORE, AFTER = text(51, SAID), text(52, REST)


@pytest.fixture
def held(offer, provider) -> Iterator[Callable[..., str]]:
    """A model that says the first tokens and then waits: its name."""
    gates: list[Gate] = []

    def make(server: Parley | None = None, said: int = SAID) -> str:
        name = f"fake-cut-{uuid4()}"
        gates.append(Gate())
        provider.script(name, Script(tokens=said + 5, seed=51, at=said, gate=gates[-1]))
        return offer(name, server) if server else offer(name)

    yield make
    for gate in gates:
        gate.open()


def open_one(client: Client, model: str, said: int = SAID) -> dict[str, Any]:
    """An open answer of which so much has been read."""
    asked = client.ask("What floats?", model)
    with client.events(asked["answer"]) as stream:
        stream.read_tokens(said)
    return asked


def stopped(client: Client, model: str) -> dict[str, Any]:
    asked = open_one(client, model)
    client.stop(asked["answer"])
    return asked


def go_on(client: Client, answer: str, **body: Any) -> Response:
    return client.post_json(f"/answers/{answer}/continue", body)


def rest(provider: FakeProvider, model: str, **script: Any) -> None:
    """From now on the model says the rest."""
    provider.script(model, Script(**{"tokens": REST, "seed": 52} | script))


def calls_of(provider: FakeProvider, model: str) -> list[Call]:
    return [call for call in provider.calls if call.model == model]


def test_the_new_answer_begins_with_the_old_text_and_has_the_same_question(alice, parley, provider, held):
    model = held()
    old = stopped(alice, model)
    before = parley.answer(old["answer"])
    rest(provider, model)
    response = go_on(alice, old["answer"])
    new = response.json()
    assert response.status == 201
    assert new["answer"] != old["answer"]
    assert (new["question"], new["conversation"]) == (old["question"], old["conversation"])
    frames = alice.read_to_end(new["answer"])
    row = parley.ended(new["answer"])
    assert shown(frames) == row["text"] == BEFORE + AFTER
    assert (row["status"], row["kept"], row["model"]) == ("done", len(BEFORE), model)
    assert parley.answer(old["answer"]) == before, "what has ended stays as it is"


def test_its_log_is_started_then_the_kept_text_that_counts_no_token_then_what_is_new(alice, provider, held):
    model = held()
    old = stopped(alice, model)
    rest(provider, model)
    frames = alice.read_to_end(go_on(alice, old["answer"]).json()["answer"])
    started, kept, *others = frames
    assert (started.name, started.data["attempt"]) == ("started", 1)
    assert (kept.name, kept.data) == ("token", {"text": BEFORE, "n": 0})
    assert sum(frame.data["n"] for frame in others if frame.name == "token") == REST
    ids = [Position.parse(frame.id) for frame in frames if frame.id]
    assert ids == sorted(set(ids))
    assert [frame.name for frame in others[-3:]] == ["usage", "done", "close"]


def test_the_model_is_sent_the_kept_text_as_its_own_and_asked_to_go_on(alice, provider, held):
    model = held()
    old = stopped(alice, model)
    rest(provider, model)
    alice.read_to_end(go_on(alice, old["answer"]).json()["answer"])
    first, second = calls_of(provider, model)
    assert first.body["messages"][-1] == {"role": "user", "content": "What floats?"}
    assert second.body["messages"] == [
        *first.body["messages"],
        {"role": "assistant", "content": BEFORE},
        {"role": "user", "content": GO_ON},
    ]


def test_only_what_is_new_is_billed_in_a_row_of_its_own(alice, parley, provider, held):
    model = held()
    old = stopped(alice, model)
    paid = parley.calls(old["answer"])
    rest(provider, model)
    new = go_on(alice, old["answer"]).json()["answer"]
    row, [call] = parley.ended(new), parley.calls(new)
    assert (call["outcome"], call["completion_tokens"], call["estimated"]) == ("done", REST, 0)
    assert row["completion_tokens"] == REST
    assert parley.calls(old["answer"]) == paid


def test_an_estimate_does_not_bill_the_kept_text_either(alice, parley, provider, held):
    model, gate = held(), Gate()
    old = stopped(alice, model)
    rest(provider, model, at=3, gate=gate)
    new = go_on(alice, old["answer"]).json()["answer"]
    with alice.events(new) as stream:
        stream.read_tokens(3)
    receipt = alice.stop(new)
    gate.open()
    [call] = parley.calls(new)
    assert (call["outcome"], receipt["completion_tokens"], call["completion_tokens"]) == ("stopped", 3, 3)
    assert parley.answer(new)["text"] == BEFORE + text(52, 3)


def test_whoever_joins_late_gets_all_of_it_and_whoever_has_the_kept_text_only_the_rest(alice, provider, held):
    model, gate = held(), Gate()
    old = stopped(alice, model)
    rest(provider, model, at=4, gate=gate)
    new = go_on(alice, old["answer"]).json()["answer"]
    with alice.events(new) as first:
        seen = first.read_tokens(4)
        with alice.events(new) as late:
            assert shown(late.read_tokens(4)) == BEFORE + text(52, 4)
            gate.open()
            late.read_until("close")
        first.read_until("close")
    after_kept = next(frame.id for frame in seen if frame.name == "token")
    with alice.events(new, after_kept) as other:
        assert shown(other.read_until("close")) == AFTER


def test_a_continued_answer_that_was_cut_off_again_can_be_continued_again(alice, parley, provider, held):
    model, gate = held(), Gate()
    first = stopped(alice, model)
    rest(provider, model, at=5, gate=gate)
    second = go_on(alice, first["answer"]).json()["answer"]
    with alice.events(second) as stream:
        stream.read_tokens(5)
    alice.stop(second)
    gate.open()
    provider.script(model, Script(tokens=6, seed=53))
    third = go_on(alice, second).json()["answer"]
    kept = BEFORE + text(52, 5)
    assert parley.ended(third)["text"] == kept + text(53, 6)
    assert parley.answer(third)["kept"] == len(kept)
    assert [turn["content"] for turn in calls_of(provider, model)[-1].body["messages"]][-2:] == [kept, GO_ON]


def test_one_that_is_stopped_before_anything_new_came_keeps_the_kept_text_and_costs_no_answer(
    alice, parley, provider, held
):
    model, gate = held(), Gate()
    old = stopped(alice, model)
    rest(provider, model, at=0, gate=gate)
    new = go_on(alice, old["answer"]).json()["answer"]
    provider.wait(lambda calls: len([call for call in calls if call.model == model]) == 2)
    receipt = alice.stop(new)
    gate.open()
    row = parley.ended(new)
    assert (row["status"], row["text"], receipt["completion_tokens"]) == ("stopped", BEFORE, 0)
    assert shown(alice.read_to_end(new)) == BEFORE
    rest(provider, model)
    assert parley.ended(go_on(alice, new).json()["answer"])["text"] == BEFORE + AFTER


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param({"finish": "length"}, "done", id="at the model's limit"),
        pytest.param({"fault": "cut", "at": SAID}, "failed", id="cut by the provider"),
    ],
)
def test_an_answer_that_ended_too_soon_can_be_continued(alice, parley, provider, held, script, status):
    model = held()
    provider.script(model, Script(tokens=SAID, seed=51, **script))
    old = alice.ask("What floats?", model)["answer"]
    assert parley.ended(old)["status"] == status
    rest(provider, model)
    assert parley.ended(go_on(alice, old).json()["answer"])["text"] == BEFORE + AFTER


@pytest.mark.own_stores
def test_an_answer_that_a_killed_server_left_behind_can_be_continued(serve, provider, held):
    server = serve()
    model = held(server)
    old = open_one(server.client("alice"), model)["answer"]
    until(lambda: server.answer(old)["text"] == BEFORE, "the text is stored")
    server.end(signal.SIGKILL)
    server.start()
    assert server.answer(old)["status"] == "interrupted"
    rest(provider, model)
    new = go_on(server.client("alice"), old).json()["answer"]
    assert server.ended(new)["text"] == BEFORE + AFTER
    server.end(signal.SIGTERM)
    server.start()  # its log is gone
    assert shown(server.client("alice").read_to_end(new)) == BEFORE + AFTER


@pytest.mark.parametrize(
    "script",
    [
        pytest.param({"tokens": SAID}, id="finished"),
        pytest.param({"tokens": SAID, "finish": "content_filter"}, id="filtered"),
        pytest.param({"tokens": 5, "fault": "cut", "at": 0}, id="without a word"),
    ],
)
def test_what_is_at_its_end_or_empty_is_refused_and_nothing_is_stored(alice, parley, provider, held, script):
    model = held()
    provider.script(model, Script(seed=51, **script))
    old = alice.ask("What floats?", model)["answer"]
    parley.ended(old)
    with nothing_changes(parley, provider, "alice", model):
        assert_refused(go_on(alice, old), 409, "finished")


def test_an_open_answer_is_stopped_first_and_nothing_of_it_is_lost(alice, parley, provider, held):
    model = held()
    old = open_one(alice, model)
    rest(provider, model)
    response = go_on(alice, old["answer"])
    assert response.status == 201
    row = parley.answer(old["answer"])
    assert (row["status"], row["stop_by"], row["text"]) == ("stopped", "user", BEFORE)
    assert parley.ended(response.json()["answer"])["text"] == BEFORE + AFTER
    assert calls_of(provider, model)[0].state == "aborted"


def test_another_open_answer_of_the_conversation_is_stopped_too(alice, parley, provider, held):
    model = held()
    old = stopped(alice, model)
    other = alice.ask("And what sinks?", held(), old["conversation"])["answer"]
    rest(provider, model)
    new = go_on(alice, old["answer"]).json()["answer"]
    assert parley.answer(other)["status"] == "stopped"
    assert parley.ended(new)["text"] == BEFORE + AFTER


def test_what_would_be_refused_anyway_stops_nothing(alice, bob, parley, provider, held):
    old = open_one(alice, held())
    with nothing_changes(parley, provider, "alice"):
        assert_refused(go_on(alice, old["answer"], model="no-such-model"), 422, "unknown_model")
        assert_refused(go_on(bob, old["answer"]), 404, "not_found")
        malformed = alice.post(f"/answers/{old['answer']}/continue", "[1", Content_Type="application/json")
        assert_refused(malformed, 400, "malformed")
    row = parley.answer(old["answer"])
    assert (row["status"], row["stop_by"]) == ("open", "")


def test_the_answer_that_is_continued_does_not_count_against_the_users_limit(serve, provider, held):
    server = serve(CHAT_MAX_OPEN_ANSWERS="1")
    alice, model = server.client("alice"), held(server)
    old = open_one(alice, model)
    rest(provider, model)
    assert server.ended(go_on(alice, old["answer"]).json()["answer"])["text"] == BEFORE + AFTER


def test_somebody_elses_answer_a_question_and_nothing_are_not_found(alice, bob, parley, provider, held):
    model = held()
    old = stopped(alice, model)
    with nothing_changes(parley, provider, "alice", model), nothing_changes(parley, provider, "bob", model):
        assert_refused(go_on(bob, old["answer"]), 404, "not_found")
        assert_refused(go_on(alice, old["question"]), 404, "not_found")
        assert_refused(go_on(alice, str(uuid4())), 404, "not_found")


def test_another_model_may_go_on(alice, parley, provider, held, offer):
    old = stopped(alice, held())
    other = offer(f"fake-other-{uuid4()}")
    rest(provider, other)
    row = parley.ended(go_on(alice, old["answer"], model=other).json()["answer"])
    assert (row["model"], row["text"]) == (other, BEFORE + AFTER)


def test_a_program_continues_and_follows_in_one_step(alice, parley, provider, held):
    model = held()
    old = stopped(alice, model)
    rest(provider, model)
    headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
    path = f"/answers/{old['answer']}/continue"
    with EventStream(*parley.client("alice", token=True).open("POST", path, json.dumps({}), headers)) as stream:
        assert stream.status == 200
        assert shown(stream.read_until("close")) == BEFORE + AFTER


def test_at_the_size_limit_there_is_nothing_to_continue_and_below_it_only_up_to_it(serve, provider, held):
    limit = len(BEFORE) + 30
    server = serve(CHAT_MAX_ANSWER_CHARS=str(limit))
    alice, model = server.client("alice"), held(server)
    old = stopped(alice, model)
    rest(provider, model, tokens=200)
    new = go_on(alice, old["answer"]).json()["answer"]
    row = server.ended(new)
    assert (row["status"], row["reason"]) == ("done", "length")
    assert row["text"] == (BEFORE + text(52, 200))[:limit]
    with nothing_changes(server, provider, "alice", model):
        assert_refused(go_on(alice, new), 409, "finished")
