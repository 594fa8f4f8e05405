"""The staff's live board in a browser: what is being written now, by whom, and a hand on every stop."""

import signal

import pytest
from playwright.sync_api import expect

from bench.script import Gate, Script, text
from tests.browser import BROKEN, REFUSED, ask, ends, shows


@pytest.fixture
def board(page_of):
    """The live board of somebody who is staff."""
    page = page_of("staff", "/staff/live/")
    expect(page.locator("#link")).to_have_attribute("data-state", "live")
    return page


def row_of(board, answer):
    """The row of an answer, given its article on its user's page."""
    return board.locator(f"tr[data-answer='{answer.get_attribute('data-answer')}']")


def test_a_row_appears_while_an_answer_is_written_and_leaves_when_it_ends(board, page_of, scripted, parley):
    model = scripted(Script(tokens=40, seed=61, at=30, gate=(gate := Gate())))
    answer = ask(page_of("alice"), "Hello", model)
    shows(answer, text(61, 30))
    row = row_of(board, answer)
    expect(row.locator("[data-col=user]")).to_have_text("alice")
    expect(row.locator("[data-col=model]")).to_have_text(model)
    expect(row.locator(".chip")).to_have_text("streaming")
    expect(row.locator("[data-col=tokens]")).to_have_text("30")
    expect(row.locator("[data-col=viewers]")).to_have_text("1")
    expect(board.locator("#people li", has_text="alice")).to_contain_text("1 tab, chat")
    expect(board.locator("#n-answers")).not_to_have_text("0")
    assert text(61, 30).split()[0] not in board.content(), "the board shows no text of anybody"
    gate.open()
    expect(row).to_have_count(0)
    expect(board.locator("#n-p50")).to_contain_text(" s")


def test_stop_on_a_row_ends_the_answer_and_its_user_is_told_who_did_it(board, page_of, scripted, parley):
    model = scripted(Script(tokens=40, seed=62, at=10, gate=Gate()))
    page = page_of("alice")
    answer = ask(page, "Hello", model)
    shows(answer, text(62, 10))
    row = row_of(board, answer)
    board.get_by_role("button", name="Stop the answer of alice").and_(row.locator("button")).click()
    assert parley.answer(ends(answer, "stopped"))["stop_by"] == "administrator"
    expect(answer.locator(".ended")).to_contain_text("Stopped by an administrator")
    shows(answer, text(62, 10))
    expect(page.locator("#send")).to_be_visible()
    expect(row).to_have_count(0)


def test_the_focus_stays_on_a_row_while_updates_come_and_moves_on_when_the_row_leaves(board, page_of, scripted):
    first = scripted(Script(tokens=4000, seed=63, rate=40, at=3000, gate=Gate()))
    second = scripted(Script(tokens=40, seed=64, at=10, gate=Gate()))
    answer = ask(page_of("alice"), "Hello", first)
    row = row_of(board, answer)
    row.locator("button").focus()
    tokens = row.locator("[data-col=tokens]")
    before = tokens.text_content()
    other = ask(page_of("bob"), "Hello", second)
    expect(row_of(board, other)).to_be_visible()
    expect(tokens).not_to_have_text(before)
    expect(row.locator("button")).to_be_focused()
    board.keyboard.press("Enter")
    ends(answer, "stopped")
    expect(row).to_have_count(0)
    assert board.evaluate("document.activeElement.matches('#answers button')"), "the focus is on a neighbour"


def test_pause_holds_the_board_still_and_resume_catches_up(board, scripted, parley):
    model = scripted(Script(tokens=40, seed=65, at=10, gate=(gate := Gate())))
    sockets = []
    board.on("websocket", lambda socket: sockets.append(socket))
    board.reload()
    expect(board.locator("#link")).to_have_attribute("data-state", "live")
    board.get_by_role("button", name="Pause").click()
    expect(board.locator("#link-text")).to_contain_text("Paused")
    with sockets[0].expect_event("framereceived", lambda frame: model in frame):
        asked = parley.client("alice").ask("Hello", model)
    expect(board.locator(f"tr[data-answer='{asked['answer']}']")).to_have_count(0)
    board.get_by_role("button", name="Resume").click()
    expect(board.locator(f"tr[data-answer='{asked['answer']}']")).to_be_visible()
    expect(board.locator("#link")).to_have_attribute("data-state", "live")
    gate.open()
    parley.ended(asked["answer"])


def test_a_board_whose_server_goes_away_says_so_and_comes_back_by_itself(page_of, scripted, serve):
    server = serve()
    model = scripted(Script(tokens=40, seed=66, at=10, gate=Gate()), server)
    board = page_of("staff", "/staff/live/", server=server, announced=(BROKEN,))
    asked = server.client("alice").ask("Hello", model)
    row = board.locator(f"tr[data-answer='{asked['answer']}']")
    expect(row).to_be_visible()
    server.end(signal.SIGKILL)
    expect(board.locator("#link-text")).to_contain_text("Disconnected")
    expect(row).to_be_visible()
    server.start()
    expect(board.locator("#link-text")).to_have_text("Live")
    expect(row).to_have_count(0)
    expect(board.locator("#no-answers")).to_be_visible()


@pytest.mark.parametrize("name", ["alice", ""])
def test_who_is_not_staff_does_not_see_the_board(page_of, name):
    page = page_of(name, "", announced=(REFUSED,))
    response = page.goto("/staff/live/")
    if name:
        assert response.status == 403
        expect(page.get_by_role("heading", name="This is not open to you")).to_be_visible()
    else:
        page.wait_for_url("/login/?next=/staff/live/")
    expect(page.locator("#answers")).to_have_count(0)


def test_somebody_who_loses_the_right_while_watching_loses_the_board(page_of, parley):
    temp = "from django.contrib.auth.models import User; User.objects.filter(username='temp')"
    session = parley.sign_up("temp").session
    parley.shell(f"{temp}.update(is_staff=True)")
    board = page_of("", "/staff/live/", session=session)
    expect(board.locator("#link")).to_have_attribute("data-state", "live")
    parley.shell(f"{temp}.update(is_staff=False)")
    expect(board.locator("#link-text")).to_contain_text("Staff only")


@pytest.mark.parametrize("width", [320, 390])
def test_the_board_fits_narrow_screens(page_of, scripted, width):
    model = scripted(Script(tokens=40, seed=67, at=10, gate=Gate()))
    answer = ask(page_of("alice"), "Hello", model)
    board = page_of("staff", "/staff/live/", viewport={"width": width, "height": 700})
    expect(row_of(board, answer).locator("button")).to_be_visible()
    assert board.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0
