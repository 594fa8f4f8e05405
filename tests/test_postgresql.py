"""Several servers on one PostgreSQL: one answer for one key, and one ending for one answer, whoever asks where."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from bench.script import Gate, Script, text
from tests.client import Client, Frame, Response, shown
from tests.cluster import Cluster

SERVERS = 3
ROUNDS = 5
SUBMITS = 12
RACES = 60
TOKENS, SEED = 30, 34
SHORT = f"fake?tokens={TOKENS}&rate=100&seed={SEED}"  # ends about 300 ms after it began


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
