"""Whoever may not read any more stops reading within seconds: streams end, sockets close, and nobody else notices."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from time import monotonic
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed

from bench.script import Gate, Script, text
from tests.parley import Client, Frame, Parley, close_code, hear, say, shown, until

SECONDS = 5.0  # the promise
TOKENS = 6
FINAL = ("done", "error")


class Scene:
    """An account that may come to harm, with an open answer, and readers of it in threads."""

    def __init__(self, parley: Parley, model: str, gate: Gate, stack: ExitStack) -> None:
        self.name = f"reader-{uuid4().hex[:12]}"
        self.parley = parley
        self.client = parley.sign_up(self.name)
        self.asked = self.client.ask("Hold on", model)
        self.gate = gate
        self.stack = stack
        self.pool = stack.enter_context(ThreadPoolExecutor(8))
        stack.callback(gate.open)

    def follow(self, client: Client) -> Future[tuple[float, list[Frame]]]:
        """Read the answer in a thread: when the stream ended, and all its frames."""
        stream = self.stack.enter_context(client.events(self.asked["answer"]))
        beginning = stream.read_until("token")
        return self.pool.submit(lambda: (beginning + list(stream), monotonic())[::-1])

    def sit(self, client: Client, path: str = "/ws/chat/") -> Future[tuple[float, int]]:
        """Keep a socket open: when it was closed, and with which code."""
        socket = self.stack.enter_context(client.socket(path))
        say(socket, type="nonsense")
        hear(socket, "error")
        return self.pool.submit(lambda: (close_code(socket), monotonic())[::-1])

    def operator(self, code: str) -> None:
        """Change this account as an operator does."""
        head = (
            f"from django.contrib.auth import get_user_model; u = get_user_model().objects.get(username='{self.name}')"
        )
        self.parley.shell(f"{head}\n{code}")


@pytest.fixture
def scene(parley, offer, provider) -> Iterator[Scene]:
    gate, model = Gate(), offer(f"fake-rights-{uuid4()}")
    provider.script(model, Script(tokens=TOKENS, at=2, gate=gate, seed=12))
    with ExitStack() as stack:
        yield Scene(parley, model, gate, stack)


def assert_stream_closed(reading: Future[tuple[float, list[Frame]]], since: float) -> None:
    """It ended in time and says so, although the answer has not ended."""
    when, frames = reading.result(20)
    assert frames[-1].name == "close"
    assert not any(frame.name in FINAL for frame in frames)
    assert when - since < SECONDS


def assert_socket_closed(sitting: Future[tuple[float, int]], since: float, code: int = 4401) -> None:
    when, closed = sitting.result(20)
    assert closed == code
    assert when - since < SECONDS


def assert_reads_on(scene: Scene, *readings: Future[tuple[float, list[Frame]]]) -> None:
    """These readers were not disturbed: they read to the end of the answer."""
    assert not any(reading.done() for reading in readings)
    scene.gate.open()
    for reading in readings:
        _, frames = reading.result(20)
        assert shown(frames) == text(12, TOKENS)
        assert [frame.name for frame in frames[-2:]] == ["done", "close"]


def test_signing_out_ends_what_that_session_reads_and_nothing_else(scene):
    phone = scene.parley.sign_in(scene.name)
    reading, sitting = scene.follow(scene.client), scene.sit(scene.client)
    beside, page = scene.follow(phone), scene.sit(phone)
    assert scene.client.post("/logout/").status == 302
    since = monotonic()
    assert_stream_closed(reading, since)
    assert_socket_closed(sitting, since)
    assert not page.done()
    assert_reads_on(scene, beside)
    assert scene.client.get(f"/answers/{scene.asked['answer']}/events").status == 401


def test_a_deactivated_account_reads_nothing_more_on_any_device(scene):
    phone = scene.parley.sign_in(scene.name)
    readings = [scene.follow(client) for client in (scene.client, phone)]
    sittings = [scene.sit(client) for client in (scene.client, phone)]
    other = scene.sit(scene.parley.client("bob"))
    scene.operator("u.is_active = False; u.save()")
    since = monotonic()
    for reading, sitting in zip(readings, sittings, strict=True):
        assert_stream_closed(reading, since)
        assert_socket_closed(sitting, since)
    assert not other.done()
    assert scene.client.get("/sidebar").status == 401


def test_a_new_password_ends_what_the_old_one_opened(scene):
    reading, sitting = scene.follow(scene.client), scene.sit(scene.client)
    scene.operator("u.set_password('another-harbour-43'); u.save()")
    since = monotonic()
    assert_stream_closed(reading, since)
    assert_socket_closed(sitting, since)
    anew = scene.parley.sign_in(scene.name, "another-harbour-43")
    assert_reads_on(scene, scene.follow(anew))


def test_a_deleted_token_reads_nothing_more_and_a_session_of_the_same_user_does(scene):
    program = Client(scene.parley.base, token=scene.parley.manage("create_token", scene.name).strip())
    reading, beside = scene.follow(program), scene.follow(scene.client)
    scene.operator("u.api_tokens.all().delete()")
    assert_stream_closed(reading, monotonic())
    assert_reads_on(scene, beside)
    assert program.get(f"/answers/{scene.asked['answer']}/events").status == 401


def test_a_deleted_session_ends_as_if_it_had_signed_out(scene):
    reading, sitting = scene.follow(scene.client), scene.sit(scene.client)
    key = scene.client.session
    scene.operator(f"from django.contrib.sessions.models import Session; Session.objects.filter(pk='{key}').delete()")
    since = monotonic()
    assert_stream_closed(reading, since)
    assert_socket_closed(sitting, since)


def test_deleting_the_conversation_ends_its_stream_and_leaves_the_pages_open(scene):
    elsewhere = scene.client.ask("Something else", "fake")
    reading, page = scene.follow(scene.client), scene.sit(scene.client)
    assert scene.client.post(f"/c/{scene.asked['conversation']}/delete").status == 302
    since = monotonic()
    when, frames = reading.result(20)
    assert frames[-1].name == "close"
    assert when - since < SECONDS
    assert not page.done()
    lost = scene.asked["conversation"].replace("-", "")
    assert scene.parley.rows("select id from chat_message where conversation_id = ?", lost) == []
    assert scene.parley.ended(elsewhere["answer"])["status"] == "done"
    assert scene.client.get(f"/answers/{scene.asked['answer']}/events").status == 404


def test_an_answer_that_an_operator_deletes_ends_its_stream(scene):
    reading = scene.follow(scene.client)
    scene.operator("u.conversations.all().delete()")
    assert_stream_closed(reading, monotonic())


def test_who_is_not_staff_any_more_loses_the_board_and_keeps_the_chat(scene):
    scene.operator("u.is_staff = True; u.save()")
    board, page = scene.sit(scene.client, "/ws/dashboard/"), scene.sit(scene.client)
    colleague = scene.sit(scene.parley.client("staff"), "/ws/dashboard/")
    scene.operator("u.is_staff = False; u.save()")
    assert_socket_closed(board, monotonic(), 4403)
    assert not page.done()
    assert not colleague.done()
    assert_reads_on(scene, scene.follow(scene.client))


def test_staff_who_sign_out_lose_the_board(scene):
    scene.operator("u.is_staff = True; u.save()")
    board = scene.sit(scene.client, "/ws/dashboard/")
    assert scene.client.post("/logout/").status == 302
    assert_socket_closed(board, monotonic(), 4401)


def test_an_action_of_somebody_who_was_just_deactivated_is_not_done(scene):
    with scene.client.socket() as socket:
        changing = scene.pool.submit(scene.operator, "u.is_active = False; u.save()")
        until(lambda: scene.parley.rows("select 1 from auth_user where username = ? and not is_active", scene.name))
        with suppress(ConnectionClosed):  # nearly always it is the action that finds out
            say(socket, type="cancel", answer=scene.asked["answer"])
        assert close_code(socket) == 4401
        changing.result(20)
    row = scene.parley.answer(scene.asked["answer"])
    assert (row["status"], row["stop_by"]) == ("open", "")
