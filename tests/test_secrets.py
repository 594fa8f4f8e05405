"""Keys and sessions are nobody's business: not the log's, not a page's, not a row's, not even when a provider quotes them."""

from collections.abc import Iterator
from typing import Any

import pytest

from bench.answer import Job, opening, streamed
from bench.wire import Steps, as_json, error, event, whole
from tests.database import tables
from tests.parley import Parley, hear, say

KEY = "sk-canary-4b7d91e2f0a3"
QUOTE = f"Incorrect API key provided: {KEY}. Send 'Authorization: Bearer {KEY}'."


def refuses(status: int) -> Any:
    """A provider that quotes the key in the body of this status."""
    return lambda job: iter([whole(status, as_json(error(QUOTE, "authentication_error", KEY)))])


def fails_in_the_stream(job: Job) -> Steps:
    """A provider that quotes it in the middle of an answer."""

    def events() -> Steps:
        yield from opening(job)
        yield job.says("Hello ")
        yield event(error(QUOTE, "server_error", KEY))

    return streamed(job, events())


def sends_garbage(job: Job) -> Steps:
    """A provider that sends it as no JSON at all."""

    def events() -> Steps:
        yield from opening(job)
        yield f"data: {QUOTE}\n\n".encode()

    return streamed(job, events())


def sends_a_page(job: Job) -> Steps:
    yield whole(200, f"<html>{QUOTE}</html>".encode(), "text/html")


FAILURES = {f"fake-quotes-{status}": refuses(status) for status in (400, 401, 403, 404, 413, 429, 500)} | {
    "fake-quotes-in-the-stream": fails_in_the_stream,
    "fake-quotes-garbage": sends_garbage,
    "fake-quotes-on-a-page": sends_a_page,
}


@pytest.fixture(scope="module", params=["INFO", "DEBUG"])
def seen(request, serve_all, provider) -> tuple[Parley, list[str]]:
    """A server with the canary for its key, and everything that people saw of it when nothing went well."""
    for name, script in FAILURES.items():
        provider.script(name, script)
    provider.state.models += [name for name in FAILURES if name not in provider.state.models]
    server = serve_all(OPENAI_API_KEY=KEY, LOG_LEVEL=request.param)
    return server, list(look_around(server))


def look_around(server: Parley) -> Iterator[str]:
    """Ask every failing model, and look at all there is to see of it."""
    alice, boss = server.client("alice"), server.client("boss")
    with boss.socket("/ws/dashboard/") as board, alice.socket() as page:
        for model in FAILURES:
            asked = alice.ask(f"Ask {model}", model)
            yield str(alice.read_to_end(asked["answer"]))
            row = server.ended(asked["answer"])
            assert row["status"] == "failed", row
            for path in ("", "/html"):
                yield alice.get(f"/answers/{asked['answer']}{path}").text
            yield alice.get(f"/c/{asked['conversation']}/").text
            yield boss.get(f"/admin/chat/conversation/{asked['conversation']}/change/").text
            say(page, type="cancel", answer=asked["answer"])
            yield str(hear(page, "cancelled"))
        yield str(hear(board, "snapshot"))
    program = server.client("alice", token=True)
    with program.stream(model="fake-quotes-401") as stream:
        yield str(stream.read_until("close"))
    yield str(program.post("/models", Accept="application/json").headers) + program.get("/models").text
    for path in (
        "/admin/chat/modelcall/",
        "/admin/chat/apitoken/",
        "/staff/live/",
        "/admin/auth/user/",
        "/healthz",
        "/nothing",
    ):
        yield boss.get(path).text
    [token] = server.rows("select id from chat_apitoken where user_id = ?", server.people["alice"]["id"])
    yield boss.get(f"/admin/chat/apitoken/{token['id']}/change/").text
    yield server.client("", Authorization=f"Bearer {program.token}x").get("/sidebar").text


def secrets(server: Parley) -> dict[str, str]:
    sessions = {f"session of {name}": person["session"] for name, person in server.people.items()}
    tokens = {f"token of {name}": person["token"] for name, person in server.people.items()}
    return {"key": KEY, "secret key": (server.data / "secret_key").read_text()} | sessions | tokens


def test_no_page_frame_or_error_message_has_a_secret(seen):
    server, texts = seen
    assert any("refused this server's key" in text or "refused this server&#x27;s key" in text for text in texts)
    for name, secret in secrets(server).items():
        assert not any(secret in text for text in texts), name


def test_the_log_has_no_secret(seen):
    server, _ = seen
    log = server.log.read_text()
    assert "Parley is listening" in log
    for name, secret in secrets(server).items():
        assert secret not in log, name


def test_no_row_has_a_secret_but_the_sessions_themselves(seen):
    server, _ = seen
    told = {table: str(server.rows(f'select * from "{table}"')) for table in tables(server.database)}
    rows = {table: text for table, text in told.items() if table != "django_session"}
    assert "fake-quotes-401" in rows["chat_message"]
    for name, secret in secrets(server).items():
        for table, text in rows.items():
            assert secret not in text, (name, table)


def test_an_error_tells_the_user_what_to_do_and_keeps_what_the_provider_said_to_itself(seen):
    server, _ = seen
    [row] = server.rows("select * from chat_message where model = 'fake-quotes-401' order by id limit 1")
    assert row["error_code"] == "unauthorized"
    assert "OPENAI_API_KEY" in row["error_message"]
    assert "Incorrect" not in row["error_message"]
