"""The socket of a page: who may open it, what it makes of nonsense, stopping with a receipt, and pushes to its owner alone."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from bench.script import Gate, Script, text
from tests.parley import Client, close_code, hear, say

NOTICE = 0.5  # seconds in which the provider notices that it was hung up on; that happens before the receipt
PUSHES = ("answer.opened", "answer.ended", "conversation.changed")


@pytest.fixture
def held(alice, offer, provider) -> Iterator[dict[str, Any]]:
    """An open answer of Alice's that has said two tokens and waits, with its model and its gate."""
    gate, name = Gate(), offer(f"fake-held-{uuid4()}")
    provider.script(name, Script(tokens=4, at=2, gate=gate, seed=9))
    asked = alice.ask("Hold on", name)
    provider.wait(lambda calls: any(call.model == name and call.tokens == 2 for call in calls))
    yield asked | {"model": name, "gate": gate}
    gate.open()


@pytest.mark.parametrize("path", ["/ws/chat/", "/ws/dashboard/"])
@pytest.mark.parametrize("person", ["", "gone"])
def test_a_socket_needs_a_login_and_says_so_after_it_was_accepted(parley, path, person):
    with parley.client(person).socket(path) as socket:
        assert close_code(socket) == 4401
    with parley.client("staff").socket(path) as socket:
        say(socket, type="nonsense")
        assert hear(socket, "error")["code"] == "unknown_type"


@pytest.mark.parametrize("path", ["/ws/chat/", "/ws/dashboard/"])
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://127.0.0.1",
        "https://{base}",
        "http://evil.example/{base}",
        "http://x.{base}",
        "null",
    ],
)
def test_a_socket_of_another_site_is_refused_at_the_handshake(parley, path, origin):
    with pytest.raises(InvalidStatus) as refused, parley.client("staff").socket(path, origin.format(base=parley.base)):
        pass
    assert refused.value.response.status_code == 403


def test_a_socket_without_an_origin_is_refused_at_the_handshake(parley):
    cookie = {"Cookie": parley.client("alice").headers()["Cookie"]}
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://{parley.base}/ws/chat/", additional_headers=cookie):
        pass
    assert refused.value.response.status_code == 403


def test_an_origin_that_settings_trust_is_let_in(serve):
    server = serve(TRUSTED_ORIGINS="https://chat.example.org")
    with server.client("alice").socket(origin="https://chat.example.org") as socket:
        say(socket, type="nonsense")
        assert hear(socket, "error")["code"] == "unknown_type"


def test_there_is_no_socket_at_another_address(alice):
    with pytest.raises(InvalidStatus), alice.socket("/ws/nothing/"):
        pass


NONSENSE = [
    ("words", "Hello", "malformed"),
    ("nothing", "", "malformed"),
    ("half an object", '{"type": "cancel"', "malformed"),
    ("a list", '["cancel"]', "malformed"),
    ("a string", '"cancel"', "malformed"),
    ("a number", "7", "malformed"),
    ("null", "null", "malformed"),
    ("deep lists", "[" * 100_000, "malformed"),
    ("bytes", b'{"type": "cancel"}', "malformed"),
    ("bytes that are no text", b"\xff\xfe\x00", "malformed"),
    ("an object without a type", "{}", "malformed"),
    ("an unknown type", '{"type": "shout"}', "unknown_type"),
    ("a type of Python", '{"type": "__class__"}', "unknown_type"),
    ("an inner verb", '{"type": "nudge", "kind": "x", "data": {}}', "unknown_type"),
    ("a channel's verb", '{"type": "websocket.disconnect"}', "unknown_type"),
    ("a type that is no text", '{"type": ["cancel"]}', "unknown_type"),
    ("a type that is half a character", '{"type": "\\ud800"}', "unknown_type"),
    ("no answer to cancel", '{"type": "cancel"}', "not_found"),
    ("a number to cancel", '{"type": "cancel", "answer": 7}', "not_found"),
    ("words to cancel", '{"type": "cancel", "answer": "mine"}', "not_found"),
    ("half a character to cancel", '{"type": "cancel", "answer": "\\ud800"}', "not_found"),
    ("a list to watch", '{"type": "watch", "conversation": []}', "not_found"),
    ("words to watch", '{"type": "watch", "conversation": "mine"}', "not_found"),
]


@pytest.mark.parametrize(("message", "code"), [case[1:] for case in NONSENSE], ids=[case[0] for case in NONSENSE])
def test_nonsense_is_answered_and_the_socket_stays_open(alice, message, code):
    with alice.socket() as socket:
        for _ in range(2):
            socket.send(message)
            error = hear(socket, "error")
            assert error["code"] == code
            assert error["message"].endswith(".")
        say(socket, type="cancel", answer=str(uuid4()))
        assert hear(socket, "error")["code"] == "not_found"


def test_a_stop_is_answered_with_its_receipt_after_the_provider_was_hung_up_on(alice, parley, provider, held):
    with alice.socket() as socket:
        say(socket, type="cancel", answer=held["answer"])
        receipt = hear(socket, "cancelled", "error")
        heard_at = monotonic()
        calls = provider.wait(
            lambda calls: all(call.state == "aborted" for call in calls if call.model == held["model"])
        )
        [call] = [call for call in calls if call.model == held["model"]]
        assert call.ended_at - heard_at < NOTICE
        row = parley.answer(held["answer"])
        assert (row["status"], row["stop_by"], row["text"]) == ("stopped", "user", text(9, 2))
        assert receipt == {
            "type": "cancelled",
            "answer": held["answer"],
            "ms": row["ms"],
            "completion_tokens": row["completion_tokens"],
            "estimated": True,
        }
        say(socket, type="cancel", answer=held["answer"])
        assert hear(socket, "cancelled") == receipt


def test_what_belongs_to_somebody_else_can_be_neither_stopped_nor_watched(alice, bob, parley, held):
    with bob.socket() as his:
        say(his, type="cancel", answer=held["answer"])
        refused = hear(his, "cancelled", "error")
        say(his, type="watch", conversation=held["conversation"])
        unseen = hear(his, "error")
    assert (refused["code"], refused["answer"], unseen["code"]) == ("not_found", held["answer"], "not_found")
    row = parley.answer(held["answer"])
    assert (row["status"], row["stop_by"]) == ("open", "")
    held["gate"].open()
    assert parley.ended(held["answer"])["text"] == text(9, 4)


def test_a_page_may_watch_its_own_conversation_or_none(alice, held):
    with alice.socket() as socket:
        say(socket, type="watch", conversation=held["conversation"])
        say(socket, type="watch", conversation=None)
        say(socket, type="watch")
        say(socket, type="cancel", answer=str(uuid4()))  # the first that is refused
        assert json.loads(next(frame for frame in socket if '"error"' in frame))["code"] == "not_found"


@contextmanager
def opened(client: Client) -> Iterator[ClientConnection]:
    """A socket that is let in: it has answered once."""
    with client.socket() as socket:
        say(socket, type="nonsense")
        hear(socket, "error")
        yield socket


def pushes(socket: ClientConnection, until_kind: str, about: str) -> list[dict[str, Any]]:
    """The pushes about a conversation, up to the first of this kind."""
    heard: list[dict[str, Any]] = []
    while not heard or heard[-1]["type"] != until_kind:
        push = hear(socket, *PUSHES)
        if push["conversation"] == about:
            heard.append(push)
    return heard


def test_each_page_of_the_user_hears_of_opened_and_ended_answers_and_of_titles(alice, parley, offer):
    model = offer("fake?tokens=3&seed=91")
    with ExitStack() as stack:
        pages = [stack.enter_context(opened(alice)) for _ in range(2)]
        asked = alice.ask("Who hears this?", model)
        ids = {"conversation": asked["conversation"], "answer": asked["answer"]}
        for page in pages:
            assert pushes(page, "answer.ended", asked["conversation"]) == [
                {"type": "answer.opened", **ids},
                {"type": "answer.ended", **ids, "status": "done"},
            ]
        assert alice.post(f"/c/{asked['conversation']}/rename", {"title": "  Another\ttitle "}).status == 302
        for page in pages:
            [changed] = pushes(page, "conversation.changed", asked["conversation"])
            assert changed == {
                "type": "conversation.changed",
                "conversation": asked["conversation"],
                "title": "Another title",
            }


def test_a_further_question_and_a_failed_answer_are_pushed_too(alice, parley, offer):
    asked = alice.ask("First", offer("fake?tokens=1&seed=92"))
    parley.ended(asked["answer"])
    with opened(alice) as page:
        second = alice.ask("Second", offer("fake?fault=status-400&seed=92"), asked["conversation"])
        kinds = [(push["type"], push["answer"]) for push in pushes(page, "answer.ended", asked["conversation"])]
        assert kinds[-2:] == [("answer.opened", second["answer"]), ("answer.ended", second["answer"])]
    assert parley.ended(second["answer"])["status"] == "failed"


def test_nobody_else_hears_anything(alice, parley, offer):
    with opened(parley.client("bob")) as his, opened(parley.client("boss")) as boss, opened(alice) as hers:
        asked = alice.ask("Only for me", offer("fake?tokens=3&seed=93"))
        assert alice.post(f"/c/{asked['conversation']}/rename", {"title": "Mine"}).status == 302
        pushes(hers, "answer.ended", asked["conversation"])
        for socket in (his, boss):
            say(socket, type="cancel", answer=(end := str(uuid4())))
            before = []
            while (frame := json.loads(socket.recv(timeout=20))).get("answer") != end:
                before.append(frame)
            assert asked["conversation"] not in str(before)
