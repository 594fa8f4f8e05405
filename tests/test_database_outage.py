"""A PostgreSQL that goes away, is busy, or waits for a frozen process: requests are refused for the moment, streams go on."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from bench.script import text
from bench.services import Postgres
from tests.client import Client, shown, until
from tests.cluster import Cluster
from tests.parley import ROOT
from tests.stores import SharedStores

AWAY_SECONDS = 5.0
REFUSED_WITHIN = 8.0  # seconds: waiting for a connection takes 5 of them


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


def test_a_process_that_freezes_in_the_middle_of_its_work_does_not_hold_rows_for_ever(cluster):
    one = cluster(1)
    alice = one.client("alice")
    asked = alice.ask("Before")
    one.ended(asked["answer"])
    path = f"/conversations/{asked['conversation']}/messages"
    with frozen(one, HOLD.format(**asked)):
        status, seconds = impatient(alice, "POST", path, {"text": "Held?", "model": "fake"})
        assert (status, seconds < REFUSED_WITHIN) == (503, True)
        taken = until(lambda: takes(alice, path), "the database has let go of the rows")
        assert one.ended(taken["answer"])["status"] == "done"
