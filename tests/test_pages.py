"""Pages through plain HTTP: signing in and up, themes, and the list of conversations."""

import re
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.parley import PASSWORD, Client, Parley


@pytest.fixture(scope="module")
def carol(parley) -> Client:
    """An account of this file's own, with a list of conversations of its own."""
    return parley.sign_up("carol")


@pytest.fixture
def said(carol: Client, parley: Parley) -> Iterator[str]:
    """A conversation of Carol's."""
    asked = carol.ask("What is the tide?")
    parley.ended(asked["answer"])
    yield asked["conversation"]
    carol.post(f"/c/{asked['conversation']}/delete")


def titles(page: str) -> list[str]:
    """The titles of the list, from the top."""
    return re.findall(r'id="go-[^>]*>([^<]*)</a>', page)


def test_a_new_account_is_signed_in_at_once_and_can_sign_in_again(parley):
    name = f"dora-{uuid4().hex[:8]}"
    form = {"username": name, "password1": PASSWORD, "password2": PASSWORD}
    made = parley.client().post("/signup/", form)
    assert (made.status, made.headers["location"]) == (302, "/")
    assert name in parley.sign_in(name).get("/").text
    again = parley.client().post("/signup/", form)
    assert again.status == 200
    assert "already exists" in again.text


@pytest.mark.parametrize("password", ["short1!", "password", "12345678"])
def test_a_weak_password_is_refused_beside_its_field(parley, password):
    name = f"eve-{uuid4().hex[:8]}"
    refused = parley.client().post("/signup/", {"username": name, "password1": password, "password2": password})
    assert refused.status == 200
    assert "field-error" in refused.text
    assert parley.rows("select id from auth_user where username = ?", name) == []


def test_where_sign_up_is_off_there_is_no_way_to_it(serve, parley):
    closed = serve(CHAT_SIGNUP="no")
    form = {"username": "eve", "password1": PASSWORD, "password2": PASSWORD}
    assert closed.client().get("/signup/").status == 404
    assert closed.client().post("/signup/", form).status == 404
    assert closed.rows("select id from auth_user where username = 'eve'") == []
    assert "/signup/" not in closed.client().get("/login/").text
    assert "/signup/" in parley.client().get("/login/").text


def test_a_wrong_password_is_told_without_saying_which_half_was_wrong(parley, carol):
    for name in ("carol", "nobody-of-that-name"):
        refused = parley.client().post("/login/", {"username": name, "password": "wrong-harbour"})
        assert refused.status == 200
        assert "sessionid" not in refused.cookies
        assert "Please enter a correct username and password" in refused.text


def test_a_person_who_is_signed_out_is_led_back_to_where_they_wanted_to_go(parley, said):
    sent = parley.client().get(f"/c/{said}/")
    assert (sent.status, sent.headers["location"]) == (302, f"/login/?next=/c/{said}/")
    form = {"username": "carol", "password": PASSWORD, "next": f"/c/{said}/"}
    back = parley.client().post("/login/", form)
    assert back.headers["location"] == f"/c/{said}/"
    away = parley.client().post("/login/", form | {"next": "https://evil.example/"})
    assert away.headers["location"] == "/"


def test_signing_out_needs_a_form_and_ends_the_session(parley, carol):
    phone = parley.sign_in("carol")
    assert phone.get("/logout/").status == 405
    assert phone.get("/").status == 200
    assert phone.post("/logout/").headers["location"] == "/login/"
    assert phone.get("/").status == 302
    assert carol.get("/").status == 200, "other sessions stay"


@pytest.mark.parametrize("theme", ["light", "dark", "system"])
def test_a_theme_is_kept_in_a_cookie_and_written_into_the_page_by_the_server(parley, carol, theme):
    chosen = carol.post("/theme", {"theme": theme}, HX_Request="true")
    assert (chosen.status, chosen.headers["hx-refresh"]) == (204, "true")
    assert chosen.cookies["theme"].startswith(f"theme={theme};")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(chosen.cookies["theme"].split("; "))
    cookie = f"{carol.headers()['Cookie']}; theme={theme}"
    for path in ("/", "/login/"):
        client = carol if path == "/" else parley.client()
        assert f'data-theme="{theme}"' in client.get(path, Cookie=cookie if path == "/" else f"theme={theme}").text


def test_a_theme_that_is_none_is_refused_and_never_written_into_a_page(parley, carol):
    assert carol.post("/theme", {"theme": 'x" onload="alert(1)'}).status == 422
    page = carol.get("/", Cookie=f'{carol.headers()["Cookie"]}; theme="><script>alert(1)</script>')
    assert 'data-theme="system"' in page.text
    assert "alert(1)" not in page.text


@pytest.mark.parametrize(
    ("referer", "back"),
    [("http://{base}/login/", "http://{base}/login/"), ("https://evil.example/", "/"), ("", "/")],
)
def test_without_scripts_a_theme_leads_back_to_the_page_but_never_to_another_site(carol, referer, back):
    chosen = carol.post("/theme", {"theme": "dark"}, Referer=referer.format(base=carol.base))
    assert (chosen.status, chosen.headers["location"]) == (302, back.format(base=carol.base))


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("What is the tide?", "What is the tide?"),
        ("  several\n\n lines\tof   text ", "several lines of text"),
        ("word " * 40, "word " * 11 + "word…"),
        ("x" * 80, "x" * 59 + "…"),
        ("<b>&amp;</b>", "&lt;b&gt;&amp;amp;&lt;/b&gt;"),
    ],
    ids=["short", "lines", "long", "one long word", "markup"],
)
def test_the_title_is_the_beginning_of_the_first_question(carol, parley, question, title):
    asked = carol.ask(question)
    parley.ended(asked["answer"])
    page = carol.get("/sidebar").text
    assert titles(page)[0] == title
    assert f'<h1 id="title" dir="auto">{title}</h1>' in carol.get(f"/c/{asked['conversation']}/").text


def test_the_list_has_the_newest_conversation_first_and_marks_the_one_that_is_open(carol, parley):
    asked = [carol.ask(f"Question {n}") for n in range(3)]
    for one in asked:
        parley.ended(one["answer"])
    assert titles(carol.get("/sidebar").text)[:3] == ["Question 2", "Question 1", "Question 0"]
    parley.ended(carol.ask("Once more", conversation=asked[0]["conversation"])["answer"])
    page = carol.get(f"/sidebar?current={asked[0]['conversation']}").text
    assert titles(page)[:3] == ["Question 0", "Question 2", "Question 1"]
    current = re.findall(r'id="go-([^"]*)"[^>]*aria-current="page"', page)
    assert current == [asked[0]["conversation"]]


def test_a_conversation_is_renamed_by_the_page_and_without_scripts(carol, said):
    fragment = carol.post(f"/c/{said}/rename", {"title": " Ebb  and <i>flow</i> "}, HX_Request="true")
    assert fragment.status == 200
    assert "Ebb and &lt;i&gt;flow&lt;/i&gt;" in titles(fragment.text)
    assert "<html" not in fragment.text
    plain = carol.post(f"/c/{said}/rename", {"title": "Tides"})
    assert (plain.status, plain.headers["location"]) == (302, f"/c/{said}/")
    assert "<title>Tides · Parley</title>" in carol.get(f"/c/{said}/").text


def test_a_deleted_conversation_is_gone_from_the_list_and_from_its_address(carol, parley):
    first, second = (carol.ask("To be deleted") for _ in range(2))
    for one in (first, second):
        parley.ended(one["answer"])
    beside = carol.post(f"/c/{first['conversation']}/delete", {"current": second["conversation"]}, HX_Request="true")
    assert beside.status == 200
    assert "hx-redirect" not in beside.headers
    assert first["conversation"] not in beside.text
    assert second["conversation"] in beside.text
    current = carol.post(f"/c/{second['conversation']}/delete", {"current": second["conversation"]}, HX_Request="true")
    assert current.headers["hx-redirect"] == "/"
    for one in (first, second):
        assert carol.get(f"/c/{one['conversation']}/").status == 404
        assert carol.post(f"/c/{one['conversation']}/delete").status == 404
        assert parley.rows("select id from chat_message where id = ?", one["answer"].replace("-", "")) == []


def test_deleting_stops_what_is_being_written(carol, parley, offer, provider):
    model = offer("fake?fault=silent-first&seed=171")
    asked = carol.ask("Never mind", model)
    provider.wait(lambda calls: any(call.model == model and call.state == "open" for call in calls))
    assert carol.post(f"/c/{asked['conversation']}/delete").status == 302
    provider.wait(lambda calls: all(call.state == "aborted" for call in calls if call.model == model))
    [call] = parley.rows("select outcome, closed_at, user_id, answer_id from chat_modelcall where model = ?", model)
    assert call["outcome"] == "stopped"
    assert call["closed_at"]
    assert call["answer_id"] is None, "the ledger keeps the call"


def test_the_fragment_of_the_turns_is_what_the_page_shows(carol, said):
    fragment = carol.get(f"/c/{said}/thread", HX_Request="true").text
    assert "<html" not in fragment
    assert fragment.strip() in carol.get(f"/c/{said}/").text
