"""A question can be asked in other words: a question beside it, with an answer of its own; nothing that was there is lost."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from bench.script import Gate, Script, text
from tests.parley import Client, EventStream, Parley, Response, shown
from tests.refusals import assert_partial, assert_refused, nothing_changes


@pytest.fixture
def model(offer, provider) -> Iterator[Callable[..., str]]:
    """A new model of this test's own; one with a gate waits after two tokens until the test has ended."""
    gates: list[Gate] = []

    def make(server: Parley | None = None, *, gate: bool = False, **script: Any) -> str:
        name = f"fake-edit-{uuid4()}"
        if gate:
            gates.append(Gate())
            script |= {"tokens": 4, "at": 2, "gate": gates[-1]}
        provider.script(name, Script(**{"tokens": 3} | script))
        return offer(name, server) if server else offer(name)

    yield make
    for closed in gates:
        closed.open()


def edit(client: Client, question: str, words: Any, model: str = "fake", **headers: str) -> Response:
    return client.post_json(f"/messages/{question}/edit", {"text": words, "model": model}, **headers)


def exchange(client: Client, server: Parley, words: str, model: str, conversation: str = "") -> dict[str, Any]:
    """A question that has been answered."""
    asked = client.ask(words, model, conversation)
    server.ended(asked["answer"])
    return asked


def row(server: Parley, message: str) -> dict[str, Any]:
    return server.answer(message)


def said(client: Client, conversation: str) -> list[str]:
    """The questions that the page shows."""
    page = client.get(f"/c/{conversation}/thread").text
    return re.findall(r'<div class="said" dir="auto">(.*?)</div>', page)


def test_it_makes_a_question_beside_the_old_one_with_an_answer_of_its_own(alice, parley, model):
    name = model(tokens=7, seed=61)
    first = exchange(alice, parley, "First", name)
    old = exchange(alice, parley, "What is teh time?", name, first["conversation"])
    response = edit(alice, old["question"], "What is the time?", name)
    new = response.json()
    assert response.status == 201
    assert new["conversation"] == old["conversation"]
    assert {new["question"], new["answer"]}.isdisjoint({old["question"], old["answer"]})
    parley.ended(new["answer"])
    question, answer = row(parley, new["question"]), row(parley, new["answer"])
    assert (question["role"], question["text"]) == ("user", "What is the time?")
    assert question["parent_id"] == row(parley, old["question"])["parent_id"] == first["answer"].replace("-", "")
    assert (answer["parent_id"], answer["text"]) == (new["question"].replace("-", ""), text(61, 7))


def test_the_new_branch_is_shown_and_the_old_one_stays_in_the_rows(alice, parley, model):
    name = model()
    old = exchange(alice, parley, "In the old words", name)
    later = exchange(alice, parley, "And then?", name, old["conversation"])
    before = [row(parley, message) for message in (old["question"], old["answer"], later["question"], later["answer"])]
    new = edit(alice, old["question"], "In new words", name).json()
    parley.ended(new["answer"])
    assert said(alice, old["conversation"]) == ["In new words"]
    kept = [row(parley, message) for message in (old["question"], old["answer"], later["question"], later["answer"])]
    assert kept == before
    assert said(alice, old["conversation"]) == ["In new words"]


def test_the_model_is_sent_what_goes_before_and_the_new_words_alone(alice, parley, model, provider):
    name = model(tokens=2, seed=62)
    first = exchange(alice, parley, "First", name)
    old = exchange(alice, parley, "Second", name, first["conversation"])
    parley.ended(edit(alice, old["question"], "Second, again", name).json()["answer"])
    call = [call for call in provider.calls if call.model == name][-1]
    assert [turn["content"] for turn in call.body["messages"]] == ["First", text(62, 2), "Second, again"]


def test_the_very_first_question_can_be_edited(alice, parley, model):
    name = model()
    old = exchange(alice, parley, "First", name)
    new = edit(alice, old["question"], "First, better", name).json()
    parley.ended(new["answer"])
    assert row(parley, new["question"])["parent_id"] is None
    assert said(alice, old["conversation"]) == ["First, better"]
    further = exchange(alice, parley, "Further", name, old["conversation"])
    assert row(parley, further["question"])["parent_id"] == new["answer"].replace("-", "")


def test_an_edited_question_can_be_edited_again(alice, parley, model):
    name = model()
    old = exchange(alice, parley, "One", name)
    two = edit(alice, old["question"], "Two", name).json()
    parley.ended(two["answer"])
    three = edit(alice, two["question"], "Three", name).json()
    parley.ended(three["answer"])
    assert said(alice, old["conversation"]) == ["Three"]
    siblings = parley.rows(
        "select text from chat_message where conversation_id = ? and role = 'user' order by id",
        old["conversation"].replace("-", ""),
    )
    assert [sibling["text"] for sibling in siblings] == ["One", "Two", "Three"]


def test_an_open_answer_is_stopped_first_and_keeps_what_it_has(alice, parley, model, provider):
    held, name = model(gate=True, seed=63), model(tokens=5, seed=64)
    old = alice.ask("Old", held)
    with alice.events(old["answer"]) as stream:
        stream.read_tokens(2)
        response = edit(alice, old["question"], "New", name)
        final = stream.read_until("close")[-2]
    assert response.status == 201
    stopped = row(parley, old["answer"])
    assert (stopped["status"], stopped["stop_by"], stopped["text"]) == ("stopped", "user", text(63, 2))
    assert (final.name, final.data["reason"]) == ("done", "stopped")
    assert parley.ended(response.json()["answer"])["text"] == text(64, 5)
    [call] = [call for call in provider.calls if call.model == held]
    assert call.state == "aborted"


@pytest.mark.parametrize(
    ("words", "name", "status", "code"),
    [
        ("", "fake", 422, "empty"),
        ("  \n", "fake", 422, "empty"),
        (None, "fake", 422, "empty"),
        (["a"], "fake", 422, "empty"),
        ("a\0b", "fake", 422, "bad_text"),
        ("\ud800", "fake", 422, "bad_text"),
        ("x" * 100_001, "fake", 413, "too_large"),
        ("New", "no-such-model", 422, "unknown_model"),
    ],
)
def test_a_bad_edit_stores_nothing_and_stops_nothing(alice, parley, provider, model, words, name, status, code):
    old = alice.ask("Old", model(gate=True))
    with nothing_changes(parley, provider, "alice"):
        assert_refused(edit(alice, old["question"], words, name), status, code)
    assert (row(parley, old["answer"])["status"], row(parley, old["answer"])["stop_by"]) == ("open", "")


def test_the_answer_that_makes_room_does_not_count_against_the_users_limit(serve, model):
    server = serve(CHAT_MAX_OPEN_ANSWERS="1")
    alice = server.client("alice")
    held, name = model(server, gate=True), model(server)
    first = alice.ask("Old", held)
    new = edit(alice, first["question"], "New", held)
    assert new.status == 201, "its own answer is stopped, so there is room"
    other = edit(server.client("bob"), first["question"], "New", name)
    assert_refused(other, 404, "not_found")
    alice.stop(new.json()["answer"])
    done = exchange(alice, server, "Elsewhere", name)
    alice.ask("Old", held)
    assert_refused(edit(alice, done["question"], "New", name), 429, "too_many")


def test_only_ones_own_questions_are_there(alice, bob, parley, provider, model):
    name = model()
    old = exchange(alice, parley, "Hers", name)
    with nothing_changes(parley, provider, "alice", name), nothing_changes(parley, provider, "bob", name):
        assert_refused(edit(bob, old["question"], "His", name), 404, "not_found")
        assert_refused(edit(alice, str(uuid4()), "Nobody's", name), 404, "not_found")
        assert_refused(edit(alice, old["answer"], "An answer is no question", name), 404, "not_found")


def test_after_the_conversation_was_deleted_there_is_nothing_to_edit(alice, parley, provider, model):
    name = model()
    old = exchange(alice, parley, "Soon gone", name)
    assert alice.post(f"/c/{old['conversation']}/delete").status == 302
    with nothing_changes(parley, provider, "alice", name):
        assert_refused(edit(alice, old["question"], "New", name), 404, "not_found")


def test_the_page_gets_the_new_exchange_or_the_reason_why_not(alice, parley, model):
    name = model()
    old = exchange(alice, parley, "Old", name)
    path = f"/messages/{old['question']}/edit"
    shows = alice.post(path, {"text": "New <words>", "model": name}, HX_Request="true")
    assert (shows.status, shows.headers["hx-push-url"]) == (201, f"/c/{old['conversation']}/")
    assert "New &lt;words&gt;" in shows.text
    assert 'data-status="open"' in shows.text
    assert_partial(alice.post(path, {"text": ""}, HX_Request="true"), 422, "empty")


def test_a_program_edits_and_follows_in_one_step(parley, alice, model):
    name = model(tokens=6, seed=65)
    old = exchange(alice, parley, "Old", name)
    headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
    body = json.dumps({"text": "New", "model": name})
    program = parley.client("alice", token=True)
    with EventStream(*program.open("POST", f"/messages/{old['question']}/edit", body, headers)) as stream:
        assert stream.status == 200
        assert shown(stream.read_until("close")) == text(65, 6)
