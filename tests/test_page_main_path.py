"""The main path in a real browser: ask, watch, reload, stop, ask again. What is seen is what is stored."""

from playwright.sync_api import expect

from bench.script import Gate, Script, text
from tests.browser import ask, ends, shows, words
from tests.parley import until

MARKDOWN = ("# Tides\n\n", "- **high**\n", "- low\n\n", "```python\n", "print(1)\n", "```\n", "\nEnd.")


def test_the_question_is_on_the_page_before_the_server_has_answered(page_of, scripted):
    model = scripted(Script(tokens=5))
    page, held = page_of("alice"), []
    page.route("**/conversations", held.append)
    ask(page, "Is it high tide?", model)
    expect(page.locator(".question.pending .said")).to_have_text("Is it high tide?")
    expect(page.locator("#text")).to_have_value("")
    held[0].continue_()
    expect(page.locator(".question.pending")).to_have_count(0)
    expect(page.locator(".question .said")).to_have_text("Is it high tide?")
    ends(page.locator("article.answer"))


def test_an_answer_is_markdown_while_it_is_still_being_written(page_of, scripted, parley):
    gate = Gate()
    answer = ask(page := page_of("alice"), "Tides?") if not (model := scripted(Script(pieces=MARKDOWN, at=5, gate=gate))) else None
    page = page_of("alice")
    answer = ask(page, "Tides?", model)
    expect(answer.locator("h3")).to_have_text("Tides")
    expect(answer.locator("li strong")).to_have_text("high")
    expect(answer.locator("figure.code code")).to_have_text("print(1)")
    expect(answer).to_have_attribute("data-status", "open")
    gate.open()
    assert parley.answer(ends(answer))["text"] == "".join(MARKDOWN)
    expect(answer.locator("figure.code .nb")).to_have_text("print")
    expect(answer.locator("h3")).to_have_text("Tides")


def test_reloading_in_the_middle_loses_nothing(page_of, scripted, parley):
    gate = Gate()
    page = page_of("alice")
    answer = ask(page, "Go on", scripted(Script(tokens=60, seed=11, at=30, gate=gate)))
    shows(answer, text(11, 30))
    page.reload()
    shows(answer, text(11, 30))
    gate.open()
    row = parley.ended(ends(answer))
    assert words(answer.locator(".body")) == words(row["text"]) == words(text(11, 60))
