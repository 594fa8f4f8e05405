"""One submit, one question, one answer, one model call: however often it is sent, and whatever has happened since."""

import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest

from bench.fake_provider import FakeProvider
from bench.script import Gate, Script, text
from tests.parley import Client, EventStream, Parley, Response, shown, until

SUBMITS = 20
ROUNDS = 4


@pytest.fixture
def model(offer, provider) -> Callable[..., str]:
    """A new model of this test's own, with a script: its calls can be counted."""

    def make(server: Parley | None = None, **script: Any) -> str:
        name = f"fake-once-{uuid4()}"
        provider.script(name, Script(**script))
        return offer(name, server) if server else offer(name)

    return make


def calls(provider: FakeProvider, model: str) -> int:
    return sum(call.model == model for call in provider.calls)


def submit(client: Client, key: str, model: str, conversation: str = "", **headers: str) -> Response:
    path = f"/conversations/{conversation}/messages" if conversation else "/conversations"
    return client.post_json(path, {"text": f"Once, {model}", "model": model}, Idempotency_Key=key, **headers)


def questions(server: Parley, model: str) -> list[dict[str, Any]]:
    return server.rows("select id, conversation_id from chat_message where text = ?", f"Once, {model}")


def ids(response: Response) -> dict[str, str]:
    """What says which answer it is; how it stands may have changed."""
    assert response.status in (200, 201), response.text
    return {name: response.json()[name] for name in ("answer", "question", "conversation", "events")}


def at_once(client: Client, key: str, model: str, conversation: str = "") -> list[Response]:
    """The same submit from as many threads at the same moment."""
    start = Barrier(SUBMITS)

    def one(_: int) -> Response:
        start.wait(10)
        return submit(client, key, model, conversation)

    with ThreadPoolExecutor(SUBMITS) as threads:
        return list(threads.map(one, range(SUBMITS)))


def test_the_same_submit_twice_is_the_same_answer_and_one_model_call(alice, parley, provider, model):
    name, key = model(tokens=3), str(uuid4())
    first, second = submit(alice, key, name), submit(alice, key, name)
    assert (first.status, second.status) == (201, 200)
    assert ids(first) == ids(second)
    assert first.headers["location"] == second.headers["location"] == f"/c/{first.json()['conversation']}/"
    parley.ended(first.json()["answer"])
    assert len(questions(parley, name)) == calls(provider, name) == len(parley.calls(first.json()["answer"])) == 1


@pytest.mark.parametrize("first", [True, False], ids=["the first message", "a further message"])
def test_submits_at_the_same_moment_are_one(alice, parley, provider, model, first):
    for _ in range(ROUNDS):
        name = model(tokens=3)
        thread = "" if first else ended(parley, alice.ask("Before", name))["conversation"]
        before = calls(provider, name)
        responses = at_once(alice, str(uuid4()), name, thread)
        assert sorted(response.status for response in responses) == [200] * (SUBMITS - 1) + [201]
        assert len({json.dumps(ids(response)) for response in responses}) == 1
        parley.ended(responses[0].json()["answer"])
        [question] = questions(parley, name)
        assert question["conversation_id"] == hexed(responses[0].json()["conversation"])
        assert calls(provider, name) == before + 1


def hexed(uuid: str) -> str:
    return uuid.replace("-", "")


def ended(server: Parley, asked: dict[str, Any]) -> dict[str, Any]:
    """What was asked, once it is answered."""
    server.ended(asked["answer"])
    return asked


def test_a_repeat_gives_the_same_answer_while_it_is_open_and_after_it_has_ended(alice, parley, provider, model):
    gate, key = Gate(), str(uuid4())
    name = model(tokens=4, at=2, gate=gate)
    thread = ended(parley, alice.ask("Before", "fake"))
    first = submit(alice, key, name, thread["conversation"])
    provider.wait(lambda calls: any(call.model == name and call.tokens == 2 for call in calls))
    busy = submit(alice, str(uuid4()), name, thread["conversation"])
    again = submit(alice, key, name, thread["conversation"])
    gate.open()
    assert busy.status == 409, "another submit has to wait"
    assert (again.json()["status"], ids(again)) == ("open", ids(first))
    parley.ended(first.json()["answer"])
    late = submit(alice, key, name, thread["conversation"])
    assert (late.json()["status"], ids(late)) == ("done", ids(first))
    assert len(questions(parley, name)) == calls(provider, name) == 1


def test_a_repeat_that_wants_the_stream_gets_the_whole_answer_of_the_first(alice, parley, provider, model):
    name, key = model(tokens=30, seed=6), str(uuid4())
    first = submit(alice, key, name)
    body = json.dumps({"text": f"Once, {name}", "model": name})
    headers = {"Accept": "text/event-stream", "Content-Type": "application/json", "Idempotency-Key": key}
    for _ in range(2):  # while it may still be written, and when it has ended
        with EventStream(*alice.open("POST", "/conversations", body, headers)) as stream:
            frames = stream.read_until("close")
            assert shown(frames) == text(6, 30)
            assert frames[0].data["answer"] == first.json()["answer"]
        parley.ended(first.json()["answer"])
    assert calls(provider, name) == 1


def test_a_repeat_of_the_page_shows_the_same_exchange(alice, parley, provider, model):
    name, key = model(tokens=3), str(uuid4())
    pages = []
    for _ in range(2):
        form = {"text": f"Once, {name}", "model": name}
        pages.append(alice.post("/conversations", form, HX_Request="true", Idempotency_Key=key))
        [question] = questions(parley, name)
        [answer] = parley.rows("select id from chat_message where parent_id = ?", question["id"])
        parley.ended(answer["id"])
    assert [page.status for page in pages] == [201, 200]
    assert pages[0].headers["hx-push-url"] == pages[1].headers["hx-push-url"]
    assert all(f'data-answer="{answer["id"][:8]}-' in page.text for page in pages)
    assert calls(provider, name) == 1


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_repeat_after_the_server_was_restarted_is_the_same_answer(serve, provider, model, sign):
    server = serve()
    name, key = model(server, tokens=3), str(uuid4())
    first = submit(server.client("alice"), key, name)
    server.ended(first.json()["answer"])
    server.end(sign)
    server.start()
    assert ids(submit(server.client("alice"), key, name)) == ids(first)
    assert len(questions(server, name)) == calls(provider, name) == 1


def test_the_key_is_looked_up_before_every_other_check(serve, provider, model):
    server = serve(CHAT_MAX_OPEN_ANSWERS="1", CHAT_DRAIN_SECONDS="8")
    gate, key, alice = Gate(), str(uuid4()), server.client("alice")
    name = model(server, tokens=4, at=2, gate=gate)
    first = submit(alice, key, name)
    provider.wait(lambda calls: any(call.model == name and call.tokens == 2 for call in calls))
    assert submit(alice, str(uuid4()), name).status == 429, "another submit is one too many"
    assert ids(submit(alice, key, name)) == ids(first)
    provider.state.models.remove(name)
    alice.post("/models")
    assert submit(alice, str(uuid4()), name).status == 422, "the model is gone"
    assert ids(submit(alice, key, name)) == ids(first)
    assert server.process
    server.process.send_signal(signal.SIGTERM)
    until(lambda: submit(alice, str(uuid4()), "fake").status == 503, "the server drains")
    assert ids(submit(alice, key, name)) == ids(first)
    gate.open()
    assert server.process.wait(20) == 0
    assert calls(provider, name) == 1


# The same for every verb that opens an answer

VERBS = ["ask", "ask on", "edit", "regenerate", "continue"]


@pytest.fixture
def verb(alice, parley, provider, model) -> Callable[..., tuple[str, dict[str, str], str]]:
    """Address and body of a request of this verb, and its model. It finds what it needs: an answer that was cut off."""

    def prepare(kind: str, **script: Any) -> tuple[str, dict[str, str], str]:
        cut, name = model(tokens=9, seed=8, fault="cut", at=4), model(**script)
        path, body = "/conversations", {"text": f"Once, {name}", "model": name}
        if kind == "ask":
            return path, body, name
        old = ended(parley, alice.ask("Before", cut))
        if kind in ("ask on", "edit"):
            path = f"/conversations/{old['conversation']}/messages"
            return (path if kind == "ask on" else f"/messages/{old['question']}/edit"), body, name
        return f"/answers/{old['answer']}/{kind}", {"model": name}, name

    return prepare


@pytest.mark.parametrize("kind", VERBS)
def test_every_verb_is_done_once_for_one_key_even_at_the_same_moment(alice, parley, provider, verb, kind):
    path, body, name = verb(kind, tokens=3)
    key, start = str(uuid4()), Barrier(SUBMITS)

    def one(_: int) -> Response:
        start.wait(10)
        return alice.post_json(path, body, Idempotency_Key=key)

    with ThreadPoolExecutor(SUBMITS) as threads:
        responses = list(threads.map(one, range(SUBMITS)))
    assert sorted(response.status for response in responses) == [200] * (SUBMITS - 1) + [201]
    [same] = {json.dumps(ids(response)) for response in responses}
    row = parley.ended(responses[0].json()["answer"])
    assert row["status"] == "done"
    late = alice.post_json(path, body, Idempotency_Key=key)
    assert (late.status, json.dumps(ids(late))) == (200, same)
    assert calls(provider, name) == 1


@pytest.mark.parametrize("kind", VERBS)
def test_a_repeat_while_the_first_is_open_returns_that_one_and_stops_nothing(alice, parley, provider, verb, kind):
    gate, key = Gate(), str(uuid4())
    path, body, name = verb(kind, tokens=4, at=2, gate=gate)
    first = alice.post_json(path, body, Idempotency_Key=key)
    provider.wait(lambda calls: any(call.model == name and call.tokens == 2 for call in calls))
    repeats = [alice.post_json(path, body, Idempotency_Key=key) for _ in range(3)]
    row = parley.answer(first.json()["answer"])
    gate.open()
    assert [response.status for response in repeats] == [200] * 3
    assert [ids(response) for response in repeats] == [ids(first)] * 3
    assert (row["status"], row["stop_by"]) == ("open", "")
    assert parley.ended(first.json()["answer"])["status"] == "done"
    assert calls(provider, name) == 1


@pytest.mark.parametrize("kind", VERBS)
def test_another_request_under_the_key_of_any_verb_is_refused_and_stops_nothing(alice, parley, provider, verb, kind):
    gate, key = Gate(), str(uuid4())
    path, body, name = verb(kind, tokens=4, at=2, gate=gate)
    first = alice.post_json(path, body, Idempotency_Key=key)
    for other_path, other_body in [
        (path, body | {"model": "fake"}),
        (path, body | {"more": "x"}),
        ("/conversations", {}),
    ]:
        refused = alice.post_json(other_path, other_body, Idempotency_Key=key)
        assert (refused.status, refused.json()["code"]) == (422, "key_reused")
    row = parley.answer(first.json()["answer"])
    gate.open()
    assert (row["status"], row["stop_by"]) == ("open", "")
    parley.ended(first.json()["answer"])
    assert calls(provider, name) == 1


def test_another_body_or_address_under_the_same_key_is_refused(alice, parley, provider, model):
    name, key = model(tokens=3), str(uuid4())
    first = ended(parley, submit(alice, key, name).json())
    other_text = alice.post_json("/conversations", {"text": "Twice", "model": name}, Idempotency_Key=key)
    other_model = alice.post_json("/conversations", {"text": f"Once, {name}", "model": "fake"}, Idempotency_Key=key)
    other_path = submit(alice, key, name, first["conversation"])
    other_verb = alice.post_json(f"/answers/{first['answer']}/regenerate", {"model": name}, Idempotency_Key=key)
    for refused in (other_text, other_model, other_path, other_verb):
        assert (refused.status, refused.json()["code"]) == (422, "key_reused")
    assert len(questions(parley, name)) == calls(provider, name) == 1
    assert ids(submit(alice, key, name))["answer"] == first["answer"]


def test_writing_an_answer_again_is_done_once_for_one_key(alice, parley, provider, model):
    name, key = model(tokens=3), str(uuid4())
    first = ended(parley, submit(alice, str(uuid4()), name).json())
    path = f"/answers/{first['answer']}/regenerate"
    siblings = [alice.post_json(path, {}, Idempotency_Key=key) for _ in range(3)]
    assert [response.status for response in siblings] == [201, 200, 200]
    assert len({response.json()["answer"] for response in siblings} - {first["answer"]}) == 1
    parley.ended(siblings[0].json()["answer"])
    assert calls(provider, name) == 2


def test_a_refused_submit_may_be_repeated_with_the_same_key(alice, parley, provider, model):
    gate, key = Gate(), str(uuid4())
    name = model(tokens=2, at=1, gate=gate)
    first = submit(alice, str(uuid4()), name).json()
    refused = [submit(alice, key, name, first["conversation"]) for _ in range(2)]
    gate.open()
    assert [response.status for response in refused] == [409, 409]
    parley.ended(first["answer"])
    taken = submit(alice, key, name, first["conversation"])
    assert taken.status == 201
    parley.ended(taken.json()["answer"])
    assert calls(provider, name) == 2


def test_the_keys_of_two_users_do_not_meet(alice, bob, parley, provider, model):
    name, key = model(tokens=3), str(uuid4())
    hers, his = submit(alice, key, name), submit(bob, key, name)
    assert (hers.status, his.status) == (201, 201)
    assert ids(hers)["answer"] != ids(his)["answer"]
    assert ids(submit(bob, key, name)) == ids(his)
    assert all(ended(parley, asked.json()) for asked in (hers, his))
    assert calls(provider, name) == 2


def test_a_cookie_and_a_token_of_the_same_user_share_their_keys(alice, parley, provider, model):
    name, key = model(tokens=3), str(uuid4())
    first = submit(alice, key, name)
    assert ids(submit(parley.client("alice", token=True), key, name)) == ids(first)
    parley.ended(first.json()["answer"])
    assert calls(provider, name) == 1


def test_a_repeat_after_the_conversation_was_deleted_says_so_and_asks_nobody(alice, parley, provider, model):
    name, key = model(tokens=3), str(uuid4())
    first = ended(parley, submit(alice, key, name).json())
    assert alice.post(f"/c/{first['conversation']}/delete").status == 302
    repeat = submit(alice, key, name)
    assert (repeat.status, repeat.json()["code"]) == (410, "deleted")
    assert questions(parley, name) == []
    assert calls(provider, name) == 1


def test_without_a_key_every_submit_is_its_own(alice, parley, provider, model):
    name = model(tokens=3)
    answers = {alice.ask(f"Once, {name}", name)["answer"] for _ in range(2)}
    for answer in answers:
        parley.ended(answer)
    assert len(answers) == len(questions(parley, name)) == calls(provider, name) == 2
