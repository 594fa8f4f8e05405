"""`manage.py recover_answers` ends what no server writes any more, and nothing else."""

from collections.abc import Callable

import pytest

from bench.script import text
from bench.services import Postgres, Redis
from tests.client import shown
from tests.cluster import Cluster
from tests.stores import SharedStores

QUICK = {"CHAT_LEASE_SECONDS": "4", "CHAT_CHECKPOINT_SECONDS": "0.5"}


@pytest.fixture(scope="module")
def pair(cluster_all: Callable[..., Cluster]) -> Cluster:
    return cluster_all(2, **QUICK)


def test_it_ends_the_answers_of_a_killed_server_with_all_that_was_acknowledged(pair, offer):
    pair.start()
    pair.servers[1].kill()
    alice = pair.client("alice")
    answer = alice.ask("go on", offer("fake?tokens=3000&rate=50&seed=71", pair.servers[0]))["answer"]
    with alice.events(answer) as stream:
        seen = stream.read_tokens(40)
        pair.servers[0].kill()
    assert pair.answer(answer)["status"] == "open"
    assert pair.manage("recover_answers").splitlines()[-1] == "Ended: 1."
    row, [call] = pair.answer(answer), pair.calls(answer)
    assert (row["status"], row["error_code"], call["outcome"]) == ("interrupted", "interrupted", "interrupted")
    assert row["text"].startswith(shown(seen))
    assert row["text"] == text(71, 3000)[: len(row["text"])]
    assert pair.manage("recover_answers").splitlines()[-1] == "Ended: 0."
    pair.start()
    frames = pair.client("alice", 1).read_to_end(answer)
    assert (shown(frames), frames[-2].data["code"]) == (row["text"], "interrupted")


def test_it_leaves_alone_what_a_server_writes(pair, offer):
    pair.start()
    alice = pair.client("alice")
    answer = alice.ask("go on", offer("fake?tokens=300&rate=50&seed=72", pair))["answer"]
    with alice.events(answer) as stream:
        seen = stream.read_tokens(5)
        assert pair.manage("recover_answers").splitlines()[-1] == "Ended: 0."
        seen += stream.read_until("close")
    assert shown(seen) == text(72, 300)
    assert pair.answer(answer)["status"] == "done"


def test_without_the_log_it_waits_for_the_operator_to_say_so(cluster, postgres_server: Postgres, offer, tmp_path):
    with Redis() as redis:
        one = cluster(1, own=SharedStores(tmp_path / "prepared", postgres_server, redis), **QUICK)
        alice = one.client("alice")
        answer = alice.ask("go on", offer("fake?tokens=3000&rate=50&seed=73", one))["answer"]
        with alice.events(answer) as stream:
            stream.read_tokens(80)
            one.servers[0].kill()
        redis.kill()
        assert "Still open: 1" in one.manage("recover_answers")
        assert one.answer(answer)["status"] == "open"
        assert one.manage("recover_answers", "--without-log").splitlines()[-1] == "Ended: 1."
    row = one.answer(answer)
    assert row["status"] == "interrupted"
    assert row["text"] == text(73, 3000)[: len(row["text"])] != ""


@pytest.mark.own_stores
def test_beside_a_server_with_the_log_in_memory_it_is_refused(serve):
    parley = serve()
    with pytest.raises(Exception, match="returned non-zero exit status"):
        parley.manage("recover_answers")
    assert parley.client().get("/healthz").status == 200
    parley.end()
    assert parley.manage("recover_answers") == "Ended: 0.\n"
