"""Several servers on one PostgreSQL: one answer for one key, one ending for one answer, and what happens when it goes away."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from bench.script import Gate, Script, text
from bench.services import Postgres
from tests.client import Client, Frame, Response, shown, until
from tests.cluster import Cluster
from tests.parley import ROOT
from tests.stores import SharedStores

SERVERS = 3
ROUNDS = 5
SUBMITS = 12
RACES = 60
TOKENS, SEED = 30, 34
SHORT = f"fake?tokens={TOKENS}&rate=100&seed={SEED}"  # ends about 300 ms after it began
AWAY_SECONDS = 5.0
REFUSED_WITHIN = 8.0  # seconds: waiting for a connection takes 5 of them


@pytest.fixture(scope="module")
def three(cluster_all) -> Cluster:
    return cluster_all(SERVERS)


@pytest.fixture
def model(offer, provider, three) -> Callable[..., str]:
    """A model name of this test's own, at all three servers; keywords script its answers."""

    def make(**script: Any) -> str:
        name = f"fake-postgresql-{uuid4()}"
        provider.script(name, Script(**script))
        return offer(name, three)

    return make


def at_once(cluster: Cluster, work: Callable[[Client], Response]) -> list[Response]:
    """The same request many times at the same moment, spread over all servers."""
    start = threading.Barrier(SUBMITS)

    def one(number: int) -> Response:
        client = cluster.client("alice", number % SERVERS)
        start.wait(10)
        return work(client)

    with ThreadPoolExecutor(SUBMITS) as threads:
        return list(threads.map(one, range(SUBMITS)))


def submit(client: Client, path: str, body: dict[str, str], key: str) -> Response:
    return client.post_json(path, body, Idempotency_Key=key)


def assert_one_answer(cluster: Cluster, provider: Any, model: str, responses: list[Response]) -> dict[str, Any]:
    """All were told of the same answer, one of them that it is new, and the model was called once for it."""
    assert sorted(response.status for response in responses) == [200] * (SUBMITS - 1) + [201]
    [answer] = {response.json()["answer"] for response in responses}
    row = cluster.ended(answer)
    [call] = cluster.calls(answer)
    assert (row["status"], call["outcome"]) == ("done", "done")
    assert sum(made.model == model for made in provider.calls) == 1
    return responses[0].json()


@pytest.mark.parametrize("first", [True, False], ids=["the first message", "a further message"])
def test_the_same_key_at_the_same_moment_at_three_servers_is_one_answer(three, model, provider, first):
    for _ in range(ROUNDS):
        name, key, asked = model(tokens=3), str(uuid4()), {}
        if not first:
            three.ended((asked := three.client("alice").ask("Before"))["answer"])
        path = f"/conversations/{asked['conversation']}/messages" if asked else "/conversations"
        body = {"text": f"Once, {name}", "model": name}
        responses = at_once(three, lambda client: submit(client, path, body, key))  # noqa: B023
        assert_one_answer(three, provider, name, responses)
        assert len(three.rows("select id from chat_message where text = ?", body["text"])) == 1


def test_the_same_key_at_the_same_moment_writes_an_answer_again_once(three, model, provider):
    for _ in range(ROUNDS):
        name, key = model(tokens=3), str(uuid4())
        asked = three.client("alice").ask("Before")
        three.ended(asked["answer"])
        path = f"/answers/{asked['answer']}/regenerate"
        responses = at_once(three, lambda client: submit(client, path, {"model": name}, key))  # noqa: B023
        again = assert_one_answer(three, provider, name, responses)
        assert again["answer"] != asked["answer"]


def test_of_different_messages_at_the_same_moment_in_one_conversation_one_is_taken(three, model, provider):
    for _ in range(ROUNDS):
        gate = Gate()
        name = model(tokens=4, at=2, gate=gate)
        asked = three.client("alice").ask("Before")
        three.ended(asked["answer"])
        path = f"/conversations/{asked['conversation']}/messages"
        body = {"text": "Who is first?", "model": name}
        responses = at_once(three, lambda client: submit(client, path, body, str(uuid4())))  # noqa: B023
        gate.open()
        assert sorted(response.status for response in responses) == [201] + [409] * (SUBMITS - 1)
        [taken] = [response.json()["answer"] for response in responses if response.status == 201]
        three.ended(taken)
        assert sum(call.model == name for call in provider.calls) == 1


def test_the_limit_of_open_answers_holds_over_all_servers_and_a_repeat_is_no_further_answer(cluster, offer, provider):
    three = cluster(SERVERS, CHAT_MAX_OPEN_ANSWERS="1")
    gate, name, key = Gate(), f"fake-limit-{uuid4()}", str(uuid4())
    provider.script(name, Script(tokens=4, at=2, gate=gate))
    offer(name, three)
    body = {"text": "Only one", "model": name}
    responses = at_once(three, lambda client: submit(client, "/conversations", body, key))
    refused = [submit(three.client("alice", number), "/conversations", body, str(uuid4())) for number in range(SERVERS)]
    gate.open()
    assert [response.status for response in refused] == [429] * SERVERS
    assert_one_answer(three, provider, name, responses)


class Race:
    """A short answer at one server, and a stop at each of the three at the same moment, around its end."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster = cluster
        self.number = number

    def run(self) -> "Race":
        clients = [self.cluster.client("alice", (self.number + step) % SERVERS) for step in range(SERVERS)]
        self.answer = clients[0].ask(f"race {self.number}", SHORT)["answer"]
        with clients[0].events(self.answer) as stream, ThreadPoolExecutor(SERVERS) as threads:
            seen = stream.read_tokens(TOKENS // 2 + self.number % (TOKENS // 2))
            self.receipts = list(threads.map(lambda client: client.stop(self.answer), clients))
            self.frames = seen + stream.read_until("close")
        self.elsewhere = [client.read_to_end(self.answer) for client in clients]
        return self


def numbered(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.id]


def test_a_stop_at_three_servers_at_once_leaves_one_ending_which_all_of_them_show(three, offer):
    offer(SHORT, three)
    with ThreadPoolExecutor(3) as pool:
        races = list(pool.map(lambda number: Race(three, number).run(), range(RACES)))
    for race in races:
        row, [call] = three.answer(race.answer), three.calls(race.answer)
        [final] = [frame for frame in race.frames if frame.name in ("done", "error")]
        right = {"done": ("stop", None), "stopped": ("stopped", "user")}
        assert (final.data["reason"], final.data["by"]) == right[row["status"]]
        assert call["outcome"] == row["status"]
        assert row["text"] == shown(race.frames)
        assert text(SEED, TOKENS).startswith(row["text"])
        assert row["status"] == "stopped" or row["text"] == text(SEED, TOKENS)
        assert all(receipt == race.receipts[0] for receipt in race.receipts)
        assert all(numbered(frames) == numbered(race.frames) for frames in race.elsewhere)
    stopped = sum(three.answer(race.answer)["status"] == "stopped" for race in races)
    assert stopped > 0, "no stop came in time"


# A database that goes away


@pytest.fixture(scope="module")
def database(tmp_path_factory, redis_server) -> Iterator[SharedStores]:
    """A PostgreSQL that tests may end."""
    with Postgres() as postgres:
        yield SharedStores(tmp_path_factory.mktemp("database"), postgres, redis_server)


@pytest.fixture
def two(cluster, database) -> Cluster:
    """Two servers whose leases are shorter than the database will be away."""
    return cluster(2, own=database, CHAT_LEASE_SECONDS="3")


def impatient(client: Client, method: str, path: str, body: Any = None) -> tuple[int, float]:
    """Status and seconds of a request."""
    began = time.monotonic()
    response = client.request(method, path, body, Accept="application/json")
    if response.status == 503:
        assert response.json()["code"] == "database"
        assert int(response.headers["retry-after"]) > 0
    return response.status, time.monotonic() - began


def test_streams_go_on_while_the_database_is_away_and_requests_are_refused_for_the_moment(
    two, database, offer, provider
):
    long, short = "fake?tokens=300&rate=20&seed=3", "fake?tokens=40&rate=20&seed=4"
    alice, bob = two.client("alice"), two.client("bob", 1)
    for name in (long, short):
        offer(name, two)
    asked = {name: client.ask("Go on", name)["answer"] for name, client in ((long, alice), (short, bob))}
    with alice.events(asked[long]) as stream, bob.events(asked[short]) as other, ThreadPoolExecutor(8) as threads:
        before = stream.read_tokens(5)
        database.postgres.kill()
        went = time.monotonic()
        tries = [
            threads.submit(impatient, client, *request)
            for client in (alice, bob)
            for request in (
                ("GET", f"/answers/{asked[long]}"),
                ("POST", "/conversations", {"text": "Now?", "model": "fake"}),
                ("POST", f"/answers/{asked[short]}/stop"),
            )
        ]
        during = stream.read_tokens(int(20 * AWAY_SECONDS))
        assert {frame.name for frame in before + during} == {"started", "token"}
        whole = other.read(lambda frames: sum(frame.data["n"] for frame in frames if frame.name == "token") >= 40)
        assert "done" not in [frame.name for frame in whole]
        assert shown(whole) == text(4, 40)
        for refused in tries:
            status, seconds = refused.result()
            assert (status, seconds < REFUSED_WITHIN) == (503, True), (status, seconds)
        assert time.monotonic() - went > AWAY_SECONDS - 1, "it was away for as long as the test believes"
        database.postgres.start()
        end = other.read_until("close")
        assert [frame.name for frame in end if frame.id] == ["usage", "done"]
        assert shown(before + during + stream.read_until("close")) == text(3, 300)
    for name, tokens in ((long, 300), (short, 40)):
        row, [call] = two.ended(asked[name]), two.calls(asked[name])
        assert (row["status"], row["attempt"], row["fence"]) == ("done", 1, 1), "nobody took it for orphaned"
        assert (call["outcome"], call["completion_tokens"]) == ("done", tokens)
        assert row["text"] == text(3 if name == long else 4, tokens)
    assert_well(two)


def assert_well(cluster: Cluster) -> None:
    """Every server answers a question again."""
    for number in range(len(cluster.servers)):
        client = cluster.client("alice", number)
        asked = until(lambda: takes(client), "questions are taken again")  # noqa: B023
        assert shown(client.read_to_end(asked["answer"]))
        assert cluster.ended(asked["answer"])["status"] == "done"


def takes(client: Client, path: str = "/conversations") -> dict[str, Any] | None:
    """What a question opened, unless it was refused for the moment."""
    response = client.post_json(path, {"text": "Are you well?", "model": "fake"})
    assert response.status in (201, 503), response.text
    return response.json() if response.status == 201 else None


def test_after_a_restart_of_the_database_nobody_notices(two, database):
    clients = [two.client("alice", number) for number in (0, 1) for _ in range(12)]
    with ThreadPoolExecutor(24) as threads:
        list(threads.map(lambda client: client.get("/sidebar"), clients))  # every server has many connections now
        database.postgres.restart()
        statuses = [response.status for response in threads.map(lambda client: client.get("/sidebar"), clients)]
    assert statuses == [200] * 24
    assert_well(two)


def test_when_all_connections_are_taken_a_request_is_refused_in_time_and_streams_go_on(cluster, offer):
    one = cluster(1, DATABASE_POOL="3")
    alice = one.client("alice")
    slow = offer("fake?tokens=400&rate=20&seed=5", one)
    asked = alice.ask("Before")
    one.ended(asked["answer"])
    watched = alice.ask("Watch", slow)["answer"]
    url = one.shared["DATABASE_URL"]
    with alice.events(watched) as stream, psycopg.connect(url) as holder, ThreadPoolExecutor(8) as threads:
        stream.read_tokens(1)
        holder.execute("select 1 from chat_conversation where id = %s for update", [asked["conversation"]])
        path = f"/conversations/{asked['conversation']}/messages"
        tries = [threads.submit(impatient, alice, "POST", path, {"text": "Now?", "model": "fake"}) for _ in range(8)]
        for refused in tries:
            status, seconds = refused.result()
            assert (status, seconds < 20) == (503, True), (status, seconds)  # it may wait at more than one place
        assert "error" not in [frame.name for frame in stream.read_tokens(50)]
    alice.stop(watched)
    assert_well(one)


HOLD = """
import os, signal
from django.db import transaction
from chat.models import Conversation
with transaction.atomic():
    Conversation.objects.select_for_update().get(pk="{conversation}")
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextmanager
def frozen(cluster: Cluster, code: str) -> Iterator[None]:
    """A process with the servers' settings, which runs this code until it stops itself."""
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", code]
    process = subprocess.Popen(command, cwd=ROOT, env=cluster.servers[0].env)
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        yield
    finally:
        process.kill()
        process.wait()


def test_a_process_that_freezes_in_the_middle_of_its_work_does_not_hold_rows_for_ever(three):
    alice = three.client("alice")
    asked = alice.ask("Before")
    three.ended(asked["answer"])
    path = f"/conversations/{asked['conversation']}/messages"
    with frozen(three, HOLD.format(**asked)):
        status, seconds = impatient(alice, "POST", path, {"text": "Held?", "model": "fake"})
        assert (status, seconds < REFUSED_WITHIN) == (503, True)
        taken = until(lambda: takes(alice, path), "the database has let go of the rows")
        assert three.ended(taken["answer"])["status"] == "done"
