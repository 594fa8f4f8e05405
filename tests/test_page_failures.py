"""When something fails nothing that was written is lost, and one click goes on: refusals, no network, failed answers."""

import signal

from playwright.sync_api import expect

from bench.script import Gate, Script, text
from tests.browser import BROKEN, REFUSED, ask, ends, showed_only, shows, watch
from tests.parley import until

VIEW = "() => { const thread = document.getElementById('thread'); return [thread.scrollTop, thread.scrollHeight]; }"


def test_a_refused_question_goes_back_into_the_box_with_the_reason(page_of, scripted, alice):
    model = scripted(Script(tokens=3))
    page = page_of("alice", announced=(REFUSED,))
    ends(ask(page, "First", model))
    assert alice.post(page.url.partition(alice.base)[2] + "delete").status == 302  # on another device
    view = page.evaluate(VIEW)
    ask(page, "A question with nowhere to go")
    expect(page.locator("#problem")).to_contain_text("There is nothing here, or it is not yours.")
    expect(page.locator("#text")).to_have_value("A question with nowhere to go")
    expect(page.locator(".question .said")).to_have_text(["First"])
    expect(page.locator("#text")).to_be_focused()
    assert page.evaluate(VIEW) == view, "the conversation is shown where it was"


def test_without_a_network_the_question_stays_and_one_click_sends_it_once(page_of, scripted, provider):
    model = scripted(Script(tokens=3))
    page = page_of("alice", announced=(BROKEN,))
    page.select_option("#model", model)
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_be_visible()
    ask(page, "Across the water")
    expect(page.locator("#problem")).to_contain_text("Not sent.")
    expect(page.locator("#text")).to_have_value("Across the water")
    expect(page.locator(".question")).to_have_count(0)
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()
    page.locator("#problem").get_by_role("button", name="Retry").click()
    ends(page.locator("article.answer"))
    expect(page.locator("#problem")).to_be_empty()
    expect(page.locator("#text")).to_have_value("")
    expect(page.locator(".question .said")).to_have_text(["Across the water"])
    assert len([call for call in provider.calls if call.model == model]) == 1


def test_a_lost_reply_and_a_second_click_still_ask_only_once(page_of, scripted, provider):
    model = scripted(Script(tokens=3, seed=31))
    page = page_of("alice", announced=(BROKEN,))

    def lose(route):
        route.fetch()
        route.abort()

    page.route("**/conversations", lose, times=1)
    ask(page, "Heard, but not confirmed", model)
    expect(page.locator(".entry a", has_text="Heard, but not confirmed")).to_have_count(1)  # a push told of it
    page.locator("#problem").get_by_role("button", name="Retry").click()
    shows(page.locator("article.answer"), text(31, 3))
    expect(page.locator(".question .said")).to_have_text(["Heard, but not confirmed"])
    expect(page.locator("#text")).to_have_value("")
    assert len([call for call in provider.calls if call.model == model]) == 1


def test_a_draft_outlives_a_reload_and_belongs_to_its_conversation(page_of, scripted):
    model = scripted(Script(tokens=3))
    page = page_of("alice")
    ends(ask(page, "First", model))
    page.fill("#text", "half a thought")
    page.reload()
    expect(page.locator("#text")).to_have_value("half a thought")
    page.get_by_role("link", name="New chat").first.click()
    expect(page.locator("#welcome")).to_be_visible()
    expect(page.locator("#text")).to_have_value("")
    page.go_back()
    expect(page.locator("#text")).to_have_value("half a thought")


def test_signed_out_in_another_tab_the_page_keeps_the_draft_and_links_back(page_of, parley):
    session = parley.sign_up("petra").session
    page = page_of(session=session, announced=(REFUSED,))
    parley.shell(f"from django.contrib.sessions.models import Session; Session.objects.filter(pk='{session}').delete()")
    ask(page, "Still here")
    expect(page.locator("#problem")).to_contain_text("You are signed out.")
    expect(page.locator("#text")).to_have_value("Still here")
    page.get_by_role("link", name="Sign in again").click()
    page.wait_for_url("/login/?next=%2F")


def test_a_failed_answer_says_why_and_retry_replaces_it(page_of, scripted, provider, parley):
    model = scripted(Script(tokens=20, seed=32, fault="cut", at=6))
    page = page_of("alice")
    answer = ask(page, "Try", model)
    row = parley.answer(ends(answer, "failed"))
    shows(answer, text(32, 6))
    expect(answer.locator(".problem")).to_contain_text(row["error_message"])
    expect(answer.locator(".problem code")).to_have_text(row["request_id"])
    provider.script(model, Script(tokens=20, seed=32))
    answer.get_by_role("button", name="Retry").click()
    shows(answer, text(32, 20))
    assert ends(answer) != row["id"]
    expect(page.locator("article.answer")).to_have_count(1)
    page.reload()
    shows(answer, text(32, 20))
    expect(page.locator("article.answer")).to_have_count(1)


def test_after_a_restart_the_page_comes_back_by_itself_and_the_answer_is_marked_interrupted(page_of, scripted, serve):
    server = serve()
    model = scripted(Script(tokens=40, seed=33, at=20, gate=Gate()), server)
    page = page_of("alice", server=server, announced=(BROKEN,))
    answer = ask(page, "Hold on", model)
    shows(answer, text(33, 20))
    watch(answer)
    until(lambda: server.rows("select 1 from chat_message where text = ?", text(33, 20)), "the text is in the row")
    server.end(signal.SIGKILL)
    expect(answer.locator(".now")).to_contain_text("Reconnecting")
    shows(answer, text(33, 20))
    server.start()
    ends(answer, "interrupted")
    expect(answer).to_contain_text("The server restarted; what was written is kept.")
    shows(answer, text(33, 20))
    showed_only(page, text(33, 20))
    scripted(Script(tokens=9, seed=34), server, name=model)
    answer.get_by_role("button", name="Retry").click()
    shows(answer, text(34, 9))
    ends(answer)
    ends(ask(page, "And on it goes"))
