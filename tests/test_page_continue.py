"""On the page: an answer that was cut off goes on with one click and loses no word, and waiting is said in calm sentences."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Locator, Page, expect

from bench.script import Gate, Script, text
from bench.services import Redis
from tests.browser import BROKEN, REFUSED, ask, ends, showed_only, shows, words
from tests.parley import Parley, until
from tests.stores import SharedStores

SAID, REST = 20, 30
KEPT, NEW = text(81, SAID), text(82, REST)
# Keeps what the answer shows after every change on the page, also while one article takes another one's place.
WATCH = """turns => {
    window.shown = [];
    const look = () => shown.push(turns.querySelector(".answer:last-of-type .body")?.textContent ?? "");
    look();
    new MutationObserver(look).observe(turns, {childList: true, subtree: true, characterData: true});
}"""
GAP = "() => { const t = document.getElementById('thread'); return t.scrollHeight - t.scrollTop - t.clientHeight; }"


@pytest.fixture
def cut(scripted) -> Iterator[Any]:
    """A model that falls silent in mid-answer."""

    def make(server: Parley | None = None) -> str:
        return scripted(Script(tokens=SAID + 9, seed=81, at=SAID, gate=Gate()), server)

    return make


def stopped(page: Page, model: str) -> Locator:
    answer = ask(page, "What floats?", model)
    shows(answer, KEPT)
    page.click("#stop")
    ends(answer, "stopped")
    return answer


def button(answer: Locator) -> Locator:
    return answer.get_by_role("button", name="Continue")


def kept_its_text(page: Page) -> None:
    """At every moment since `watch` at least the kept text was there, and nothing twice."""
    showed_only(page, KEPT + NEW)
    assert [moment for moment in page.evaluate("shown") if not words(moment).startswith(words(KEPT))] == []


def rest(provider: Any, model: str, **script: Any) -> None:
    provider.script(model, Script(**{"tokens": REST, "seed": 82, "rate": 60} | script))


def test_a_stopped_answer_goes_on_in_place_and_its_text_never_goes_away(page_of, cut, provider, parley):
    model = cut()
    page = page_of("alice")
    answer = stopped(page, model)
    old = answer.get_attribute("data-answer")
    rest(provider, model)
    page.locator("#turns").evaluate(WATCH)
    button(answer).click()
    expect(answer).not_to_have_attribute("data-answer", old)
    shows(answer, KEPT + NEW)
    new = ends(answer)
    shows(answer, KEPT + NEW)
    kept_its_text(page)
    expect(page.locator("article.answer")).to_have_count(1)
    expect(button(answer)).to_have_count(0)
    assert parley.answer(new)["text"] == KEPT + NEW
    page.reload()
    shows(answer, KEPT + NEW)
    expect(page.locator("article.answer")).to_have_count(1)


def test_an_interrupted_answer_goes_on_with_one_click(page_of, cut, provider, serve):
    server = serve()
    model = cut(server)
    page = page_of("alice", server=server, announced=(BROKEN,))
    answer = ask(page, "What floats?", model)
    shows(answer, KEPT)
    until(lambda: server.rows("select 1 from chat_message where text = ?", KEPT), "the text is in the row")
    server.end(signal.SIGKILL)
    server.start()
    ends(answer, "interrupted")
    expect(answer.get_by_role("button", name="Retry")).to_be_visible()
    rest(provider, model)
    page.select_option("#model", model)
    page.locator("#turns").evaluate(WATCH)
    button(answer).click()
    shows(answer, KEPT + NEW)
    ends(answer)
    kept_its_text(page)


@pytest.mark.parametrize("clicks", ["button => { button.click(); button.click(); }", "a double click"])
def test_a_double_click_continues_once(page_of, cut, provider, parley, clicks):
    model = cut()
    page = page_of("alice")
    answer = stopped(page, model)
    question = parley.answer(str(answer.get_attribute("data-answer")))["parent_id"]
    rest(provider, model)
    button(answer).evaluate(clicks) if "=>" in clicks else button(answer).dblclick()
    shows(answer, KEPT + NEW)
    ends(answer)
    assert len([call for call in provider.calls if call.model == model]) == 2
    assert len(parley.rows("select id from chat_message where parent_id = ?", question)) == 2


def test_a_lost_reply_and_a_second_click_continue_once(page_of, cut, provider):
    model = cut()
    page = page_of("alice", announced=(BROKEN,))
    answer = stopped(page, model)
    rest(provider, model)

    def lose(route: Any) -> None:
        route.fetch()
        route.abort()

    page.route("**/continue", lose, times=1)
    button(answer).click()
    expect(page.locator("#problem")).to_contain_text("Not sent.")
    page.locator("#problem").get_by_role("button", name="Retry").click()
    shows(page.locator("article.answer").last, KEPT + NEW)
    expect(page.locator("article.answer")).to_have_count(1)
    assert len([call for call in provider.calls if call.model == model]) == 2


def test_what_was_continued_and_stopped_can_be_continued_again(page_of, cut, provider):
    model = cut()
    page = page_of("alice")
    answer = stopped(page, model)
    rest(provider, model, at=10, gate=Gate())
    button(answer).click()
    shows(answer, KEPT + text(82, 10))
    page.click("#stop")
    ends(answer, "stopped")
    shows(answer, KEPT + text(82, 10))
    provider.script(model, Script(tokens=5, seed=83))
    button(answer).click()
    shows(answer, KEPT + text(82, 10) + text(83, 5))
    ends(answer)


def test_while_the_model_has_not_gone_on_yet_the_line_says_that_it_is_awaited(page_of, cut, provider):
    model = cut()
    page = page_of("alice")
    answer = stopped(page, model)
    gate = Gate()
    rest(provider, model, at=0, gate=gate)
    button(answer).click()
    expect(answer.locator(".now")).to_contain_text("Waiting for model…")
    shows(answer, KEPT)
    gate.open()
    ends(answer)


def test_what_is_finished_or_empty_has_no_button_nor_has_what_was_followed_by_more(page_of, scripted, cut):
    whole, silent, broken = scripted(Script(tokens=4)), scripted(Script(tokens=4, at=0, gate=Gate())), cut()
    page = page_of("alice")
    answer = ask(page, "Finished", whole)
    ends(answer)
    expect(button(answer)).to_have_count(0)
    answer = ask(page, "Empty", silent)
    page.click("#stop")
    ends(answer, "stopped")
    expect(button(answer)).to_have_count(0)
    answer = stopped(page, broken)
    expect(button(answer)).to_be_visible()
    ends(ask(page, "Further", whole))
    expect(button(page.locator("article.answer").nth(2))).to_be_hidden()


def test_a_long_text_that_goes_on_stands_still_with_its_end_in_view(page_of, scripted, provider):
    model = scripted(Script(tokens=900, seed=81, at=800, gate=Gate()))
    page = page_of("alice", viewport={"width": 900, "height": 600})
    answer = ask(page, "What floats?", model)
    shows(answer, text(81, 800))
    page.click("#stop")
    ends(answer, "stopped")
    gate = Gate()
    provider.script(model, Script(tokens=300, seed=82, at=0, gate=gate))
    button(answer).click()
    shows(answer, text(81, 800))
    expect(answer.locator(".state")).to_be_in_viewport()
    page.wait_for_function(
        """() => { const now = document.getElementById("thread").scrollTop, same = now === window.before;
                 window.before = now; return same; }""",
        polling=300,
    )
    top = page.evaluate("document.getElementById('thread').scrollTop")
    gate.open()
    ends(answer)
    shows(answer, text(81, 800) + text(82, 300))
    assert page.evaluate("document.getElementById('thread').scrollTop") == top


# Waiting for a place


@pytest.fixture
def narrow(serve, provider, offer) -> Iterator[tuple[Parley, list[Gate]]]:
    """A server with one place, which somebody has taken, and three questions that wait for it."""
    server = serve(CHAT_RUN_SLOTS="1")
    gates = [Gate() for _ in range(4)]
    with ExitStack() as stack:
        for name, gate in zip(("boss", "bob", "staff", "alice"), gates, strict=True):
            stack.callback(gate.open)
            model = f"fake-place-{uuid4()}"
            provider.script(model, Script(tokens=2, at=1, gate=gate))
            server.client(name).ask("Before", offer(model, server))
        yield server, gates


def test_the_line_says_how_many_are_before_until_it_is_ones_turn(page_of, scripted, narrow):
    server, gates = narrow
    model = scripted(Script(tokens=9, seed=84), server)
    page = page_of("alice", server=server)
    answer = ask(page, "My turn?", model)
    now = answer.locator(".now")
    expect(now).to_have_text("Waiting for a free place: 3 before you")
    gates[0].open()
    expect(now).to_have_text("Waiting for a free place: 2 before you")
    gates[1].open()
    gates[2].open()
    expect(now).to_have_text("Waiting for a free place: you are next")
    gates[3].open()
    shows(answer, text(84, 9))
    ends(answer)


def test_stop_works_while_waiting_for_a_place(page_of, scripted, narrow, provider):
    server, _ = narrow
    model = scripted(Script(tokens=9), server)
    page = page_of("alice", server=server)
    answer = ask(page, "My turn?", model)
    expect(answer.locator(".now")).to_contain_text("Waiting for a free place")
    page.keyboard.press("Escape")
    row = server.answer(ends(answer, "stopped"))
    assert (row["text"], row["stop_by"]) == ("", "user")
    expect(page.locator("#send")).to_be_visible()
    assert [call for call in provider.calls if call.model == model] == []


# An outage of the log


def test_while_the_log_is_away_the_line_says_so_and_no_word_is_lost(
    page_of, scripted, cluster, postgres_server, tmp_path
):
    with Redis() as redis:
        [server] = cluster(1, own=SharedStores(tmp_path / "own", postgres_server, redis)).servers
        model = scripted(Script(tokens=60, seed=85, at=20, gate=(gate := Gate())), server)
        page = page_of("alice", server=server, announced=(BROKEN, REFUSED))
        answer = ask(page, "Go on", model)
        shows(answer, text(85, 20))
        page.locator("#turns").evaluate(WATCH)
        redis.kill()
        expect(answer.locator(".now")).to_have_text("The server is recovering; nothing is lost")
        shows(answer, text(85, 20))
        redis.start()
        gate.open()
        shows(answer, text(85, 60))
        ends(answer)
        showed_only(page, text(85, 60))
