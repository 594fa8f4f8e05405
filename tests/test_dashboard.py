"""The staff's live board: who is here, what is being written and how fast, stopping it, and never a word of what is said."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
from websockets.sync.client import ClientConnection

from bench.script import Gate, Script, text
from tests.parley import Parley, close_code, hear, say, until

SOON = 2.0  # seconds in which the board shows that somebody came or went
CANARY = "canary-of-the-board-7f3e"


@pytest.fixture(scope="module")
def site(serve_all) -> Parley:
    """A server of this file's own: nobody else is here, and nobody else has asked anything."""
    return serve_all()


@pytest.fixture
def held(site, offer, provider) -> Iterator[Callable[..., dict[str, Any]]]:
    """Ask for an answer that stays open: held("alice", at=2) says two tokens and waits."""
    gates: list[Gate] = []
    answers: list[str] = []

    def ask(person: str, at: int, tokens: int = 9) -> dict[str, Any]:
        gate, name = Gate(), f"fake-board-{uuid4()}"
        gates.append(gate)
        provider.script(name, Script(tokens=tokens, at=at, gate=gate, seed=15))
        asked = site.client(person).ask(f"{CANARY} asked", offer(name, site))
        answers.append(asked["answer"])
        provider.wait(lambda calls: any(call.model == name and call.tokens == at for call in calls))
        return asked | {"model": name, "gate": gate}

    yield ask
    for gate in gates:
        gate.open()
    for answer in answers:
        site.ended(answer)


@contextmanager
def board(site: Parley, person: str = "staff") -> Iterator[ClientConnection]:
    with site.client(person).socket("/ws/dashboard/") as socket:
        yield socket


def see(socket: ClientConnection, there: Callable[[dict[str, Any]], Any], patience: float = 20.0) -> dict[str, Any]:
    """The first snapshot of which this is true."""
    end, shown = monotonic() + patience, None
    while monotonic() < end:
        try:
            shown = hear(socket, "snapshot", patience=end - monotonic())
        except TimeoutError:
            break
        assert CANARY not in json.dumps(shown)
        if there(shown):
            return shown
    raise AssertionError(f"not seen within {patience} s; the last snapshot is {shown}")


def row(snapshot: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """The row of an answer; empty without one."""
    return next((row for row in snapshot["answers"] if row["answer"] == asked["answer"]), {})


def tabs(snapshot: dict[str, Any]) -> dict[str, int]:
    return {person["user"]: person["tabs"] for person in snapshot["online"]}


def test_the_first_frame_is_a_whole_snapshot(site, held):
    asked = held("alice", at=0)
    with board(site) as socket:
        first = json.loads(socket.recv(timeout=10))
        shown = row(see(socket, lambda shown: row(shown, asked)), asked)
    assert set(first) == {"type", "at", "online", "answers", "ttft"}
    assert first["type"] == "snapshot"
    assert set(first["ttft"]) == {"p50", "p95", "count", "minutes"}
    assert abs(first["at"] - shown["started_at"]) < 60_000


def test_an_open_answer_is_shown_with_its_user_its_model_and_its_state(site, held):
    with board(site) as socket:
        asked = held("alice", at=0)
        waiting = row(see(socket, lambda shown: row(shown, asked)), asked)
        assert (waiting["user"], waiting["model"], waiting["state"]) == ("alice", asked["model"], "waiting")
        assert (waiting["tokens"], waiting["ttft_ms"], waiting["tok_s"]) == (0, None, None)
        asked["gate"].open()
        see(socket, lambda shown: not row(shown, asked))
    assert site.ended(asked["answer"])["text"] == text(15, 9)


def test_what_has_been_written_is_counted_and_the_time_to_its_first_token_shown(site, held):
    with board(site) as socket:
        asked = held("bob", at=4)
        streaming = row(see(socket, lambda shown: row(shown, asked).get("tokens") == 4), asked)
        assert (streaming["user"], streaming["state"]) == ("bob", "streaming")
        assert streaming["ttft_ms"] == site.answer(asked["answer"])["ttft_ms"]
        assert streaming["age_ms"] >= streaming["ttft_ms"]
        assert streaming["tok_s"] > 0


def test_tokens_grow_and_frames_come_at_most_once_a_second(site, offer):
    asked = site.client("alice").ask(f"{CANARY} asked", offer("fake?tokens=110&rate=20&seed=151", site))
    counts, times = [], []
    with board(site) as socket:
        see(socket, lambda shown: row(shown, asked))
        while shown := row(hear(socket, "snapshot"), asked):
            counts.append(shown["tokens"])
            times.append(monotonic())
    assert counts == sorted(counts)
    assert len(set(counts)) >= 3
    assert all(later - sooner > 0.9 for sooner, later in pairwise(times))
    site.ended(asked["answer"])


def test_the_readers_of_an_answer_are_counted(site, held):
    asked = held("alice", at=2)
    alice = site.client("alice")
    with board(site) as socket:
        see(socket, lambda shown: row(shown, asked).get("viewers") == 0)
        with alice.events(asked["answer"]) as first:
            first.read_until("token")
            see(socket, lambda shown: row(shown, asked)["viewers"] == 1, SOON)
            with alice.events(asked["answer"]) as second:
                second.read_until("token")
                see(socket, lambda shown: row(shown, asked)["viewers"] == 2, SOON)
            see(socket, lambda shown: row(shown, asked)["viewers"] == 1, SOON)
        see(socket, lambda shown: row(shown, asked)["viewers"] == 0, SOON)


def test_people_appear_with_their_tabs_and_leave_within_two_seconds(site):
    alice, bob = site.client("alice"), site.client("bob")
    with board(site) as socket:
        see(socket, lambda shown: tabs(shown) == {"staff": 1}, SOON * 2)
        with alice.socket():
            see(socket, lambda shown: tabs(shown).get("alice") == 1, SOON)
            with alice.socket(), bob.socket():
                both = see(socket, lambda shown: tabs(shown).get("alice") == 2 and tabs(shown).get("bob") == 1, SOON)
                assert [person["user"] for person in both["online"]] == ["alice", "bob", "staff"]
                assert [person["pages"] for person in both["online"]] == [["chat"], ["chat"], ["board"]]
            see(socket, lambda shown: tabs(shown) == {"alice": 1, "staff": 1}, SOON)
        see(socket, lambda shown: tabs(shown) == {"staff": 1}, SOON)


def test_an_administrator_stops_an_answer_and_its_reader_is_told_who_did(site, held, provider):
    asked = held("alice", at=3)
    with board(site) as socket, site.client("alice").events(asked["answer"]) as reader:
        reader.read_until("token")
        say(socket, type="cancel", answer=asked["answer"])
        receipt = hear(socket, "cancelled", "error")
        provider.wait(lambda calls: [call.state for call in calls if call.model == asked["model"]] == ["aborted"])
        frames = reader.read_until("close")
        [done] = [frame.data for frame in frames if frame.name == "done"]
        assert (done["reason"], done["by"]) == ("stopped", "administrator")
        see(socket, lambda shown: not row(shown, asked))
    kept = site.answer(asked["answer"])
    assert (kept["status"], kept["stop_by"], kept["text"]) == ("stopped", "administrator", text(15, 3))
    assert receipt["completion_tokens"] == kept["completion_tokens"]
    page = site.client("alice").get(f"/c/{asked['conversation']}/").text
    assert "Stopped by an administrator" in page


def test_the_page_of_the_reader_hears_of_the_end_as_well(site, held):
    asked = held("alice", at=1)
    with site.client("alice").socket() as page, board(site, "boss") as socket:
        say(page, type="nonsense")
        hear(page, "error")
        say(socket, type="cancel", answer=asked["answer"])
        ended = until(lambda: (push := hear(page, "answer.ended"))["answer"] == asked["answer"] and push)
    assert ended["status"] == "stopped"


def test_times_to_the_first_token_are_nearest_rank_percentiles_of_the_last_quarter_hour(site):
    code = """
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from chat.models import Conversation, Message
Message.objects.all().delete()
thread = Conversation.objects.create(owner=get_user_model().objects.get(username="bob"), title="times")
for n in (*range(1, 21), 99):
    made = Message.objects.create(conversation=thread, role="assistant", status="done", ttft_ms=n * 10)
    if n == 99:
        Message.objects.filter(pk=made.pk).update(created_at=timezone.now() - timedelta(minutes=16))
Message.objects.create(conversation=thread, role="assistant", status="failed")
"""
    site.shell(code)
    with board(site) as socket:
        shown = see(socket, lambda shown: shown["ttft"]["count"] == 20)
        assert shown["ttft"] == {"p50": 100, "p95": 190, "count": 20, "minutes": 15}
        site.shell("from chat.models import Message; Message.objects.filter(ttft_ms__lt=200).delete()")
        alone = see(socket, lambda shown: shown["ttft"]["count"] == 1)
        assert (alone["ttft"]["p50"], alone["ttft"]["p95"]) == (200, 200)
        site.shell("from chat.models import Message; Message.objects.all().delete()")
        none = see(socket, lambda shown: shown["ttft"]["count"] == 0)
        assert (none["ttft"]["p50"], none["ttft"]["p95"]) == (None, None)


@pytest.mark.parametrize("person", ["alice", "bob"])
def test_the_board_is_closed_to_people_who_are_not_staff(site, person):
    with board(site, person) as socket:
        assert close_code(socket) == 4403
    assert site.client(person).get("/staff/live/").status == 403
    assert site.client("staff").get("/staff/live/").status == 200
