"""The log while Redis is down, hangs, comes back empty, is full: it says so soon, loses nothing in silence, and recovers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic
from uuid import UUID, uuid4

import pytest
from redis import Redis as Client

from bench.services import Redis
from chat.events import START, Done, Position, Token
from chat.replay import Fate, Log, LogUnavailable, Slice
from chat.replay.redis import RedisLog
from tests.test_log_contract import SOON, entries, numbered, places, until_joined, words

PATIENCE = 60.0
NOTICED = 8.0  # seconds in which the worst outage is noticed: a read's second, two of patience, and a busy machine
Scene = Callable[[RedisLog, UUID], Awaitable[None]]


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis of this test's own, that comes back empty."""
    with Redis() as running:
        yield running


def play(redis: Redis, scene: Scene) -> None:
    async def whole() -> None:
        log = RedisLog(url=redis.url, prefix="test")
        try:
            async with asyncio.timeout(PATIENCE):
                await scene(log, uuid4())
        finally:
            await log.close()

    asyncio.run(whole())


async def assert_unavailable(log: Log, answer: UUID) -> None:
    """Every verb says so, in a bounded time."""
    for verb in (
        lambda: log.append(words(uuid4(), 1)),
        lambda: log.seal(answer, Position(9, 0)),
        lambda: log.read(answer, START),
        lambda: log.last(answer),
        lambda: log.follow(answer, START, PATIENCE),
    ):
        start = monotonic()
        with pytest.raises(LogUnavailable):
            await verb()
        assert monotonic() - start < NOTICED


async def until_available(log: Log) -> None:
    """Until both the commands and the followers work again."""
    answer = uuid4()
    while True:
        try:
            await log.append(words(answer, 1))
            await log.follow(answer, START, 0)
            return
        except LogUnavailable:
            await asyncio.sleep(0.05)


def test_a_redis_that_is_killed_is_noticed_by_everybody_and_a_new_one_is_found(redis):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        waiting = [asyncio.create_task(log.follow(answer, Position(1, 3), PATIENCE)) for _ in range(20)]
        await asyncio.sleep(0.1)
        start = monotonic()
        redis.kill()
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, LogUnavailable)
        assert monotonic() - start < NOTICED
        await assert_unavailable(log, answer)
        redis.start()
        await until_available(log)
        assert await log.append(words(answer, 3)) == {}
        assert places(await log.follow(answer, START, SOON)) == numbered(1, 1, 3)

    play(redis, scene)


def test_a_log_that_was_never_reached_is_found_when_redis_starts(redis):
    redis.kill()

    async def scene(log, answer):
        await assert_unavailable(log, answer)
        redis.start()
        await until_available(log)
        assert await log.append(words(answer, 2)) == {}

    play(redis, scene)


def test_a_redis_that_comes_back_empty_takes_no_tail_and_its_readers_do_not_go_on_in_silence(redis):
    async def scene(log, answer):
        await log.append(words(answer, 5))
        assert places(await log.follow(answer, START, SOON)) == numbered(1, 1, 5)
        redis.kill()
        redis.start()
        await until_available(log)
        assert await log.append(entries(answer, Token("tail"), start=6)) == {answer: Fate.LOST}
        assert await log.follow(answer, Position(1, 5), SOON) == Slice(joined=False)
        assert await log.last(answer) is None
        await log.seal(answer, Position(2, 0), forget=True)
        assert await log.append(words(answer, 2, fence=2)) == {}
        assert places(await until_joined(log, answer, Position(1, 5))) == ["2-1", "2-2"]

    play(redis, scene)


def test_a_redis_that_comes_back_without_its_newest_events_is_not_believed_to_have_them(redis):
    async def scene(log, answer):
        stored = words(answer, 5)
        await log.append(stored)
        assert places(await log.follow(answer, START, SOON)) == numbered(1, 1, 5)
        redis.kill()
        redis.start()
        await until_available(log)
        await log.append(stored[:3])  # as from an old snapshot
        assert places(await log.follow(answer, START, SOON)) == numbered(1, 1, 3)
        assert await log.append(entries(answer, Token("tail"), start=6)) == {answer: Fate.LOST}
        assert await log.follow(answer, Position(1, 5), SOON) == Slice(joined=False)

    play(redis, scene)


def test_a_redis_that_comes_back_with_its_data_goes_on_exactly():
    async def scene(log, answer):
        more = entries(answer, Token("more"), start=4)
        await log.append(words(answer, 3))
        assert places(await log.follow(answer, START, SOON)) == numbered(1, 1, 3)
        redis.kill()
        with pytest.raises(LogUnavailable):
            await log.append(more)
        redis.start()
        await until_available(log)
        assert await log.append(more) == {}
        assert places(await log.follow(answer, Position(1, 2), SOON)) == ["1-3", "1-4"]

    with Redis(append_only=True, appendfsync="always") as redis:
        play(redis, scene)


def test_a_redis_that_hangs_is_noticed_and_what_it_took_in_meanwhile_counts_once(redis):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        waiting = asyncio.create_task(log.follow(answer, Position(1, 3), PATIENCE))
        await asyncio.sleep(0.1)
        redis.freeze()
        start = monotonic()
        more = entries(answer, Token("more"), start=4)
        with pytest.raises(LogUnavailable):
            await log.append(more)
        with pytest.raises(LogUnavailable):
            await waiting
        assert monotonic() - start < NOTICED
        await assert_unavailable(log, answer)
        redis.thaw()
        await until_available(log)
        assert await log.append(more) == {}
        assert await log.append(entries(answer, Done("stop"), start=5)) == {}
        assert places(await log.follow(answer, Position(1, 2), SOON)) == numbered(1, 3, 5)

    play(redis, scene)


def test_a_redis_that_is_down_costs_each_append_little(redis):
    async def scene(log, answer):
        await log.append(words(answer, 1))
        redis.freeze()
        with pytest.raises(LogUnavailable):
            await log.append(entries(answer, Token("x"), start=2))
        big = [entry for _ in range(1000) for entry in words(uuid4(), 20)]
        start = monotonic()
        with pytest.raises(LogUnavailable):
            await log.append(big)
        assert monotonic() - start < 1.5  # a short question first, not the whole batch
        redis.thaw()

    play(redis, scene)


def test_a_full_redis_takes_nothing_and_can_still_be_read():
    async def scene(log, answer):
        await log.append(words(answer, 3))
        more = entries(answer, Token("x" * 1_000_000), start=4)
        with Client.from_url(redis.url) as client:
            client.config_set("maxmemory", client.info("memory")["used_memory_startup"])
            for entry in (more, words(uuid4(), 1)):
                with pytest.raises(LogUnavailable):
                    await log.append(entry)
            with pytest.raises(LogUnavailable):
                await log.seal(answer, Position(2, 0))
            assert await log.last(answer) == Position(1, 3)
            assert places(await log.read(answer, START)) == numbered(1, 1, 3)
            assert places(await log.follow(answer, START, SOON)) == numbered(1, 1, 3)
            client.config_set("maxmemory", 0)
        assert await log.append(more) == {}
        assert places(await log.follow(answer, Position(1, 3), SOON)) == ["1-4"]

    with Redis(maxmemory_policy="noeviction") as redis:
        play(redis, scene)


def test_a_redis_that_may_only_be_read_takes_nothing(redis):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        with Client.from_url(redis.url) as client:
            client.replicaof("127.0.0.1", "1")
            with pytest.raises(LogUnavailable):
                await log.append(entries(answer, Token("more"), start=4))
            with pytest.raises(LogUnavailable):
                await log.seal(answer, Position(2, 0))
            client.replicaof("NO", "ONE")
        await until_available(log)
        assert await log.append(entries(answer, Token("more"), start=4)) == {}

    play(redis, scene)


def test_the_error_of_one_answer_is_not_taken_for_the_success_of_others(redis):
    async def scene(log, answer):
        others = [uuid4() for _ in range(3)]
        with Client.from_url(redis.url) as client:
            client.set(f"test:log:{others[1]}", "not a stream")
            batch = [entry for each in (answer, *others) for entry in words(each, 2)]
            with pytest.raises(LogUnavailable):
                await log.append(batch)
            client.delete(f"test:log:{others[1]}")
        assert await log.append(batch) == {}
        for each in (answer, *others):
            assert places(await log.read(each, START)) == ["1-1", "1-2"]

    play(redis, scene)


def test_a_redis_that_forgot_the_scripts_is_told_them_again(redis):
    async def scene(log, answer):
        others = [uuid4() for _ in range(3)]
        await log.append([entry for each in (answer, *others) for entry in words(each, 2)])
        with Client.from_url(redis.url) as client:
            client.script_flush()
            more = [entry for each in (answer, *others) for entry in entries(each, Token("x"), start=3)]
            assert await log.append(more) == {}
            client.script_flush()
            await log.seal(answer, Position(2, 0))
        assert await log.last(answer) == Position(2, 0)

    play(redis, scene)


def test_everything_in_redis_expires_and_a_closed_log_leaves_no_connection(redis):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.append([*words(other := uuid4(), 1), *entries(other, Done("stop"), start=2)])
        await log.seal(uuid4(), Position(1, 0))
        await log.seal(uuid4(), Position(1, 0), forget=True)
        crowd = [log.follow(uuid4(), START, 0) for _ in range(300)]
        await asyncio.gather(log.follow(answer, START, SOON), *crowd)

    play(redis, scene)
    with Client.from_url(redis.url) as client:
        keys = client.keys()
        assert len([key for key in keys if key.startswith(b"test:log:")]) == 4
        assert all(key.startswith(b"test:") for key in keys)
        assert all(0 < client.ttl(key) <= 24 * 3600 for key in keys)
        assert len(client.client_list()) == 1  # this one
