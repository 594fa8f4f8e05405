"""Everybody at every door: the statuses of tests/route_table.py, and no byte of anybody else's text anywhere."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.urls import URLPattern, get_resolver

from bench.script import Script
from chat.routing import websocket_urlpatterns
from tests.parley import Parley, close_code, hear, say
from tests.route_table import BODIES, MANNERS, PEOPLE, READS, ROWS, TALKS, WITH_ID, Row

CANARY = "canary-of-alice-5c1d"
# More rows for the admin, and sessions to sign out of.
MORE = """
import json
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
Group.objects.create(pk=1, name="readers")
def another(key):
    spare = SessionStore()
    spare.update(SessionStore(key).load())
    spare.create()
    return spare.session_key
print(json.dumps({name: [another(key) for _ in range(10)] for name, key in sessions.items()}))
"""


def addresses(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        here = prefix + str(pattern.pattern)
        yield from [here] if isinstance(pattern, URLPattern) else addresses(pattern.url_patterns, here)


@pytest.fixture(scope="module")
def site(serve_all, provider) -> Parley:
    """A server of this file's own: the table signs people out and deletes rows."""
    provider.script("fake-canary", Script(pieces=(f"{CANARY} said the model",), finish="length"))  # it can be continued
    provider.state.models += ["fake-canary", "fake?tokens=1"]
    server = serve_all()
    sessions = {name: person["session"] for name, person in server.people.items()}
    spare = json.loads(server.shell(f"sessions = {sessions}{MORE}").splitlines()[-1])
    server.people = {name: person | {"spare": spare[name]} for name, person in server.people.items()}
    return server


def ids(site: Parley) -> dict[str, str]:
    """A conversation of Alice's whose every word is the canary, and the other rows that the admin shows."""
    asked = site.client("alice").ask(f"{CANARY} asked", "fake-canary")
    site.ended(asked["answer"])
    [call] = site.calls(asked["answer"])
    [token] = site.rows("select id from chat_apitoken where user_id = ?", site.people["alice"]["id"])
    user = str(site.people["bob"]["id"])
    return asked | {"modelcall": call["id"], "apitoken": str(token["id"]), "group": "1", "user": user}


@pytest.fixture(scope="module")
def kept(site: Parley) -> dict[str, str]:
    """Rows to look at; those who change something make some of their own."""
    return ids(site)


@pytest.fixture(scope="module")
def deleted(site: Parley) -> dict[str, str]:
    """Ids that were Alice's."""
    gone = ids(site)
    assert site.client("alice").post(f"/c/{gone['conversation']}/delete").status == 302
    return gone | {"modelcall": str(uuid4()), "apitoken": "987654", "group": "987654", "user": "987654"}


def address(route: str, ids: dict[str, str]) -> str:
    """The route with the ids in their places."""
    kind = found[1] if (found := re.match(r"admin/\w+/(\w+)/", route)) else ""
    places = {"<uuid:conversation>": ids["conversation"], "<uuid:answer>": ids["answer"], "<id>": ids["user"]}
    places |= {"<uuid:message>": ids["question"]}
    places |= {"<path:content_type_id>": "1", "<path:object_id>": ids.get(kind, ids["conversation"])}
    places |= {"^(?P<app_label>chat|auth)/$": "chat/", "(?P<url>.*)$": "nothing"}
    for place, value in places.items():
        route = route.replace(place, value)
    return f"/{route}"


def visit(site: Parley, row: Row, person: str, manner: str, path: str) -> int:
    """The status; and nobody sees the canary but those who may, and they do see it where they are let in."""
    client = site.client(person, token=manner == "token") if person != "nobody" else site.client()
    if "logout" in row.route and client.session:
        client.session = site.people[person]["spare"].pop()
    body = BODIES.get(row.route, {}) if row.verb == "POST" else None
    response = client.request(row.verb, path, body, **{k.replace("-", "_"): v for k, v in MANNERS[manner].items()})
    seen = CANARY in response.text or CANARY in str(response.headers)
    if person == "alice" or (person == "boss" and row.route.startswith("admin/")):
        assert seen or READS.get(row.route) != person or response.status != 200, (str(row), person, response.text)
    else:
        assert not seen, (str(row), person, manner)
    return response.status


def test_every_address_of_the_site_has_a_row_and_no_row_is_left_over():
    patterns = get_resolver().url_patterns
    assert {row.route for row in ROWS} == set(addresses(patterns))


# A token is for programs: it opens what needs an account, and has nothing to do with signing in or with the admin.
VISITS = [(row, manner) for row in ROWS for manner in MANNERS if manner != "token" or row.cells["gone"] == "401"]


@pytest.mark.parametrize(("row", "manner"), VISITS, ids=lambda part: str(part))
def test_each_person_gets_the_status_of_the_table_and_nobody_elses_words(site, kept, row, manner):
    path = address(row.route, kept if row.verb == "GET" else ids(site))
    wanted = {person: row.status(person, list(MANNERS).index(manner)) for person in PEOPLE}
    assert {person: visit(site, row, person, manner, path) for person in PEOPLE} == wanted


@pytest.mark.parametrize("kind", ["deleted", "of another kind", "malformed"])
@pytest.mark.parametrize("row", WITH_ID, ids=str)
def test_an_id_of_nothing_tells_nobody_more_than_a_foreign_one(site, kept, deleted, row, kind):
    other = kept["answer" if "<uuid:message>" in row.route else "question"]
    wrong = {"of another kind": other, "malformed": "0190-not-an-id"}
    path = address(row.route, deleted if kind == "deleted" else dict.fromkeys(kept, wrong[kind]))
    lost = kind == "malformed" and not row.route.startswith("admin/")  # no route at all, for anybody
    wanted = {person: 404 if lost else row.status(person, 2, there=False) for person in PEOPLE}
    assert {person: visit(site, row, person, "program", path) for person in PEOPLE} == wanted


def talk(site: Parley, row: Row, person: str, message: dict[str, Any]) -> str:
    """The type of the frame that comes back, `-` for none, or the code with which the socket was closed."""
    with site.client(person).socket(f"/{row.route}") as socket:
        if row.cells[person].isdigit():
            return str(close_code(socket))
        say(socket, type=row.verb, **message)
        end = str(uuid4())  # of nothing, and answered after what was asked before
        say(socket, type="cancel", answer=end)
        heard = [hear(socket, "cancelled", "error")]
        while heard[-1].get("answer") != end:
            heard.append(hear(socket, "cancelled", "error"))
        assert CANARY not in str(heard)
        return heard[0]["type"] if len(heard) == 2 else "-"


def test_every_socket_and_every_type_of_message_has_a_row_and_no_row_is_left_over():
    consumers = {str(pattern.pattern): pattern.callback.consumer_class for pattern in websocket_urlpatterns}
    actions = {(route, name) for route, kind in consumers.items() for name in dir(kind) if name.startswith("do_")}
    assert {(row.route, f"do_{row.verb}") for row in TALKS} == actions
    assert {row.route for row in TALKS} == set(consumers)


@pytest.mark.parametrize("kind", ["own", "deleted", "of another kind", "malformed", "missing"])
@pytest.mark.parametrize("row", TALKS, ids=str)
def test_each_person_gets_the_frame_of_the_table_for_what_they_say_on_a_socket(site, kept, deleted, row, kind):
    field = "conversation" if row.verb == "watch" else "answer"
    wrong = {"of another kind": kept["question"], "malformed": 7, "deleted": deleted[field], "own": kept[field]}
    message = {field: wrong[kind]} if kind != "missing" else {}
    wanted = {person: row.outcome(person, kind == "own") for person in PEOPLE}
    if kind == "missing" and row.verb == "watch":  # a page that shows no conversation
        wanted = {person: cell if cell.isdigit() else "-" for person, cell in wanted.items()}
    assert {person: talk(site, row, person, message) for person in PEOPLE} == wanted
