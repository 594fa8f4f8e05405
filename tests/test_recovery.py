"""Any process may be killed at any moment: what was acknowledged stays, and each answer comes to one end."""

import time
from collections.abc import Callable

import pytest

from bench.script import text
from tests.cluster import Cluster
from tests.parley import shown, until

pytestmark = pytest.mark.usefixtures("provider")

LEASE = 4.0
QUICK = {"CHAT_LEASE_SECONDS": str(LEASE), "CHAT_CHECKPOINT_SECONDS": "0.5"}


@pytest.fixture(scope="module")
def trio(cluster_all: Callable[..., Cluster]) -> Cluster:
    return cluster_all(3, **QUICK)


@pytest.fixture(autouse=True)
def all_are_up(trio: Cluster) -> None:
    trio.start()


def test_a_killed_process_loses_no_word_that_was_seen_and_its_answers_end_interrupted(trio, offer, provider):
    model = offer("fake?tokens=2000&rate=50&seed=81", trio)
    alice = trio.client("alice")
    answers = [alice.ask(f"question {i}", model)["answer"] for i in range(5)]
    streams = [trio.client("alice", 1 + i % 2).events(answer) for i, answer in enumerate(answers)]
    seen = [stream.read_tokens(30) for stream in streams]
    trio.servers[0].kill()
    provider.wait(lambda calls: [c.state for c in calls if c.model == model] == ["aborted"] * 5)
    for answer, stream, before in zip(answers, streams, seen, strict=True):
        with stream:
            frames = before + stream.read_until("close")
        row, [call] = trio.ended(answer), trio.calls(answer)
        assert (row["status"], row["error_code"], row["retryable"], row["fence"]) == (
            "interrupted",
            "interrupted",
            1,
            2,
        )
        assert shown(frames) == row["text"] == text(81, 2000)[: len(row["text"])]
        assert [f.name for f in frames if f.name in ("started", "error", "done")] == ["started", "error"]
        assert (call["outcome"], call["error_code"], call["estimated"]) == ("interrupted", "interrupted", 1)
        assert call["completion_tokens"] == row["completion_tokens"] >= 30
        assert shown(trio.client("alice", 2).read_to_end(answer)) == row["text"]


def test_an_answer_of_which_nothing_was_heard_is_begun_again_once(trio, offer, provider):
    model = offer("fake?tokens=5&ttft=6&seed=82", trio)
    answer = trio.client("alice").ask("patience", model)["answer"]
    with trio.client("alice", 1).events(answer) as stream:
        before = stream.read_until("started")
        provider.wait(lambda calls: [c for c in calls if c.model == model])
        trio.servers[0].kill()
        frames = before + stream.read_until("close")
    assert [f.data["attempt"] for f in frames if f.name == "started"] == [1, 2]
    assert shown(frames) == text(82, 5)
    row, calls = trio.answer(answer), trio.calls(answer)
    assert (row["status"], row["attempt"], row["text"]) == ("done", 2, text(82, 5))
    assert [(c["outcome"], c["error_code"]) for c in calls] == [("interrupted", "lost"), ("done", "")]
    assert len([c for c in provider.calls if c.model == model]) == 2


def test_an_answer_that_loses_two_processes_before_a_word_is_not_begun_a_third_time(trio, offer, provider):
    model = offer("fake?tokens=5&ttft=60&seed=83", trio)
    answer = trio.client("alice").ask("patience", model)["answer"]
    provider.wait(lambda calls: [c for c in calls if c.model == model])
    trio.servers[0].kill()
    until(lambda: trio.answer(answer)["attempt"] == 2, "it is begun again")
    until(lambda: len([c for c in provider.calls if c.model == model]) == 2, "the provider is asked again")
    owner = trio.answer(answer)["lease_owner"]
    second = next(server for server in trio.servers if server.is_up and f"-{server.process.pid}-" in owner)
    second.kill()
    row = trio.ended(answer)
    assert (row["status"], row["attempt"], row["text"]) == ("interrupted", 2, "")
    assert [c["outcome"] for c in trio.calls(answer)] == ["interrupted", "interrupted"]
    assert len([c for c in provider.calls if c.model == model]) == 2


def test_a_stop_that_its_writer_did_not_live_to_obey_is_obeyed_by_the_recoverer(trio, offer, provider):
    model = offer("fake?tokens=2000&rate=50&seed=84", trio)
    alice = trio.client("alice", 1)
    answer = trio.client("alice").ask("stop me", model)["answer"]
    with alice.events(answer) as stream:
        seen = stream.read_tokens(20)
        trio.servers[0].freeze()
        try:
            receipt = alice.stop(answer)
        finally:
            trio.servers[0].kill()
        frames = seen + stream.read_until("close")
    row = trio.answer(answer)
    assert (row["status"], row["stop_by"]) == ("stopped", "user")
    assert (frames[-2].name, frames[-2].data["reason"], frames[-2].data["by"]) == ("done", "stopped", "user")
    assert receipt["completion_tokens"] == row["completion_tokens"]
    assert shown(frames) == row["text"]


def test_a_frozen_process_that_wakes_up_writes_nothing_more_and_closes_its_call(trio, offer, provider):
    model = offer("fake?tokens=3000&rate=50&seed=85", trio)
    answer = trio.client("alice").ask("sleep well", model)["answer"]
    with trio.client("alice", 1).events(answer) as stream:
        seen = stream.read_tokens(20)
        trio.servers[0].freeze()
        frames = seen + stream.read_until("close")
    row = trio.answer(answer)
    assert row["status"] == "interrupted"
    trio.servers[0].thaw()
    provider.wait(lambda calls: [c.state for c in calls if c.model == model] == ["aborted"], timeout=10)
    until(lambda: trio.servers[0].answers(), "the process serves again")
    time.sleep(1.5)  # two checkpoints of the process that was frozen
    after = trio.answer(answer)
    assert {**after, "html": "", "html_version": ""} == {**row, "html": "", "html_version": ""}
    again = trio.client("alice", 0).read_to_end(answer)
    assert shown(again) == shown(frames) == row["text"]
    assert [f.id for f in again if f.id][-1] == [f.id for f in frames if f.id][-1]
