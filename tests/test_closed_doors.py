"""Who may not come in is told so: forged forms, wrong verbs, people who are signed out, and too much at once."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from tests.parley import Client, Parley, free_port
from tests.refusals import assert_partial, assert_refused, nothing_changes
from tests.route_table import ROWS

QUESTION = {"text": "Hello", "model": "fake?tokens=1&seed=78"}
# Addresses of the app by route, with the verbs that have a row. Django's own login view takes more than it needs.
TAKES = {
    route: {row.verb for row in ROWS if row.route == route}
    for route in dict.fromkeys(row.route for row in ROWS)
    if not route.startswith(("admin/", "login/", "logout/", "healthz", "readyz"))
}
FORMS = ("signup/", "theme")  # for people alone
DOORS = [route for route in TAKES if route not in FORMS]


def address(route: str) -> str:
    return "/" + re.sub("<uuid:[a-z]+>", lambda _: str(uuid4()), route)


@pytest.fixture(scope="module")
def trent(parley, provider) -> Client:
    """A user of this file's own."""
    provider.state.models.append(QUESTION["model"])
    client = parley.sign_up("trent")
    assert client.post("/models").status == 200
    return client


@pytest.fixture
def unchanged(parley, provider) -> Callable[..., Any]:
    return partial(nothing_changes, parley, provider, "trent", QUESTION["model"])


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"X-CSRFToken": ""},
        {"X-CSRFToken": "d" * 32},
    ],
    ids=str,
)
def test_a_form_of_another_site_is_refused(trent, unchanged, headers):
    with unchanged():
        for path in ("/conversations", "/models", "/theme"):
            refused = trent.post(path, QUESTION, Accept="application/json", **named(headers))
            assert_refused(refused, 403, "forbidden")
            assert_partial(trent.post(path, QUESTION, HX_Request="true", **named(headers)), 403, "forbidden")
    taken = trent.post("/conversations", QUESTION, Accept="application/json", Origin=f"http://{trent.base}")
    assert taken.status == 201, "the same form of this site"


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


def test_a_forged_sign_out_changes_nothing(trent):
    refused = trent.post("/logout/", {}, Origin="https://evil.example")
    assert refused.status == 403
    assert trent.get("/sidebar").status == 200


def test_a_program_with_a_token_needs_no_form_token_and_a_bad_token_opens_nothing(parley):
    program = parley.client("alice", token=True)
    assert program.post("/conversations", QUESTION | {"model": "fake"}, Accept="application/json").status == 201
    for token in ("", "parley_x", program.token[:-1], program.token + "x", parley.people["alice"]["session"]):
        stranger = Client(parley.base, token=token or "-")
        assert_refused(stranger.post("/conversations", QUESTION, Accept="application/json"), 401, "signed_out")


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
@pytest.mark.parametrize("route", TAKES)
def test_a_wrong_verb_is_told_the_right_ones(trent, unchanged, route, verb):
    if verb in TAKES[route]:
        answered = trent.request(verb, address(route), {} if verb == "POST" else None)
        assert answered.status != 405
        return
    with unchanged():
        refused = trent.request(verb, address(route), {}, Accept="application/json")
        assert set(refused.headers["allow"].split(", ")) == TAKES[route]
        assert refused.status == 405
        if route not in FORMS:
            assert_refused(refused, 405, "method")


@pytest.mark.parametrize(
    "accept", ["application/json", "text/event-stream", "text/event-stream, */*", "application/json, */*"]
)
@pytest.mark.parametrize("route", DOORS)
def test_a_program_that_is_signed_out_is_never_sent_to_a_page(parley, route, accept):
    for client in (parley.client(), parley.client("gone"), parley.client("gone", token=True)):
        for verb in TAKES[route]:
            refused = client.request(verb, address(route), {} if verb == "POST" else None, Accept=accept)
            assert_refused(refused, 401, "signed_out")
            assert "location" not in refused.headers


@pytest.mark.parametrize("route", DOORS)
def test_a_page_that_is_signed_out_is_told_so_in_place(parley, route):
    for verb in TAKES[route]:
        refused = parley.client().request(verb, address(route), {} if verb == "POST" else None, HX_Request="true")
        assert_partial(refused, 401, "signed_out")
        assert 'href="/login/"' in refused.text


def test_an_event_stream_without_any_accept_header_is_refused_with_401_and_not_with_a_redirect(parley):
    refused = parley.client().get(f"/answers/{uuid4()}/events")
    assert refused.status == 401
    assert "location" not in refused.headers


def test_too_many_open_answers_have_to_wait_and_are_told_when_to_come_back(serve, provider):
    model = "fake?fault=silent-first&seed=79"
    provider.state.models.append(model)
    server: Parley = serve(CHAT_MAX_OPEN_ANSWERS="2")
    alice = server.client("alice")
    opened = [alice.ask("Hello", model) for _ in range(2)]
    provider.wait(lambda calls: sum(call.model == model for call in calls) == 2)
    question = {"text": "Hello", "model": model}
    with nothing_changes(server, provider, "alice", model):
        program = alice.post("/conversations", question, Accept="application/json", Idempotency_Key="third")
        page = alice.post("/conversations", question, HX_Request="true")
    assert_refused(program, 429, "too_many")
    assert_partial(page, 429, "too_many")
    wait = program.headers["retry-after"]
    assert int(wait) > 0
    assert page.headers["retry-after"] == wait
    assert f'data-retry-after="{wait}"' in page.text
    assert server.client("bob").ask("Hello", "fake"), "others are not concerned"
    assert alice.post(f"/answers/{opened[0]['answer']}/stop").status == 200
    assert alice.post("/conversations", question, Accept="application/json", Idempotency_Key="third").status == 201


def test_without_any_model_a_question_is_told_when_to_come_back(serve, provider):
    server: Parley = serve(OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1")
    with nothing_changes(server, provider, "alice"):
        refused = server.client("alice").post("/conversations", {"text": "Hello"}, Accept="application/json")
        assert_refused(refused, 503, "no_models")
        assert int(refused.headers["retry-after"]) > 0
