"""What of a long conversation a model is sent: what fits its context, and people are told what does not."""

import pytest

from chat.history import MESSAGE_OVERHEAD
from chat.text import estimate_tokens
from tests.parley import Client, Parley

CONTEXT = 400  # tokens
LETTERS = "abcdefgh"


@pytest.fixture(scope="module")
def narrow(serve_all) -> Parley:
    """A server whose model has a small context."""
    return serve_all(CHAT_MODELS=f"fake={CONTEXT}, wide=100000", CHAT_SYSTEM_PROMPT="Be brief.", CHAT_MAX_TOKENS="77")


def converse(alice: Client, count: int, model: str = "fake") -> list[dict]:
    """A conversation of long questions; returns what each POST answered."""
    asked: list[dict] = []
    for letter in LETTERS[:count]:
        asked.append(alice.ask(letter * 200, model, asked[0]["conversation"] if asked else ""))
        alice.read_to_end(asked[-1]["answer"])
    return asked


def cost(message: dict) -> int:
    return estimate_tokens(message["content"]) + MESSAGE_OVERHEAD


def sent_for(provider, letter: str, model: str = "fake") -> list[dict]:
    """The messages of the newest call whose last question has this letter."""
    calls = [call.body["messages"] for call in provider.calls if call.model == model]
    return [messages for messages in calls if messages[-1]["content"] == letter * 200][-1]


def test_what_does_not_fit_is_left_out_from_the_beginning(narrow, provider):
    asked = converse(narrow.client("alice"), 8)
    for letter, item in zip(LETTERS, asked, strict=True):
        system, *turns = sent_for(provider, letter)
        assert system == {"role": "system", "content": "Be brief."}
        assert turns[0]["role"] == "user"
        assert sum(map(cost, [system, *turns])) <= CONTEXT
        position = LETTERS.index(letter)
        assert narrow.answer(item["answer"])["left_out"] == 2 * position + 1 - len(turns)
    assert narrow.answer(asked[0]["answer"])["left_out"] == 0
    assert narrow.answer(asked[-1]["answer"])["left_out"] > 0


def test_the_page_says_how_much_was_left_out(narrow):
    alice = narrow.client("alice")
    asked = converse(alice, 8)
    for item in asked:
        left_out = narrow.answer(item["answer"])["left_out"]
        page = alice.get(f"/answers/{item['answer']}/html").text
        assert ("The model was not sent the oldest" in page) is (left_out > 0)
        assert (f"the oldest {left_out} messages" in page) is (left_out > 1)


def test_a_wider_model_is_sent_everything(narrow, provider):
    asked = converse(narrow.client("bob"), 6, "wide")
    assert len(sent_for(provider, "f", "wide")) == 1 + 11
    assert narrow.answer(asked[-1]["answer"])["left_out"] == 0


def test_a_question_that_alone_is_too_long_is_sent_alone(narrow, provider):
    alice = narrow.client("alice")
    first = alice.ask("short", "fake")
    alice.read_to_end(first["answer"])
    second = alice.ask("z" * 5000, "fake", first["conversation"])
    alice.read_to_end(second["answer"])
    sent = next(call.body["messages"] for call in provider.calls if call.body["messages"][-1]["content"] == "z" * 5000)
    assert [message["role"] for message in sent] == ["system", "user"]
    assert narrow.answer(second["answer"])["left_out"] == 2


def test_the_largest_length_of_an_answer_is_asked_for_if_settings_have_one(narrow, alice, provider, offer):
    narrow_model, open_model = "wide", offer("fake?tokens=1&seed=95")
    narrow.client("bob").read_to_end(narrow.client("bob").ask("capped", narrow_model)["answer"])
    alice.read_to_end(alice.ask("uncapped", open_model)["answer"])
    bodies = {call.body["messages"][-1]["content"]: call.body for call in provider.calls}
    assert bodies["capped"]["max_tokens"] == 77
    assert "max_tokens" not in bodies["uncapped"]
    assert [message["role"] for message in bodies["uncapped"]["messages"]] == ["user"]
