"""What a refusal looks like, to a program, to the page and in the rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.fake_provider import FakeProvider
from tests.parley import Parley, Response

OWNED = {
    "chat_conversation": "owner_id = ?",
    "chat_message": "conversation_id in (select id from chat_conversation where owner_id = ?)",
    "chat_modelcall": "user_id = ?",
    "chat_submission": "user_id = ?",
}


@contextmanager
def nothing_changes(server: Parley, provider: FakeProvider, name: str, *models: str) -> Iterator[None]:
    """A block in which nothing of this user's is stored and none of these models is called."""

    def state() -> list[Any]:
        [user] = server.rows("select id from auth_user where username = ?", name)
        counts = [
            server.rows(f"select count(*) n from {table} where {mine}", user["id"]) for table, mine in OWNED.items()
        ]
        titles = server.rows("select title from chat_conversation where owner_id = ?", user["id"])
        return [counts, titles, sum(call.model in models for call in provider.calls)]

    before = state()
    yield
    assert state() == before


def assert_refused(response: Response, status: int, code: str) -> dict[str, Any]:
    """A program is told a code, and a sentence that can be shown to people."""
    body = response.json()
    assert (response.status, body["code"]) == (status, code), body
    assert set(body) == {"code", "message"}
    assert_for_people(body["message"])
    return body


def assert_for_people(message: str) -> None:
    assert message[0].isupper()
    assert message.endswith(".")
    assert len(message.split()) >= 4
    assert not any(word in message for word in ("Traceback", "Error", "Exception", "None", "{", "<"))


def assert_partial(response: Response, status: int, code: str) -> None:
    """The page gets the partial for its place for problems, and keeps its draft."""
    assert response.status == status, response.text
    assert response.headers["content-type"].startswith("text/html")
    assert (response.headers["hx-retarget"], response.headers["hx-reswap"]) == ("#problem", "innerHTML")
    assert f'data-code="{code}"' in response.text
    assert "<html" not in response.text
