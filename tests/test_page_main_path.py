"""The main path in a real browser: ask, watch, reload, stop, ask again. What is seen is what is stored."""

from playwright.sync_api import expect

from bench.script import Gate, Script, text
from tests.browser import ask, ends, listening, shows, words
from tests.parley import until

MARKDOWN = ("# Tides\n\n", "- **high**\n", "- low\n\n", "```python\n", "print(1)\n", "```\n", "\nEnd.")


def test_the_question_is_on_the_page_before_the_server_has_answered(page_of, scripted):
    model = scripted(Script(tokens=5))
    page, held = page_of("alice"), []
    page.route("**/conversations", lambda route: held.append(route))
    ask(page, "Is it high tide?", model)
    expect(page.locator(".question.pending .said")).to_have_text("Is it high tide?")
    expect(page.locator("#text")).to_have_value("")
    held[0].continue_()
    expect(page.locator(".question.pending")).to_have_count(0)
    expect(page.locator(".question .said")).to_have_text("Is it high tide?")
    ends(page.locator("article.answer"))


def test_an_answer_is_markdown_while_it_is_still_being_written(page_of, scripted, parley):
    model = scripted(Script(pieces=MARKDOWN, at=5, gate=(gate := Gate())))
    answer = ask(page_of("alice"), "Tides?", model)
    expect(answer.locator("h3")).to_have_text("Tides")
    expect(answer.locator("li strong")).to_have_text("high")
    expect(answer.locator("figure.code code")).to_have_text("print(1)")
    expect(answer).to_have_attribute("data-status", "open")
    gate.open()
    assert parley.answer(ends(answer))["text"] == "".join(MARKDOWN)
    expect(answer.locator("figure.code .nb")).to_have_text("print")
    expect(answer.locator("h3")).to_have_text("Tides")


def test_reloading_in_the_middle_loses_nothing(page_of, scripted, parley):
    model = scripted(Script(tokens=60, seed=11, at=30, gate=(gate := Gate())))
    page = page_of("alice")
    answer = ask(page, "Go on", model)
    shows(answer, text(11, 30))
    page.reload()
    shows(answer, text(11, 30))
    gate.open()
    row = parley.ended(ends(answer))
    assert words(answer.locator(".body")) == words(row["text"]) == words(text(11, 60))
    page.reload()
    shows(answer, text(11, 60))


def test_stop_keeps_what_was_written_says_what_it_cost_and_closes_the_model_call(page_of, scripted, parley, provider):
    model = scripted(Script(tokens=60, seed=12, at=20, gate=Gate()))
    page = page_of("alice")
    answer = ask(page, "A long story", model)
    shows(answer, text(12, 20))
    expect(page.locator("#send")).to_be_hidden()
    page.click("#stop")
    row = parley.answer(ends(answer, "stopped"))
    assert (row["stop_by"], row["text"], row["estimated"]) == ("user", text(12, 20), True)
    expect(answer.locator(".ended")).to_have_text(f"Stopped by you · ≈ {row['completion_tokens']} tokens")
    shows(answer, text(12, 20))
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator("#stop")).to_be_hidden()
    provider.wait(lambda calls: [call for call in calls if call.model == model and call.state == "aborted"])


def test_escape_in_the_message_box_stops_the_answer(page_of, scripted, parley):
    model = scripted(Script(tokens=60, seed=13, at=10, gate=Gate()))
    page = page_of("alice")
    answer = ask(page, "A long story", model)
    shows(answer, text(13, 10))
    page.keyboard.press("Escape")
    assert parley.answer(ends(answer, "stopped"))["stop_by"] == "user"
    expect(answer.locator(".ended")).to_contain_text("Stopped by you")


def test_a_stop_before_the_first_token_leaves_no_endless_waiting(page_of, scripted):
    model = scripted(Script(tokens=5, at=0, gate=Gate()))
    page = page_of("alice")
    answer = ask(page, "Never mind", model)
    expect(answer.locator(".state .now")).to_contain_text("Waiting for model…")
    page.click("#stop")
    ends(answer, "stopped")
    expect(answer.locator(".ended")).to_contain_text("Stopped by you")
    expect(answer.locator(".state")).to_have_count(0)


def test_two_tabs_show_the_same_words_of_one_model_call(page_of, scripted, provider):
    model = scripted(Script(tokens=40, seed=14, at=20, gate=(gate := Gate())))
    first = page_of("alice")
    here = ask(first, "Both of you", model)
    shows(here, text(14, 20))
    second = first.context.new_page()
    second.goto(first.url)
    there = second.locator("article.answer")
    shows(there, text(14, 20))
    gate.open()
    assert ends(here) == ends(there)
    shows(here, text(14, 40))
    shows(there, text(14, 40))
    assert here.locator(".body").inner_html() == there.locator(".body").inner_html()
    assert len([call for call in provider.calls if call.model == model]) == 1


def test_a_question_asked_in_one_tab_appears_in_the_other_by_itself(page_of, scripted, parley):
    plain, model = scripted(Script(tokens=5)), scripted(Script(tokens=30, seed=15, at=9, gate=(gate := Gate())))
    first = page_of("alice")
    ends(ask(first, "Once", plain))
    second = first.context.new_page()
    second.goto(first.url)
    listening(parley, "alice", tabs=2)
    ask(first, "Twice", model)
    expect(second.locator(".question .said")).to_have_text(["Once", "Twice"])
    shows(second.locator("article.answer").nth(1), text(15, 9))
    gate.open()
    ends(second.locator("article.answer").nth(1))
    shows(second.locator("article.answer").nth(1), text(15, 30))


def test_a_second_question_goes_on_in_the_same_conversation(page_of, scripted, provider):
    model = scripted(Script(tokens=4, seed=16))
    page = page_of("alice")
    ends(ask(page, "First", model))
    address = page.url
    assert "/c/" in address
    ends(ask(page, "Second"))
    assert page.url == address
    expect(page.locator(".question .said")).to_have_text(["First", "Second"])
    sent = [call.body["messages"] for call in provider.calls if call.model == model][-1]
    assert [message["content"] for message in sent] == ["First", text(16, 4), "Second"]
    page.reload()
    expect(page.locator(".question .said")).to_have_text(["First", "Second"])


def test_a_question_while_an_answer_is_being_written_waits_in_the_box(page_of, scripted):
    model = scripted(Script(tokens=9, seed=17, at=3, gate=(gate := Gate())))
    page = page_of("alice")
    answer = ask(page, "First", model)
    shows(answer, text(17, 3))
    page.fill("#text", "Too early")
    page.press("#text", "Enter")
    expect(page.locator("#problem")).to_contain_text("An answer is being written")
    expect(page.locator("#text")).to_have_value("Too early")
    gate.open()
    ends(answer)
    expect(page.locator("#problem")).to_be_empty()
    page.press("#text", "Enter")
    ends(page.locator("article.answer").nth(1))
    expect(page.locator(".question .said")).to_have_text(["First", "Too early"])


def test_thoughts_are_folded_away_and_their_time_is_told(page_of, scripted, parley):
    model = scripted(Script(tokens=5, reasoning=3, seed=18))
    answer = ask(page_of("alice"), "Think", model)
    ends(answer)
    expect(answer.locator("summary")).to_contain_text("Thought")
    expect(answer.locator(".thought")).to_be_hidden()
    answer.locator("summary").click()
    expect(answer.locator(".thought")).to_have_text("thought0 thought1 thought2")


def test_copy_gives_the_exact_markdown_of_an_answer_and_the_exact_code_of_a_block(page_of, scripted):
    page_source = "<b>*x*</b> & `y`\n\n</template>\n\n```sh\necho  'a  b'\n```\n"
    model = scripted(Script(pieces=(page_source,)))
    page = page_of("alice", permissions=["clipboard-read", "clipboard-write"])
    answer = ask(page, "Copy me", model)
    ends(answer)
    answer.locator("[data-copy-answer]").click()
    until(lambda: page.evaluate("navigator.clipboard.readText()") == page_source)
    answer.locator("[data-copy-code]").click()
    until(lambda: page.evaluate("navigator.clipboard.readText()") == "echo  'a  b'\n")
