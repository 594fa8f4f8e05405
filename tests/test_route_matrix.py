"""Who gets what at every address: the whole table, and no byte of anybody else's text anywhere.

One row per route and verb. The columns are people: nobody is not signed in, Alice owns the conversation, Bob is another
user, staff may see the board but has no permission in the admin, the boss is a superuser, gone was deactivated. `absent`
is what those who are let in get for an id of nothing. Words stand for a status that depends on how the sender reads.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from django.urls import URLPattern, get_resolver

from bench.script import Script
from tests.conftest import provider_env
from tests.parley import Parley, copy_of

CANARY = "canary-of-alice-5c1d"
PEOPLE = ("nobody", "bob", "staff", "gone", "boss", "alice")  # those who may change something come last
MANNERS: dict[str, dict[str, str]] = {
    "browser": {"Accept": "text/html"},
    "page": {"HX-Request": "true"},
    "program": {"Accept": "application/json"},
    "token": {"Accept": "application/json"},  # in place of the cookie
}
WORDS = {
    "login": (302, 401, 401, 401),  # a page sends people to the login, and nobody else
    "opened": (302, 201, 201, 201),
    "saved": (302, 200, 302, 302),
    "theme": (302, 204, 302, 302),
}

APP = """
route                                       verb  nobody  alice   bob     staff   boss    gone    absent
/                                           GET   login   200     200     200     200     login   -
c/<uuid:conversation>/                      GET   login   200     404     404     404     login   404
c/<uuid:conversation>/thread                GET   401     200     404     404     404     401     404
c/<uuid:conversation>/rename                POST  401     saved   404     404     404     401     404
c/<uuid:conversation>/delete                POST  401     saved   404     404     404     401     404
sidebar                                     GET   401     200     200     200     200     401     -
models                                      GET   401     200     200     200     200     401     -
models                                      POST  401     200     200     200     200     401     -
conversations                               POST  401     opened  opened  opened  opened  401     -
conversations/<uuid:conversation>/messages  POST  401     opened  404     404     404     401     404
answers/<uuid:answer>                       GET   401     200     404     404     404     401     404
answers/<uuid:answer>/html                  GET   401     200     404     404     404     401     404
answers/<uuid:answer>/events                GET   401     200     404     404     404     401     404
answers/<uuid:answer>/stop                  POST  401     200     404     404     404     401     404
answers/<uuid:answer>/regenerate            POST  401     opened  404     404     404     401     404
login/                                      GET   200     302     302     302     302     200     -
login/                                      POST  200     302     302     302     302     200     -
logout/                                     POST  302     302     302     302     302     302     -
signup/                                     GET   200     200     200     200     200     200     -
signup/                                     POST  200     200     200     200     200     200     -
theme                                       POST  theme   theme   theme   theme   theme   theme   -
staff/live/                                 GET   login   403     403     200     200     login   -
healthz                                     GET   200     200     200     200     200     200     -
"""

# The admin sends everybody who is not staff to its login.
ADMIN = """
route                                              verb  nobody  alice  bob  staff  boss  gone  absent
admin/                                             GET   302     302    302  200    200   302   -
admin/login/                                       GET   200     200    200  302    302   200   -
admin/logout/                                      POST  302     302    302  302    302   302   -
admin/password_change/                             GET   302     302    302  200    200   302   -
admin/password_change/done/                        GET   302     302    302  200    200   302   -
admin/autocomplete/                                GET   302     302    302  403    403   302   -
admin/jsi18n/                                      GET   302     302    302  200    200   302   -
admin/r/<path:content_type_id>/<path:object_id>/   GET   302     302    302  404    404   302   404
admin/^(?P<app_label>chat|auth)/$                  GET   302     302    302  404    200   302   -
admin/(?P<url>.*)$                                 GET   302     302    302  404    404   302   -
admin/chat/conversation/                           GET   302     302    302  403    200   302   -
admin/chat/conversation/add/                       GET   302     302    302  403    403   302   -
admin/chat/conversation/<path:object_id>/history/  GET   302     302    302  403    200   302   302
admin/chat/conversation/<path:object_id>/change/   GET   302     302    302  403    200   302   302
admin/chat/conversation/<path:object_id>/change/   POST  302     302    302  403    403   302   403
admin/chat/conversation/<path:object_id>/          GET   302     302    302  302    302   302   302
admin/chat/conversation/<path:object_id>/delete/   GET   302     302    302  403    200   302   302
admin/chat/conversation/<path:object_id>/delete/   POST  302     302    302  403    302   302   302
admin/chat/modelcall/                              GET   302     302    302  403    200   302   -
admin/chat/modelcall/add/                          GET   302     302    302  403    403   302   -
admin/chat/modelcall/<path:object_id>/history/     GET   302     302    302  403    200   302   302
admin/chat/modelcall/<path:object_id>/change/      GET   302     302    302  403    200   302   302
admin/chat/modelcall/<path:object_id>/change/      POST  302     302    302  403    403   302   403
admin/chat/modelcall/<path:object_id>/             GET   302     302    302  302    302   302   302
admin/chat/modelcall/<path:object_id>/delete/      POST  302     302    302  403    403   302   403
admin/chat/apitoken/                               GET   302     302    302  403    200   302   -
admin/chat/apitoken/add/                           GET   302     302    302  403    403   302   -
admin/chat/apitoken/<path:object_id>/history/      GET   302     302    302  403    200   302   302
admin/chat/apitoken/<path:object_id>/change/       GET   302     302    302  403    200   302   302
admin/chat/apitoken/<path:object_id>/change/       POST  302     302    302  403    403   302   403
admin/chat/apitoken/<path:object_id>/              GET   302     302    302  302    302   302   302
admin/chat/apitoken/<path:object_id>/delete/       GET   302     302    302  403    200   302   302
admin/auth/group/                                  GET   302     302    302  403    200   302   -
admin/auth/group/add/                              GET   302     302    302  403    200   302   -
admin/auth/group/<path:object_id>/history/         GET   302     302    302  403    200   302   302
admin/auth/group/<path:object_id>/change/          GET   302     302    302  403    200   302   302
admin/auth/group/<path:object_id>/                 GET   302     302    302  302    302   302   302
admin/auth/group/<path:object_id>/delete/          GET   302     302    302  403    200   302   302
admin/auth/user/                                   GET   302     302    302  403    200   302   -
admin/auth/user/add/                               GET   302     302    302  403    200   302   -
admin/auth/user/<id>/password/                     GET   302     302    302  403    200   302   404
admin/auth/user/<path:object_id>/history/          GET   302     302    302  403    200   302   302
admin/auth/user/<path:object_id>/change/           GET   302     302    302  403    200   302   302
admin/auth/user/<path:object_id>/                  GET   302     302    302  302    302   302   302
admin/auth/user/<path:object_id>/delete/           GET   302     302    302  403    200   302   302
"""

# Where the words of the conversation may be read, and by whom: there they must be.
READS = {
    "/": "alice",
    "c/<uuid:conversation>/": "alice",
    "c/<uuid:conversation>/thread": "alice",
    "sidebar": "alice",
    "answers/<uuid:answer>/html": "alice",
    "answers/<uuid:answer>/events": "alice",
    "admin/chat/conversation/": "boss",
    "admin/chat/conversation/<path:object_id>/change/": "boss",
}

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

# A question has the reader's own words, so that a fragment that shows it back leaks nothing.
BODIES = {
    "conversations": {"text": "mine", "model": "fake?tokens=1"},
    "conversations/<uuid:conversation>/messages": {"text": "mine", "model": "fake?tokens=1"},
    "answers/<uuid:answer>/regenerate": {"model": "fake?tokens=1"},
    "c/<uuid:conversation>/rename": {"title": "mine"},
    "theme": {"theme": "dark"},
    "admin/chat/conversation/<path:object_id>/delete/": {"post": "yes"},
}


@dataclass(frozen=True)
class Row:
    route: str
    verb: str
    cells: dict[str, str]

    def __str__(self) -> str:
        return f"{self.verb} {self.route}"

    @property
    def entitled(self) -> tuple[str, ...]:
        """Who is let in to the object of this route, if anybody is. A history is looked up before rights are."""
        if not self.route.startswith("admin/"):
            return ("alice",)
        return ("boss", "staff") if self.route.endswith("/history/") else ("boss",)

    def status(self, person: str, manner: int, there: bool = True) -> int:
        cell = self.cells["absent" if person in self.entitled and not there else person]
        return WORDS[cell][manner] if cell in WORDS else int(cell)


def rows(table: str) -> list[Row]:
    head, *lines = [line.split() for line in table.strip().splitlines()]
    return [Row(line[0].lstrip("/"), line[1], dict(zip(head[2:], line[2:], strict=True))) for line in lines]


ROWS = rows(APP) + rows(ADMIN)
WITH_ID = [row for row in ROWS if row.cells["absent"] != "-"]


def addresses(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        here = prefix + str(pattern.pattern)
        yield from [here] if isinstance(pattern, URLPattern) else addresses(pattern.url_patterns, here)


@pytest.fixture(scope="module")
def site(prepared, provider, tmp_path_factory) -> Iterator[Parley]:
    """A server of this file's own: the table signs people out and deletes rows."""
    data, people = prepared
    server = Parley(copy_of(data, tmp_path_factory.mktemp("matrix") / "data"), provider_env(provider), people)
    provider.script("fake-canary", Script(pieces=(f"{CANARY} said the model",)))
    provider.state.models += ["fake-canary", "fake?tokens=1"]
    try:
        server.start()
        sessions = {name: person["session"] for name, person in people.items()}
        spare = json.loads(server.shell(f"sessions = {sessions}{MORE}").splitlines()[-1])
        server.people = {name: person | {"spare": spare[name]} for name, person in people.items()}
        yield server
    finally:
        server.close()


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
    wrong = {"of another kind": kept["question"], "malformed": "0190-not-an-id"}
    path = address(row.route, deleted if kind == "deleted" else dict.fromkeys(kept, wrong[kind]))
    lost = kind == "malformed" and not row.route.startswith("admin/")  # no route at all, for anybody
    wanted = {person: 404 if lost else row.status(person, 2, there=False) for person in PEOPLE}
    assert {person: visit(site, row, person, "program", path) for person in PEOPLE} == wanted
