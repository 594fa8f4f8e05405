"""One message, end to end: asked, streamed, stored, billed."""

from bench.script import text
from tests.parley import shown


def test_an_answer_streams_from_started_to_close_and_its_text_is_the_stored_text(parley, alice, offer):
    model = offer("fake?tokens=60&rate=100&seed=3")
    asked = alice.ask("What is the tide?", model)
    frames = alice.read_to_end(asked["answer"])
    names = [frame.name for frame in frames]
    assert names[0] == "started"
    assert names[-3:] == ["usage", "done", "close"]
    assert shown(frames) == text(3, 60) == parley.ended(asked["answer"])["text"]


def test_ids_grow_by_one_and_only_logged_events_have_them(parley, alice, offer):
    asked = alice.ask(model=offer("fake?tokens=50&rate=100"))
    frames = alice.read_to_end(asked["answer"])
    ids = [frame.id for frame in frames if frame.id]
    assert ids == [f"1-{n}" for n in range(1, len(ids) + 1)]
    assert all(bool(frame.id) == (frame.name not in ("status", "ping", "close")) for frame in frames)


def test_curl_gets_the_stream_in_one_step(parley, offer):
    model = offer("fake?tokens=5&seed=4")
    with parley.client("alice", token=True).stream(model=model) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert shown(stream.read_until("close")) == text(4, 5)


def test_the_stream_says_to_every_proxy_not_to_hold_it_back(parley, alice, offer):
    asked = alice.ask(model=offer("fake?tokens=2"))
    with alice.events(asked["answer"]) as stream:
        assert stream.headers["cache-control"] == "no-cache, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["content-encoding"] == "identity"


def test_the_provider_is_sent_the_conversation_so_far_with_the_newest_question_last(parley, alice, provider, offer):
    model = offer("fake?tokens=3&seed=8")
    first = alice.ask("first question", model)
    alice.read_to_end(first["answer"])
    second = alice.ask("second question", model, first["conversation"])
    alice.read_to_end(second["answer"])
    sent = [call.body["messages"] for call in provider.calls if call.model == model][-1]
    assert sent == [
        {"role": "user", "content": "first question"},
        {"role": "assistant", "content": text(8, 3)},
        {"role": "user", "content": "second question"},
    ]


def test_the_ledger_has_one_closed_row_for_the_call_with_the_tokens_that_were_billed(parley, alice, offer):
    asked = alice.ask(model=offer("fake?tokens=7"))
    alice.read_to_end(asked["answer"])
    row = parley.ended(asked["answer"])
    [call] = parley.calls(asked["answer"])
    assert call["outcome"] == "done"
    assert call["closed_at"]
    assert call["completion_tokens"] == row["completion_tokens"] == 7
    assert not call["estimated"]


def test_the_first_token_goes_out_at_once_and_then_at_most_one_event_per_flush_interval(parley, alice, offer):
    asked = alice.ask(model=offer("fake?tokens=200&rate=200"))
    tokens = [frame for frame in alice.read_to_end(asked["answer"]) if frame.name == "token"]
    assert tokens[0].data["n"] == 1
    assert sum(frame.data["n"] for frame in tokens) == 200
    assert len(tokens) <= 1000 / 40 + 3, "one second of tokens, one event per 40 ms"
