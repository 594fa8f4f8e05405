"""Who gets what at every address of the site: the table that tests/test_route_matrix.py walks through.

One row per route and verb. The columns are people: nobody is not signed in, Alice owns the conversation, Bob is another
user, staff may see the board but has no permission in the admin, the boss is a superuser, gone was deactivated. `absent`
is what those who are let in get for an id of nothing. Words stand for a status that depends on how the sender reads.
"""

from dataclasses import dataclass

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
answers/<uuid:answer>/continue              POST  401     opened  404     404     404     401     404
messages/<uuid:message>/edit                POST  401     opened  404     404     404     401     404
login/                                      GET   200     302     302     302     302     200     -
login/                                      POST  200     302     302     302     302     200     -
logout/                                     POST  302     302     302     302     302     302     -
signup/                                     GET   200     200     200     200     200     200     -
signup/                                     POST  200     200     200     200     200     200     -
theme                                       POST  theme   theme   theme   theme   theme   theme   -
staff/live/                                 GET   login   403     403     200     200     login   -
healthz                                     GET   200     200     200     200     200     200     -
readyz                                      GET   200     200     200     200     200     200     -
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

# What a socket does with each type of message about an answer or conversation of Alice's: the type of the frame that
# comes back, or - for none. A person who is not let in is closed with a code.
SOCKETS = """
route          type    nobody  alice      bob    staff      boss       gone  absent
ws/chat/       cancel  4401    cancelled  error  error      error      4401  error
ws/chat/       watch   4401    -          error  error      error      4401  error
ws/dashboard/  cancel  4401    4403       4403   cancelled  cancelled  4401  error
"""

# A question has the reader's own words, so that a fragment that shows it back leaks nothing.
BODIES = {
    "conversations": {"text": "mine", "model": "fake?tokens=1"},
    "conversations/<uuid:conversation>/messages": {"text": "mine", "model": "fake?tokens=1"},
    "answers/<uuid:answer>/regenerate": {"model": "fake?tokens=1"},
    "answers/<uuid:answer>/continue": {"model": "fake?tokens=1"},
    "messages/<uuid:message>/edit": {"text": "mine", "model": "fake?tokens=1"},
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

    def outcome(self, person: str, there: bool) -> str:
        """What a socket answers."""
        let_in = not self.cells[person].isdigit()
        return self.cells["absent" if let_in and not there else person]

    def status(self, person: str, manner: int, there: bool = True) -> int:
        cell = self.cells["absent" if person in self.entitled and not there else person]
        return WORDS[cell][manner] if cell in WORDS else int(cell)


def rows(table: str) -> list[Row]:
    head, *lines = [line.split() for line in table.strip().splitlines()]
    return [Row(line[0].lstrip("/"), line[1], dict(zip(head[2:], line[2:], strict=True))) for line in lines]


TALKS = rows(SOCKETS)
ROWS = rows(APP) + rows(ADMIN)
WITH_ID = [row for row in ROWS if row.cells["absent"] != "-"]
