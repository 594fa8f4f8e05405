"""Redis may go away, come back, or come back empty: sending works, and no word is lost."""

import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis as Client
from redis.exceptions import OutOfMemoryError

from bench.script import text
from bench.services import Postgres, Redis
from tests.client import EventStream, Frame, shown
from tests.cluster import Cluster
from tests.stores import SharedStores

SLOW_MACHINE_SECONDS = 10.0


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """A Redis that these tests may stop. It comes back empty."""
    with Redis() as own:
        yield own


@pytest.fixture(scope="module")
def pair(
    cluster_all: Callable[..., Cluster],
    postgres_server: Postgres,
    redis: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Cluster:
    stores = SharedStores(tmp_path_factory.mktemp("prepared"), postgres_server, redis)
    return cluster_all(2, own=stores, CHAT_SILENT_SECONDS="1")


@pytest.fixture(autouse=True)
def redis_is_there(redis: Redis) -> Iterator[None]:
    yield
    if redis.process is None:
        redis.start()


def check(frames: list[Frame], whole: str) -> None:
    """Nothing is missing and nothing is there twice, however often the bubble was emptied."""
    assert shown(frames) == whole
    assert (frames[-2].name, frames[-2].data.get("reason"), frames[-1].name) == ("done", "stop", "close")


def read_on(stream: EventStream, frames: list[Frame]) -> list[Frame]:
    return frames + stream.read_until("close")


def test_a_redis_that_comes_back_empty_gets_the_whole_answer_again(pair, redis, offer):
    model = offer("fake?tokens=300&rate=50&seed=91", pair)
    answer = pair.client("alice").ask("first", model)["answer"]
    streams = [pair.client("alice", n).events(answer) for n in range(2)]
    seen = [stream.read_tokens(60) for stream in streams]
    redis.kill()
    redis.start()
    for stream, frames in zip(streams, seen, strict=True):
        with stream:
            check(read_on(stream, frames), text(91, 300))
    row = pair.ended(answer)
    assert (row["status"], row["text"], row["fence"] > 1) == ("done", text(91, 300), True)
    for position in ("", seen[0][-1].id, "1-1", "7-7"):
        with pair.client("alice", 1).events(answer, position) as stream:
            frames = stream.read_until("close")
        assert shown(frames) == text(91, 300)


def test_without_redis_sending_works_and_the_database_acknowledges(pair, redis, offer):
    model = offer("fake?tokens=200&rate=50&seed=92", pair)
    alice = pair.client("alice")
    before = alice.ask("before", model)["answer"]
    with alice.events(before) as first, pair.client("alice", 1).events(before) as other:
        seen, seen_there = first.read_tokens(50), other.read_tokens(50)
        redis.kill()
        asked = time.monotonic()
        during = alice.ask("during", model)["answer"]
        assert time.monotonic() - asked < SLOW_MACHINE_SECONDS
        frames = pair.client("alice", 1).read_to_end(during)
        check(frames, text(92, 200))
        assert "recovering" in [f.data["state"] for f in frames if f.name == "status"]
        check(read_on(first, seen), text(92, 200))
        check(read_on(other, seen_there), text(92, 200))
    assert [f.name for f in seen if f.name == "started"] == ["started"], "what was shown stays on the screen"
    redis.start()
    for answer in (before, during):
        assert pair.answer(answer)["text"] == text(92, 200)
        check(pair.client("alice", 1).read_to_end(answer), text(92, 200))


def test_a_stop_without_redis_is_obeyed(pair, redis, offer, provider):
    model = offer("fake?tokens=2000&rate=50&seed=93", pair)
    answer = pair.client("alice").ask("stop", model)["answer"]
    with pair.client("alice").events(answer) as stream:
        stream.read_tokens(20)
        redis.kill()
        receipt = pair.client("alice", 1).stop(answer)
        frames = stream.read_until("close")
    row = pair.answer(answer)
    assert (row["status"], row["completion_tokens"]) == ("stopped", receipt["completion_tokens"])
    assert (frames[-2].name, frames[-2].data["reason"]) == ("done", "stopped")
    provider.wait(lambda calls: [c.state for c in calls if c.model == model] == ["aborted"])
    redis.start()
    assert shown(pair.client("alice").read_to_end(answer)) == row["text"]


def test_a_redis_that_hangs_is_as_good_as_none(pair, redis, offer):
    model = offer("fake?tokens=400&rate=50&seed=94", pair)
    answer = pair.client("alice").ask("hang", model)["answer"]
    with pair.client("alice", 1).events(answer) as stream:
        seen = stream.read_tokens(50)
        redis.freeze()
        try:
            time.sleep(5)  # the outage itself
        finally:
            redis.thaw()
        frames = read_on(stream, seen)
    check(frames, text(94, 400))
    assert pair.ended(answer)["text"] == text(94, 400)


def test_short_outages_one_after_the_other_leave_no_gap_and_nothing_twice(pair, redis, offer):
    model = offer("fake?tokens=900&rate=60&seed=95", pair)
    answer = pair.client("alice").ask("blips", model)["answer"]
    streams = [pair.client("alice", n % 2).events(answer) for n in range(4)]
    seen = [stream.read_tokens(20) for stream in streams]
    for pause in (0.0, 0.3, 1.5, 3.0):
        redis.kill()
        time.sleep(pause)
        redis.start()
        time.sleep(1)
    for stream, frames in zip(streams, seen, strict=True):
        with stream:
            check(read_on(stream, frames), text(95, 900))


def fill(redis: Client) -> None:
    for n in range(1000):
        redis.set(f"ballast-{n}", b"x" * 10_000)


def test_a_redis_without_memory_left_refuses_and_nothing_is_lost(cluster, postgres_server, offer, tmp_path):
    with Redis(maxmemory="3mb", maxmemory_policy="noeviction") as small:
        stores = SharedStores(tmp_path / "prepared", postgres_server, small)
        servers = cluster(1, own=stores)
        model = offer("fake?tokens=100&rate=50&seed=96", servers)
        with Client.from_url(small.url) as filler, pytest.raises(OutOfMemoryError):
            fill(filler)
        frames = servers.client("alice").read_to_end(servers.client("alice").ask("full", model)["answer"])
        check(frames, text(96, 100))
