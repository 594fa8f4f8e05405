"""A page that loses its connection loses no word and doubles none, and comes back by itself."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from bench.script import Gate, Script, text, token
from chat.providers.demo import compose
from tests.browser import BROKEN, REFUSED, ask, ends, showed_only, shows, watch, words
from tests.parley import Parley, until
from tests.proxy import Proxy


@pytest.fixture
def proxy(parley: Parley) -> Iterator[Proxy]:
    with Proxy(parley) as proxy:
        yield proxy


@pytest.fixture
def cut_page(page_of, proxy):
    """A page of Alice's behind the proxy."""

    def page(path: str = "/"):
        return page_of("alice", path, server=proxy, announced=(BROKEN, REFUSED))

    return page


def test_cut_sockets_and_a_503_in_between_lose_and_double_nothing(cut_page, proxy, scripted):
    model = scripted(Script(tokens=200, seed=21, rate=80, at=199, gate=(gate := Gate())))
    page = cut_page()
    answer = ask(page, "Go on", model)
    watch(answer)
    body = answer.locator(".body")
    expect(body).to_contain_text(token(21, 20).strip())
    proxy.cut()
    expect(body).to_contain_text(token(21, 70).strip())
    proxy.cut(away=True)
    until(lambda: proxy.refused > 3, "the page asks what is the matter")
    proxy.back()
    expect(body).to_contain_text(token(21, 150).strip())
    proxy.cut()
    shows(answer, text(21, 199))
    gate.open()
    ends(answer)
    shows(answer, text(21, 200))
    showed_only(page, text(21, 200))


def test_a_page_that_is_cut_off_says_so_and_has_the_whole_answer_when_it_is_back(cut_page, proxy, scripted, parley):
    model = scripted(Script(tokens=60, seed=22, at=20, gate=(gate := Gate())))
    page = cut_page()
    answer = ask(page, "Go on", model)
    shows(answer, text(22, 20))
    proxy.cut(away=True)
    expect(answer.locator(".now")).to_have_text("Reconnecting… the answer goes on at the server")
    shows(answer, text(22, 20))
    gate.open()
    parley.ended(answer.get_attribute("data-answer"))
    proxy.back()
    ends(answer)
    shows(answer, text(22, 60))
    expect(page.locator("#stop")).to_be_hidden()


def test_an_offline_page_keeps_what_is_there_and_goes_on_when_the_network_is_back(page_of, scripted):
    model = scripted(Script(tokens=60, seed=23, at=20, gate=(gate := Gate())))
    page = page_of("alice", announced=(BROKEN,))
    answer = ask(page, "Go on", model)
    shows(answer, text(23, 20))
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_contain_text("You are offline.")
    page.fill("#text", "meanwhile")
    shows(answer, text(23, 20))
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()
    gate.open()
    ends(answer)
    shows(answer, text(23, 60))
    expect(page.locator("#text")).to_have_value("meanwhile")


def test_what_was_asked_elsewhere_while_the_page_was_cut_off_is_there_when_it_is_back(cut_page, proxy, scripted, alice):
    model = scripted(Script(tokens=30, seed=24, at=10, gate=(gate := Gate())))
    page = cut_page()
    ends(ask(page, "First", "fake"))
    conversation = page.url.rstrip("/").rpartition("/")[2]
    proxy.cut(away=True)
    until(lambda: proxy.refused, "the page notices")
    alice.ask("Second", model, conversation)
    proxy.back()
    expect(page.locator(".question .said")).to_have_text(["First", "Second"])
    shows(page.locator("article.answer").nth(1), text(24, 10))
    gate.open()
    ends(page.locator("article.answer").nth(1))


def test_an_answer_deleted_while_the_page_was_cut_off_ends_on_the_page_too(cut_page, proxy, scripted, alice):
    model = scripted(Script(tokens=30, seed=25, at=10, gate=Gate()))
    page = cut_page()
    answer = ask(page, "First", model)
    shows(answer, text(25, 10))
    conversation = page.url.rstrip("/").rpartition("/")[2]
    proxy.cut(away=True)
    assert alice.post(f"/c/{conversation}/delete").status == 302
    proxy.back()
    expect(answer.locator(".now")).to_have_text("This answer was deleted.")
    expect(page.locator("#stop")).to_be_hidden()


@pytest.fixture
def demo(serve) -> Parley:
    """A server to which no provider is connected."""
    return serve(OPENAI_BASE_URL="", OPENAI_API_KEY="")


def test_the_card_that_breaks_the_network_shows_an_answer_that_survives_it(page_of, demo):
    page = page_of("alice", server=demo)
    page.locator(".idea", has_text="Break the network").click()
    answer = page.locator("article.answer")
    expect(answer.locator(".now")).to_contain_text("Reconnecting")
    before = words(answer.locator(".body"))
    expect(answer.locator(".now")).to_contain_text("tok/s")
    page.click("#stop")
    row = demo.answer(ends(answer, "stopped"))
    after = words(answer.locator(".body"))
    assert after.startswith(before)
    assert len(after) > len(before) > 20
    assert compose("Tell me slowly how an answer survives a broken connection").startswith(row["text"].rstrip())
    expect(answer.locator(".badge")).to_have_text("Demo")
