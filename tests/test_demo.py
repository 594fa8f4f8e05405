"""The demo model: everything can be tried without a provider, and nobody can mistake it for a real one."""

from html import unescape
from itertools import pairwise

import pytest

from chat.providers.demo import PACES, compose
from tests.parley import Parley, shown, until

ALONE = {"OPENAI_BASE_URL": "", "OPENAI_API_KEY": ""}


@pytest.fixture(scope="module")
def demo(serve_all) -> Parley:
    """A server as a newcomer starts it."""
    return serve_all(**ALONE)


@pytest.fixture
def newcomer(demo):
    return demo.client("alice")


def test_every_model_on_offer_is_labelled_a_demo(newcomer):
    models = newcomer.get("/models").json()["models"]
    assert [model["name"] for model in models] == list(PACES)
    assert all(model["demo"] and model["context"] > 0 for model in models)
    page = unescape(newcomer.get("/").text)
    assert all(f">{name} (demo)</option>" in page for name in PACES)


def test_the_empty_page_says_that_no_provider_is_connected_and_how_to_connect_one(newcomer, parley):
    page = unescape(newcomer.get("/").text)
    assert "No provider is connected" in page
    assert "OPENAI_API_KEY" in page
    assert "OPENAI_BASE_URL" in page
    assert "No provider is connected" not in unescape(parley.client("alice").get("/").text)


def test_the_same_question_gets_the_same_answer_and_another_one_another(demo, newcomer):
    answers = [newcomer.ask(question, "demo-fast")["answer"] for question in ("Why?", "Why?", "How?")]
    first, again, other = (shown(newcomer.read_to_end(answer)) for answer in answers)
    assert first == again == compose("Why?") == demo.ended(answers[0])["text"]
    assert other == compose("How?") != first


def test_the_answer_says_that_it_is_a_demo_and_how_to_connect_a_provider(demo, newcomer):
    asked = newcomer.ask("Who are you?", "demo-fast")
    text = shown(newcomer.read_to_end(asked["answer"]))
    assert "demo model" in text.partition("\n")[0]
    assert "Who are you?" in text
    assert "OPENAI_API_KEY" in text
    assert "OPENAI_BASE_URL" in text
    assert demo.answer(asked["answer"])["is_demo"] == 1
    assert '<span class="badge">Demo</span>' in newcomer.get(f"/answers/{asked['answer']}/html").text
    assert '<span class="badge">Demo</span>' in newcomer.get(f"/c/{asked['conversation']}/").text


def test_a_real_answer_is_not_labelled_a_demo(parley, alice, offer):
    asked = alice.ask(model=offer("fake?tokens=2&seed=97"))
    alice.read_to_end(asked["answer"])
    assert parley.answer(asked["answer"])["is_demo"] == 0
    assert "badge" not in alice.get(f"/answers/{asked['answer']}/html").text


def test_the_answer_shows_what_answers_can_contain(newcomer):
    asked = newcomer.ask("Show me", "demo-fast")
    newcomer.read_to_end(asked["answer"])
    page = newcomer.get(f"/answers/{asked['answer']}/html").text
    assert '<figure class="code" data-language="python">' in page
    assert '<div class="table"' in page
    assert "<ol>" in page
    assert '<div class="thought"' in page
    assert '<details class="reasoning" hidden' not in page


def test_its_tokens_are_counted_and_called_an_estimate(demo, newcomer):
    asked = newcomer.ask("Count", "demo-fast")
    frames = newcomer.read_to_end(asked["answer"])
    [usage] = [frame.data for frame in frames if frame.name == "usage"]
    assert usage["estimated"]
    assert usage["completion_tokens"] == sum(frame.data["n"] for frame in frames if frame.name == "token")
    [bill] = demo.calls(asked["answer"])
    assert (bill["provider"], bill["outcome"], bill["estimated"]) == ("demo", "done", 1)


def test_it_can_be_stopped(demo, newcomer):
    asked = newcomer.ask("A long one", "demo-slow")
    with newcomer.events(asked["answer"]) as stream:
        before = stream.read_until("token")
        receipt = newcomer.post(f"/answers/{asked['answer']}/stop").json()
        after = stream.read_until("close")
    assert receipt["type"] == "cancelled"
    final = after[-2]
    assert (final.name, final.data["reason"], final.data["by"]) == ("done", "stopped", "user")
    text = shown(before + after)
    assert text == demo.ended(asked["answer"])["text"]
    assert compose("A long one").startswith(text)
    assert text != compose("A long one")


def test_its_paces_differ(newcomer):
    rates = [rate for _, rate in sorted(PACES.values(), key=lambda pace: pace[1])]
    assert all(slower < faster for slower, faster in pairwise(rates))
    asked = {name: newcomer.ask("Race", name)["answer"] for name in ("demo-slow", "demo-fast")}
    newcomer.read_to_end(asked["demo-fast"])
    assert newcomer.state(asked["demo-slow"])["status"] == "open"
    newcomer.post(f"/answers/{asked['demo-slow']}/stop")


@pytest.mark.parametrize(
    "question", ["`" * 50, "```\n# x", "<script>alert(1)</script>", "{question} {0}", "%s", "> a\n\n- b", "🙂" * 999]
)
def test_any_question_is_quoted_harmlessly(newcomer, question):
    asked = newcomer.ask(question, "demo-fast")
    text = shown(newcomer.read_to_end(asked["answer"]))
    assert text == compose(question)
    page = newcomer.get(f"/answers/{asked['answer']}/html").text
    assert "<script" not in page
    assert '<figure class="code" data-language="python">' in page, "the quotation does not swallow what follows"


def test_many_demo_answers_run_at_once(demo, newcomer):
    answers = [newcomer.ask(f"Number {n}", "demo-fast")["answer"] for n in range(20)]
    until(lambda: all(newcomer.state(answer)["status"] == "done" for answer in answers), "all have ended", 60)
    assert all(demo.answer(answer)["text"] == compose(f"Number {n}") for n, answer in enumerate(answers))
