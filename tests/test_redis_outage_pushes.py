"""Pushes and presence cross over from server to server through Redis, do without it while it is down, and come back."""

import asyncio
import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic, sleep
from uuid import uuid4

import pytest
from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from websockets.sync.client import ClientConnection

from bench.script import Gate, Script, text
from bench.services import Redis
from chat.redis_client import SocketParser
from tests.client import hear, until
from tests.cluster import Cluster
from tests.parley import ROOT, clean_env

OUTAGE = 5.0  # seconds, a restart of Redis or of its machine


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis of this test's own."""
    with Redis() as running:
        yield running


@pytest.fixture
def pair(cluster, redis) -> Cluster:
    """Two servers that share it."""
    return cluster(2, REDIS_URL=redis.url)


@pytest.fixture
def conversation(pair) -> str:
    return str(pair.client("alice").ask("Hello")["conversation"])


@pytest.fixture
def slow(pair, provider) -> Callable[[], tuple[dict[str, str], str]]:
    """Alice's answer that has said something and waits."""
    gate = Gate()

    def ask() -> tuple[dict[str, str], str]:
        name = f"fake-slow-{uuid4()}"
        provider.state.models.append(name)
        provider.script(name, Script(tokens=4, at=2, gate=gate, seed=9))
        until(lambda: pair.client("alice").post("/models").status == 200)
        asked = pair.client("alice").ask("Hold on", name)
        provider.wait(lambda calls: any(call.model == name and call.tokens == 2 for call in calls))
        return asked, text(9, 2)

    yield ask
    gate.open()


def rename(pair: Cluster, conversation: str, title: str, server: int) -> None:
    assert pair.client("alice", server).post(f"/c/{conversation}/rename", {"title": title}).status == 302


def hears(socket: ClientConnection, title: str, patience: float = 0.2) -> bool:
    """Whether a push with this title comes; others are skipped."""
    end = monotonic() + patience
    while (left := end - monotonic()) > 0:
        try:
            if hear(socket, "conversation.changed", patience=left)["title"] == title:
                return True
        except (TimeoutError, AssertionError):
            return False
    return False


def until_heard(pair: Cluster, conversation: str, socket: ClientConnection, server: int) -> None:
    """Rename the conversation at a server until a socket is told: a nudge may be lost, but not all of them."""

    def told() -> bool:
        title = f"title-{uuid4()}"
        rename(pair, conversation, title, server)
        return hears(socket, title)

    until(told, "the push crosses over")


def test_what_happens_at_one_server_is_pushed_to_the_pages_at_another(pair, conversation):
    with pair.client("alice", 0).socket() as here, pair.client("alice", 1).socket() as there:
        for socket in (here, there):
            for server in (0, 1):
                until_heard(pair, conversation, socket, server)
        with pair.client("bob", 1).socket() as foreign:
            rename(pair, conversation, "not for Bob", 0)
            assert hears(there, "not for Bob", 20)
            assert not hears(foreign, "not for Bob")


def test_pushes_come_back_after_redis_was_down_also_to_sockets_that_were_opened_meanwhile(pair, redis, conversation):
    with ExitStack() as stack:
        before = stack.enter_context(pair.client("alice", 1).socket())
        until_heard(pair, conversation, before, 0)
        redis.kill()
        down = monotonic()
        during = stack.enter_context(pair.client("alice", 1).socket())
        bobs = stack.enter_context(pair.client("bob", 1).socket())  # of a group that this server is not in yet
        start = monotonic()
        rename(pair, conversation, "while it is down", 0)
        assert monotonic() - start < 5  # a nudge that cannot be sent is not waited for
        sleep(max(0, OUTAGE - (monotonic() - down)))
        redis.start()
        for socket in (before, during):
            for server in (0, 1):
                until_heard(pair, conversation, socket, server)
        bobs_own = str(pair.client("bob").ask("Hello")["conversation"])

        def bob_is_told() -> bool:
            title = f"title-{uuid4()}"
            assert pair.client("bob", 0).post(f"/c/{bobs_own}/rename", {"title": title}).status == 302
            return hears(bobs, title)

        until(bob_is_told, "a group that could not be joined is joined later")
    for server in pair.servers:
        said = server.log.read_text()
        assert "Unexpected exception in receive task: " in said
        assert "Traceback" not in said


def test_pushes_come_back_after_redis_hung(pair, redis, conversation):
    with pair.client("alice", 1).socket() as socket:
        until_heard(pair, conversation, socket, 0)
        redis.freeze()
        start = monotonic()
        rename(pair, conversation, "while it hangs", 0)
        assert monotonic() - start < 10
        with pair.client("alice", 1).socket() as during:
            sleep(OUTAGE)
            redis.thaw()
            until_heard(pair, conversation, socket, 0)
            until_heard(pair, conversation, during, 0)


def test_an_answer_can_be_stopped_over_a_socket_while_redis_is_down(pair, redis, slow):
    asked, _ = slow()
    redis.kill()
    with pair.client("alice", 1).socket() as socket:  # at the server that does not write it
        socket.send(f'{{"type": "cancel", "answer": "{asked["answer"]}"}}')
        assert hear(socket, "cancelled", "error")["type"] == "cancelled"
    assert pair.ended(asked["answer"])["status"] == "stopped"


def test_the_board_counts_the_readers_of_all_servers_and_does_without_them_while_redis_is_down(pair, redis, slow):
    asked, _ = slow()

    def board(check: Callable[[dict], bool]) -> dict:
        end = monotonic() + 20
        while not check(snapshot := hear(staff, "snapshot")):
            assert monotonic() < end, snapshot
        return snapshot

    with ExitStack() as stack:
        for server in (0, 1, 1):
            stack.enter_context(pair.client("alice", server).socket())
            stack.enter_context(pair.client("alice", server).events(asked["answer"]))
        staff = stack.enter_context(pair.client("staff", 0).socket("/ws/dashboard/"))

        def all_there(snapshot: dict) -> bool:
            tabs = {row["user"]: row["tabs"] for row in snapshot["online"]}
            viewers = {row["answer"]: row["viewers"] for row in snapshot["answers"]}
            return tabs.get("alice") == 3 and tabs.get("staff") == 1 and viewers[asked["answer"]] == 3

        board(all_there)
        redis.kill()
        snapshot = board(lambda snapshot: not snapshot["online"])
        assert [row["answer"] for row in snapshot["answers"]] == [asked["answer"]]
        redis.start()
        board(lambda snapshot: bool(snapshot["online"]))


def test_installations_with_prefixes_of_their_own_do_not_hear_of_each_other(cluster, redis_server):
    one, other = (cluster(1, REDIS_URL=redis_server.url, REDIS_PREFIX=f"test-{name}-{uuid4()}") for name in "ab")
    conversation = str(one.client("alice").ask("Hello")["conversation"])
    with one.client("alice").socket() as here, other.client("alice").socket() as elsewhere:
        until_heard(one, conversation, here, 0)
        rename(one, conversation, "ours alone", 0)
        assert hears(here, "ours alone", 20)
        assert not hears(elsewhere, "ours alone")
        staff = one.client("staff")
        with staff.socket("/ws/dashboard/") as board:
            online = {row["user"]: row["tabs"] for row in hear(board, "snapshot")["online"]}
            assert online["alice"] == 1


def test_a_server_without_redis_says_in_one_line_that_it_is_away_and_never_a_password(serve, redis):
    redis.kill()
    server = serve(REDIS_URL=f"redis://:sesame-open@127.0.0.1:{redis.port}/0")
    with server.client("alice").socket():
        until(lambda: "nudges cannot be heard" in server.log.read_text())
    said = server.log.read_text()
    assert "sesame-open" not in said
    assert "Traceback" not in said


def test_a_subscription_whose_connection_died_of_silence_is_an_error_not_a_pause(redis):
    async def scene() -> None:
        connection = Connection(port=redis.port, protocol=2, parser_class=SocketParser)
        await connection.connect()
        assert await connection.read_response(timeout=0.05) is None
        # What the system says when the other end has not confirmed anything for too long.
        connection._reader.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
        with pytest.raises(RedisConnectionError, match="Connection timed out"):
            await connection.read_response(timeout=0.05)
        await connection.disconnect()

    asyncio.run(scene())


def test_the_layer_reads_its_subscriptions_so(tmp_path):
    code = "from django.conf import settings; print(settings.CHANNEL_LAYERS['default']['CONFIG']['hosts'])"
    env = clean_env(tmp_path) | {"REDIS_URL": "redis://localhost"}
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", code]
    said = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout
    assert "SocketParser" in said
