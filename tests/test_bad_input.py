"""What cannot be taken is refused: with the right status, a sentence for people, no new row and no call to the provider."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.script import Gate, Script
from tests.parley import Client, Parley, until
from tests.refusals import assert_partial, assert_refused, nothing_changes

MODEL = "fake?tokens=1&seed=77"
GATED = "fake-that-waits-in-bad-input"
MIB = 1 << 20

# What is wrong with the question, what is sent, and how it is refused.
FORM = [
    ("nothing at all", {}, 422, "empty"),
    ("an empty text", {"text": ""}, 422, "empty"),
    ("only whitespace", {"text": " \r\n\t\u3000 "}, 422, "empty"),
    ("NUL", {"text": "before\0after"}, 422, "bad_text"),
    ("a model that is not there", {"text": "Hello", "model": "fake-of-nobody"}, 422, "unknown_model"),
    ("a model's name with NUL", {"text": "Hello", "model": "fake\0"}, 422, "unknown_model"),
    ("one character too many", {"text": "x" * 100_001}, 413, "too_large"),
    ("a message of a megabyte", {"text": "x" * 1_000_000}, 413, "too_large"),
]
# The same for what only JSON can say.
JSON = [
    *FORM,
    ("the first half of a character", {"text": "a\ud800b"}, 422, "bad_text"),
    ("the second half of a character", {"text": "\udfff"}, 422, "bad_text"),
    ("a number for a text", {"text": 7}, 422, "empty"),
    ("null for a text", {"text": None}, 422, "empty"),
    ("true for a text", {"text": True}, 422, "empty"),
    ("a list for a text", {"text": ["Hello"]}, 422, "empty"),
    ("an object for a text", {"text": {"text": "Hello"}}, 422, "empty"),
    ("a number for a model", {"text": "Hello", "model": 7}, 422, "unknown_model"),
    ("false for a model", {"text": "Hello", "model": False}, 422, "unknown_model"),
    ("a list for a model", {"text": "Hello", "model": [MODEL]}, 422, "unknown_model"),
    ("an empty list for a model", {"text": "Hello", "model": []}, 422, "unknown_model"),
    ("half a character for a model", {"text": "Hello", "model": "\ud800"}, 422, "unknown_model"),
]
# Bodies that are no JSON object.
BODIES = [
    ("words", b"Hello"),
    ("nothing", b""),
    ("a list", b'[{"text": "Hello"}]'),
    ("a string", b'"Hello"'),
    ("null", b"null"),
    ("an object without its end", b'{"text": "Hello"'),
    ("bytes that are no text", b'{"text": "\xff\xfe"}'),
    ("lists in lists", b'{"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("a number of many digits", b'{"text":' + b"9" * 10_000 + b"}"),
]


@pytest.fixture(scope="module")
def mallory(parley, provider) -> Client:
    """A user of this file's own, whose rows nobody else adds to."""
    provider.state.models += [MODEL, GATED]
    client = parley.sign_up("mallory")
    assert client.post("/models").status == 200
    return client


@pytest.fixture
def unchanged(parley, provider) -> Callable[..., Any]:
    """A block in which nothing of Mallory's is stored and no model of this file is called."""
    return lambda: nothing_changes(parley, provider, "mallory", MODEL, GATED)


@pytest.fixture
def thread(mallory: Client, parley: Parley) -> dict[str, Any]:
    """A conversation of Mallory's with an answer that has ended."""
    asked = mallory.ask("Hello", MODEL)
    parley.ended(asked["answer"])
    return asked


@pytest.mark.parametrize(("body", "status", "code"), [c[1:] for c in JSON], ids=[c[0] for c in JSON])
def test_a_program_is_told_what_is_wrong_with_its_question(mallory, thread, unchanged, body, status, code):
    for path in ("/conversations", f"/conversations/{thread['conversation']}/messages"):
        with unchanged():
            refused = mallory.post_json(path, {"model": MODEL, **body}, Idempotency_Key="bad question")
            assert_refused(refused, status, code)


@pytest.mark.parametrize(("body", "status", "code"), [c[1:] for c in FORM], ids=[c[0] for c in FORM])
def test_the_page_gets_a_partial_and_keeps_the_draft(mallory, thread, unchanged, body, status, code):
    for path in ("/conversations", f"/conversations/{thread['conversation']}/messages"):
        with unchanged():
            refused = mallory.post(path, {"model": MODEL, **body}, HX_Request="true", Idempotency_Key="bad form")
            assert_partial(refused, status, code)


@pytest.mark.parametrize("body", [b[1] for b in BODIES], ids=[b[0] for b in BODIES])
def test_a_body_that_is_no_json_object_is_malformed(mallory, thread, unchanged, body):
    for path in ("/conversations", f"/answers/{thread['answer']}/regenerate"):
        with unchanged():
            headers = {"Content_Type": "application/json", "Accept": "application/json"}
            assert_refused(mallory.request("POST", path, body, **headers), 400, "malformed")


def test_the_longest_message_is_taken(mallory, parley):
    taken = mallory.post_json("/conversations", {"text": "x" * 100_000, "model": MODEL})
    assert taken.status == 201
    parley.ended(taken.json()["answer"])


@pytest.mark.parametrize("size", [MIB + 1, 5 * MIB])
def test_a_body_over_the_limit_is_too_large_for_programs_and_for_the_page(mallory, unchanged, size):
    with unchanged():
        body = json.dumps({"model": MODEL, "text": "x" * size}).encode()
        assert_refused(
            mallory.request("POST", "/conversations", body, Content_Type="application/json"), 413, "too_large"
        )
        assert_partial(mallory.post("/conversations", {"text": "x" * size}, HX_Request="true"), 413, "too_large")


def test_a_form_of_a_thousand_fields_is_malformed(mallory, unchanged):
    with unchanged():
        form = {"text": "Hello", "model": MODEL} | {f"field{n}": "x" for n in range(1000)}
        assert_refused(mallory.post("/conversations", form, Accept="application/json"), 400, "malformed")


def test_a_key_that_is_no_key_is_malformed(mallory, unchanged):
    with unchanged():
        refused = mallory.post_json("/conversations", {"text": "Hello", "model": MODEL}, Idempotency_Key="k" * 201)
        assert_refused(refused, 400, "malformed")


@pytest.mark.parametrize("model", [7, [], [MODEL], {}, False, "fake-of-nobody"])
def test_an_answer_is_not_written_again_by_a_model_that_is_not_there(mallory, thread, unchanged, model):
    with unchanged():
        refused = mallory.post_json(f"/answers/{thread['answer']}/regenerate", {"model": model})
        assert_refused(refused, 422, "unknown_model")


def test_what_belongs_to_somebody_else_is_not_found(mallory, bob, parley, unchanged):
    foreign = bob.ask("Hello", "fake")
    parley.ended(foreign["answer"])
    for path in (f"/conversations/{foreign['conversation']}/messages", f"/answers/{foreign['answer']}/regenerate"):
        with unchanged():
            body = {"text": "Hello", "model": MODEL}
            assert_refused(mallory.post_json(path, body, Idempotency_Key="foreign"), 404, "not_found")
            assert_partial(mallory.post(path, body, HX_Request="true"), 404, "not_found")


@pytest.fixture
def waiting(mallory: Client, parley: Parley, provider) -> Iterator[dict[str, Any]]:
    """An answer that is open for as long as the test lasts."""
    gate = Gate()
    provider.script(GATED, Script(tokens=1, at=0, gate=gate))
    asked = mallory.ask("Hello", GATED)
    until(lambda: any(call.model == GATED and call.state == "open" for call in provider.calls), "the model is asked")
    yield asked
    gate.open()
    parley.ended(asked["answer"])


def test_a_second_question_has_to_wait_for_the_open_answer(mallory, waiting, unchanged):
    path = f"/conversations/{waiting['conversation']}/messages"
    with unchanged():
        body = {"text": "And now?", "model": MODEL}
        assert_refused(mallory.post_json(path, body, Idempotency_Key="impatient"), 409, "busy")
        assert_partial(mallory.post(path, body, HX_Request="true"), 409, "busy")


@pytest.mark.parametrize(
    ("title", "status", "code"),
    [("", 422, "empty"), ("  \n ", 422, "empty"), ("a\0b", 422, "bad_text"), ("x" * 121, 413, "too_large")],
    ids=["empty", "whitespace", "NUL", "too long"],
)
def test_a_title_that_is_none_is_refused(mallory, thread, unchanged, title, status, code):
    path = f"/c/{thread['conversation']}/rename"
    with unchanged():
        assert_refused(mallory.post(path, {"title": title}, Accept="application/json"), status, code)
        assert_partial(mallory.post(path, {"title": title}, HX_Request="true"), status, code)
    assert mallory.post(path, {"title": "x" * 120}, HX_Request="true").status == 200
