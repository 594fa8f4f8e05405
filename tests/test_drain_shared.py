"""A restart of one process of several: its readers go on at the others, and it writes on until its answers are finished."""

import signal
import time
from collections.abc import Callable

import pytest

from bench.script import Gate, Script, text
from tests.client import shown, until
from tests.cluster import Cluster

LEAVES_SECONDS = 2.0
LIVES = 30.0  # seconds of drain: far longer than any test here


@pytest.fixture(scope="module")
def pair(cluster_all: Callable[..., Cluster]) -> Cluster:
    return cluster_all(2, CHAT_DRAIN_SECONDS=str(LIVES))


@pytest.fixture
def gate(provider):
    gate = Gate()
    provider.script("leaving", Script(tokens=12, seed=61, gate=gate, at=6))
    yield gate
    gate.open()


def test_the_leaving_process_writes_on_and_its_readers_go_on_elsewhere(pair, offer, gate):
    pair.start()
    first, second = pair.servers
    answer = pair.client("alice").ask("go on", offer("leaving", pair))["answer"]
    with pair.client("alice").events(answer) as stream:
        seen = stream.read_tokens(6)
        told = time.monotonic()
        first.process.send_signal(signal.SIGTERM)
        seen += stream.read_until("reconnect")
        assert time.monotonic() - told < LEAVES_SECONDS
        assert list(stream) == [], "the body ends cleanly"
    ready = first.client().get("/readyz")
    assert (ready.status, ready.text) == (503, "leaving\n")
    refused = first.client("alice").post(
        "/conversations", {"text": "no", "model": "leaving"}, Accept="application/json"
    )
    assert (refused.status, refused.json()["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) > 0
    asked = second.client("alice").ask("meanwhile", "leaving")
    assert second.client().get("/readyz").text == "ready\n"
    with second.client("alice").events(answer, last_event_id=stream.last_id) as elsewhere:
        gate.open()
        frames = elsewhere.read_until("close")
    assert first.process.wait(LIVES) == 0
    assert "started" not in [f.name for f in frames], "it went on exactly where it was"
    assert shown(seen) + shown(frames) == text(61, 12)
    assert (frames[-2].name, frames[-2].data["reason"]) == ("done", "stop")
    row = pair.answer(answer)
    assert (row["status"], row["text"], row["fence"], row["attempt"]) == ("done", text(61, 12), 1, 1)
    assert pair.ended(asked["answer"])["text"] == text(61, 12)


def test_what_takes_longer_than_the_drain_is_interrupted_and_can_be_continued(cluster, offer, gate):
    pair = cluster(2, CHAT_DRAIN_SECONDS="1")
    first, second = pair.servers
    answer = pair.client("alice").ask("go on", offer("leaving", pair))["answer"]
    with second.client("alice").events(answer) as stream:
        stream.read_tokens(6)
        first.process.send_signal(signal.SIGTERM)
        frames = stream.read_until("close")
    assert first.process.wait(20) == 0
    assert (frames[-2].name, frames[-2].data["code"]) == ("error", "interrupted")
    row = pair.answer(answer)
    assert (row["status"], row["text"]) == ("interrupted", text(61, 6))
    gate.open()
    again = second.client("alice").post(f"/answers/{answer}/continue", {}, Accept="application/json").json()
    frames = second.client("alice").read_to_end(again["answer"])
    assert next((f.data["text"], f.data["n"]) for f in frames if f.name == "token") == (text(61, 6), 0)
    assert shown(frames) == text(61, 6) + text(61, 12)
    [call] = pair.calls(again["answer"])
    assert (call["outcome"], call["completion_tokens"]) == ("done", 12)


def test_a_new_process_takes_over_while_the_old_one_still_writes(pair, offer, gate):
    pair.start()
    first = pair.servers[0]
    answer = pair.client("alice").ask("go on", offer("leaving", pair))["answer"]
    until(lambda: pair.answer(answer)["text"] == text(61, 6), "six tokens are stored")
    time.sleep(0.1)
    first.process.send_signal(signal.SIGTERM)
    until(lambda: first.client().get("/readyz").status == 503, "it is leaving")
    gate.open()
    assert first.process.wait(LIVES) == 0
    first.start()
    assert shown(first.client("alice").read_to_end(answer)) == text(61, 12)
    assert pair.answer(answer)["status"] == "done"
