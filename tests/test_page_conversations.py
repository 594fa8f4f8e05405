"""What surrounds a conversation: its place in the list, its title, its end, and the choice of a model."""

import pytest
from playwright.sync_api import expect

from bench.script import Gate, Script
from tests.browser import REFUSED, ask, ends, listening
from tests.parley import PASSWORD


@pytest.fixture
def entry_of(page_of, scripted):
    """A page with one answered question, and the question's entry in the list: entry_of("Knots")."""

    def entry_of(question, **options):
        page = page_of("alice", **options)
        ends(ask(page, question, scripted_model))
        return page, page.locator(f"#s-{page.url.split('/')[-2]}")

    scripted_model = scripted(Script(tokens=3))
    return entry_of


def choose(page, entry, what):
    entry.hover()
    entry.locator(".more").click()
    page.locator("#row-menu").get_by_text(what).click()


def test_the_first_question_becomes_the_title_in_the_list_in_the_bar_and_of_the_tab(entry_of):
    page, entry = entry_of("How do I tie a bowline?")
    expect(entry.locator("a")).to_have_text("How do I tie a bowline?")
    expect(entry.locator("a")).to_have_attribute("aria-current", "page")
    expect(page.locator("#title")).to_have_text("How do I tie a bowline?")
    expect(page).to_have_title("How do I tie a bowline? · Parley")


def test_renaming_in_place_changes_every_place_and_every_other_page(entry_of, page_of):
    page, entry = entry_of("Knots")
    elsewhere = page_of("alice")
    choose(page, entry, "Rename")
    field = entry.locator("input[name=title]")
    expect(field).to_be_focused()
    field.fill("Ropes & <knots>")
    field.press("Enter")
    expect(entry.locator("a")).to_have_text("Ropes & <knots>")
    expect(page.locator("#title")).to_have_text("Ropes & <knots>")
    expect(page).to_have_title("Ropes & <knots> · Parley")
    elsewhere.reload()
    expect(elsewhere.locator(f"#{entry.get_attribute('id')} a")).to_have_text("Ropes & <knots>")


def test_escape_leaves_a_title_as_it_was(entry_of):
    page, entry = entry_of("Splices")
    choose(page, entry, "Rename")
    entry.locator("input[name=title]").fill("Something else")
    page.keyboard.press("Escape")
    expect(entry.locator("a")).to_be_visible()
    expect(entry.locator("a")).to_have_text("Splices")
    page.reload()
    expect(entry.locator("a")).to_have_text("Splices")


def test_deleting_asks_first_and_then_leaves_nothing_behind(entry_of, parley):
    page, entry = entry_of("A secret", announced=(REFUSED,))
    address = page.url
    choose(page, entry, "Delete")
    expect(page.locator("#confirm")).to_contain_text("Delete “A secret”? This cannot be undone.")
    page.get_by_role("button", name="Keep").click()
    expect(entry).to_be_visible()
    choose(page, entry, "Delete")
    page.locator("#confirm").get_by_role("button", name="Delete").click()
    expect(entry).to_have_count(0)
    page.wait_for_url("/")
    expect(page.locator("#welcome")).to_be_visible()
    page.goto(address)
    expect(page.get_by_role("heading", name="Nothing is here")).to_be_visible()


def test_the_chosen_model_answers_and_stays_chosen(page_of, scripted, provider):
    first, second = scripted(Script(tokens=3)), scripted(Script(tokens=3))
    page = page_of("alice")
    for model in (first, second):
        answer = ask(page, "Who are you?", model)
        ends(answer)
        expect(answer.locator("h2")).to_contain_text(model)
    assert [call.model for call in provider.calls if call.model in (first, second)] == [first, second]
    page.reload()
    expect(page.locator("#model")).to_have_value(second)


def test_the_list_of_models_can_be_read_anew(page_of, provider, offer):
    chosen = offer("fake?tokens=2&seed=41")
    page = page_of("alice")
    page.select_option("#model", chosen)
    provider.state.models.append("fake?tokens=2&seed=909142")
    page.get_by_role("button", name="Refresh the list of models").click()
    expect(page.locator("#model option", has_text="seed=909142")).to_have_count(1)
    expect(page.locator("#model")).to_have_value(chosen)


def test_a_conversation_begun_on_another_device_appears_with_a_dot_that_tells_when_it_ends(
    page_of, scripted, parley, alice
):
    model = scripted(Script(tokens=3, at=1, gate=(gate := Gate())))
    page = page_of("alice")
    listening(parley, "alice", tabs=1)
    conversation = alice.ask("From the phone", model)["conversation"]
    entry = page.locator(f"#s-{conversation}")
    expect(entry.locator("a")).to_have_text("From the phone")
    expect(entry.locator(".dot")).to_have_attribute("data-what", "running")
    gate.open()
    expect(entry.locator(".dot")).to_have_attribute("data-what", "unread")
    expect(page).to_have_title("• Parley")


def test_signing_in_leads_back_to_where_one_was(page_of, parley):
    nora = parley.sign_up("nora")
    conversation = nora.ask("Mine", "fake")["conversation"]
    page = page_of("", f"/c/{conversation}/")
    page.fill("[name=username]", "nora")
    page.fill("[name=password]", "not this one")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".problem")).to_contain_text("correct username and password")
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"/c/{conversation}/")
    expect(page.locator(".question .said")).to_have_text("Mine")


def test_signing_up_opens_an_empty_chat_and_signing_out_ends_it(page_of):
    page = page_of("")
    page.get_by_role("link", name="Create an account").click()
    page.fill("[name=username]", "olga")
    page.fill("[name=password1]", PASSWORD)
    page.fill("[name=password2]", PASSWORD + "x")
    page.get_by_role("button", name="Create account").click()
    expect(page.locator(".field-error")).to_contain_text("didn’t match")
    page.fill("[name=password1]", PASSWORD)
    page.fill("[name=password2]", PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.locator("#welcome")).to_contain_text("What is on your mind, olga?")
    page.fill("#text", "a draft that nobody else may find")
    page.get_by_text("Account menu").locator("..").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("/login/")
    assert page.evaluate("Object.keys(localStorage)") == []
    page.goto("/")
    page.wait_for_url("/login/?next=/")
