"""What comes beside the visible text: thoughts, the bill, and signs of life while nothing comes."""

from itertools import pairwise

import pytest
from django.conf import settings

from bench.faults.ending import closes
from bench.script import Gate, Script, text
from bench.wire import DONE, FOREVER, LAST_CHUNK, chunk, event
from tests.parley import Frame, Parley, shown


def named(frames: list[Frame], name: str) -> list[Frame]:
    return [frame for frame in frames if frame.name == name]


def told(frames: list[Frame], name: str) -> str:
    return "".join(frame.data["text"] for frame in named(frames, name))


def test_thoughts_are_events_of_their_own_and_stored_apart(parley, alice, offer):
    asked = alice.ask(model=offer("fake?tokens=5&reasoning=4&rate=50&seed=61"))
    frames = alice.read_to_end(asked["answer"])
    row = parley.ended(asked["answer"])
    assert told(frames, "reasoning") == "thought0 thought1 thought2 thought3 " == row["reasoning"]
    assert shown(frames) == text(61, 5) == row["text"]
    assert row["reasoning_ms"] is not None
    names = [frame.name for frame in frames]
    assert names.index("reasoning") < names.index("token")
    assert all(frame.id for frame in named(frames, "reasoning"))


@pytest.mark.parametrize("field", ["reasoning-content", "reasoning", "reasoning-both"])
def test_thoughts_are_read_once_whatever_their_field_is_called(alice, offer, field):
    frames = alice.read_to_end(alice.ask(model=offer(f"fake?tokens=5&fault={field}"))["answer"])
    assert told(frames, "reasoning") == "thought0 thought1 thought2 thought3 thought4 "


def test_thoughts_are_folded_away_on_the_page_and_not_sent_to_the_model_again(alice, provider, offer):
    model = offer("fake?tokens=2&reasoning=2&seed=62")
    asked = alice.ask(model=model)
    alice.read_to_end(asked["answer"])
    page = alice.get(f"/answers/{asked['answer']}/html").text
    body, thought = page.index('class="body"'), page.index("thought0 thought1")
    assert page.index('<details class="reasoning">') < thought < body
    alice.read_to_end(alice.ask("And then?", model, asked["conversation"])["answer"])
    sent = [call.body["messages"] for call in provider.calls if call.model == model][-1]
    assert "thought" not in str(sent)


def test_an_answer_without_thoughts_has_none(parley, alice, offer):
    asked = alice.ask(model=offer("fake?tokens=2&seed=63"))
    assert not named(alice.read_to_end(asked["answer"]), "reasoning")
    assert (parley.answer(asked["answer"])["reasoning"], parley.answer(asked["answer"])["reasoning_ms"]) == ("", None)


def test_usage_is_what_the_provider_bills(parley, alice, offer):
    asked = alice.ask("one two three", offer("fake?tokens=9&seed=64"))
    [usage] = named(alice.read_to_end(asked["answer"]), "usage")
    assert usage.data == {"prompt_tokens": 3, "completion_tokens": 9, "estimated": False}
    for bill in (parley.answer(asked["answer"]), *parley.calls(asked["answer"])):
        assert (bill["prompt_tokens"], bill["completion_tokens"], bill["estimated"]) == (3, 9, 0)


@pytest.mark.parametrize("model", ["fake?tokens=9&usage=never", "fake?tokens=9&fault=no-done"])
def test_without_a_bill_the_tokens_are_estimated_and_called_so_everywhere(parley, alice, offer, model):
    asked = alice.ask("one two three", offer(model))
    [usage] = named(alice.read_to_end(asked["answer"]), "usage")
    assert usage.data["estimated"]
    assert 9 <= usage.data["completion_tokens"] <= len(text(0, 9).encode())
    assert usage.data["prompt_tokens"] >= 3
    for bill in (parley.answer(asked["answer"]), *parley.calls(asked["answer"])):
        assert {name: bill[name] for name in usage.data} == usage.data | {"estimated": 1}
    assert f"≈ {usage.data['completion_tokens']} tokens" in alice.get(f"/answers/{asked['answer']}/html").text


# usage as it is sent, and whether it can be believed
BILLS = {
    "whole": ({"prompt_tokens": 0, "completion_tokens": 7}, True),
    "words": ({"prompt_tokens": "3", "completion_tokens": 7}, False),
    "negative": ({"prompt_tokens": 3, "completion_tokens": -1}, False),
    "too large": ({"prompt_tokens": 3, "completion_tokens": 1 << 31}, False),
    "fractions": ({"prompt_tokens": 3.0, "completion_tokens": 7.5}, False),
    "true": ({"prompt_tokens": True, "completion_tokens": True}, False),
    "half": ({"prompt_tokens": 3}, False),
    "empty": ({}, False),
}


@pytest.mark.parametrize("bill", BILLS)
def test_only_numbers_of_tokens_count_as_a_bill(alice, provider, offer, bill):
    usage, believed = BILLS[bill]
    model = offer(f"bills {bill}")
    provider.script(model, closes("stop", done=False, after=lambda job: [event({"choices": [], "usage": usage})]))
    frames = alice.read_to_end(alice.ask(model=model)["answer"])
    [heard] = named(frames, "usage")
    assert heard.data["estimated"] is not believed
    assert heard.data["completion_tokens"] == 7 or not believed
    assert named(frames, "done")


def test_the_bill_is_asked_for(alice, provider, offer):
    model = offer("fake?tokens=1&seed=65")
    alice.read_to_end(alice.ask(model=model)["answer"])
    [call] = [call for call in provider.calls if call.model == model]
    assert call.body["stream_options"] == {"include_usage": True}
    assert call.body["stream"] is True


def test_a_finished_answer_does_not_wait_for_ever_for_its_bill(alice, provider, offer):
    def held(job):
        *steps, _end_of_response = closes("stop", done=False)(job)
        yield from (*steps, FOREVER)

    model = offer("never bills")
    provider.script(model, held)
    frames = alice.read_to_end(alice.ask(model=model)["answer"])
    assert named(frames, "done")[0].data["reason"] == "stop"
    assert named(frames, "usage")[0].data["estimated"]
    provider.wait(lambda calls: [call.state for call in calls if call.model == model] == ["aborted"])


@pytest.fixture(scope="module")
def lively(serve_all) -> Parley:
    """A server that says soon that it is still there."""
    return serve_all(CHAT_SILENT_SECONDS="0.2", CHAT_PING_SECONDS="0.2")


def test_the_signs_of_life_have_the_promised_rhythm():
    assert (settings.CHAT_SILENT_SECONDS, settings.CHAT_PING_SECONDS) == (5, 15)


def test_waiting_is_told_before_the_first_token_and_silence_after_it(lively, provider, offer):
    gates = Gate(), Gate()
    model = offer("hesitates", lively)

    def hesitate(job):
        yield job.head()
        yield gates[0]
        yield chunk(job.says("first "))
        yield gates[1]
        yield chunk(job.says("last") + event(job.chunk({}, "stop")) + DONE)
        yield LAST_CHUNK

    provider.script(model, hesitate)
    alice = lively.client("alice")
    with alice.events(alice.ask(model=model)["answer"]) as stream:
        before = stream.read_until("status")
        gates[0].open()
        between = stream.read_until("token") + stream.read_until("status")
        gates[1].open()
        after = stream.read_until("close")
    assert before[-1].data["state"] == "waiting"
    assert between[-1].data["state"] == "silent"
    assert all(frame.data["seconds"] >= 0 for frame in [before[-1], between[-1]])
    assert shown(before + between + after) == "first last"


def test_the_seconds_of_silence_are_counted(lively, provider, offer):
    gate, model = Gate(), offer("counts", lively)
    provider.script(model, Script(tokens=2, at=1, gate=gate))
    alice = lively.client("alice")
    with alice.events(alice.ask(model=model)["answer"]) as stream:
        seconds = [stream.read_until("status")[-1].data["seconds"] for _ in range(3)]
        gate.open()
        stream.read_until("close")
    assert all(earlier < later for earlier, later in pairwise(seconds))


def test_a_ping_comes_without_a_position_whatever_else_does(lively, provider, offer):
    gate, model = Gate(), offer("pings", lively)
    provider.script(model, Script(tokens=2, at=1, gate=gate))
    alice = lively.client("alice")
    with alice.events(alice.ask(model=model)["answer"]) as stream:
        pings = [stream.read_until("ping")[-1] for _ in range(2)]
        here = stream.last_id
        gate.open()
        stream.read_until("close")
    assert pings == [Frame("ping", {})] * 2
    assert here == "1-2", "signs of life do not move the reader"


def test_a_lively_answer_has_no_signs_of_silence(alice, offer):
    frames = alice.read_to_end(alice.ask(model=offer("fake?tokens=20&rate=100&seed=66"))["answer"])
    assert not named(frames, "status")
    assert shown(frames) == text(66, 20)
