"""The contract of presence (chat/presence/base.py), kept by every implementation of it."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from uuid import UUID, uuid4

import pytest
from redis import Redis as Client

from bench.services import Redis
from chat.presence import EXPIRY_SECONDS, Beat, Presence, answer_place, user_place
from chat.presence.memory import MemoryPresence
from chat.presence.redis import BATCH, RedisPresence

LONG, SHORT = 60.0, 0.6  # seconds that members live: longer than a test, or to be waited for
Scene = Callable[[Presence, Presence], Awaitable[None]]


@pytest.fixture(params=["memory", "redis"])
def play(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Play a scene with the stores of two processes; in memory there is only one."""

    def stores(life: float) -> tuple[Presence, Presence]:
        if request.param == "memory":
            return (MemoryPresence(life),) * 2
        url, prefix = request.getfixturevalue("redis_url"), f"test-{uuid4()}"
        return RedisPresence(life, url=url, prefix=prefix), RedisPresence(life, url=url, prefix=prefix)

    def run(scene: Scene, life: float = LONG) -> None:
        async def whole() -> None:
            one, other = stores(life)
            try:
                async with asyncio.timeout(30):
                    await scene(one, other)
            finally:
                await one.close()
                await other.close()

        asyncio.run(whole())

    return run


ANSWER = answer_place(UUID(int=7))


async def until_gone(store: Presence, place: str) -> float:
    """When nobody is there any more, on the clock."""
    while True:
        if not await store.living([place]):
            return monotonic()
        await asyncio.sleep(0.01)


def test_who_beats_is_there_in_every_process_with_what_they_say(play):
    async def scene(one, other):
        await one.beat([Beat("user.1", "a", {"page": "chat", "conversation": "é ☃"}), Beat("user.1", "b")])
        await other.beat([Beat(ANSWER, "c", {"user": 1})])
        for store in (one, other):
            assert await store.living(["user.1", "user.2", ANSWER]) == {"user.1", ANSWER}
            assert await store.members() == {
                "user.1": {"a": {"page": "chat", "conversation": "é ☃"}, "b": {}},
                ANSWER: {"c": {"user": 1}},
            }

    play(scene)


def test_a_later_beat_says_what_is_true_now(play):
    async def scene(one, other):
        await one.beat([Beat("user.1", "a", {"conversation": "x"})])
        await other.beat([Beat("user.1", "a", {"conversation": "y"})])
        assert await one.members() == {"user.1": {"a": {"conversation": "y"}}}

    play(scene)


def test_who_leaves_is_gone_and_the_others_are_not(play):
    async def scene(one, other):
        await one.beat([Beat("user.1", "a"), Beat("user.1", "b"), Beat(ANSWER, "c")])
        await other.leave("user.1", "a")
        assert await one.members() == {"user.1": {"b": {}}, ANSWER: {"c": {}}}
        await one.leave(ANSWER, "c")
        assert await other.living(["user.1", ANSWER]) == {"user.1"}
        for _ in range(2):
            await other.leave("user.1", "b")
        await other.leave("user.9", "nobody")
        assert await one.living(["user.1", "user.9", ANSWER]) == set()
        assert await one.members() == {}

    play(scene)


def test_who_falls_silent_is_gone_when_their_time_is_over_and_not_before(play):
    async def scene(one, other):
        start = monotonic()
        await one.beat([Beat("user.1", "a")])
        beaten = monotonic()
        gone = await until_gone(other, "user.1")
        assert start + SHORT - 0.01 <= gone <= beaten + SHORT + 5
        assert await one.members() == {}

    play(scene, SHORT)


def test_each_member_has_a_time_of_its_own(play):
    async def scene(one, other):
        await one.beat([Beat("user.1", "ghost"), Beat("user.1", "alive")])
        while True:
            await other.beat([Beat("user.1", "alive")])
            if await one.members() == {"user.1": {"alive": {}}}:
                return
            await asyncio.sleep(0.02)

    play(scene, SHORT)


def test_a_member_that_leaves_does_not_take_the_time_of_those_who_stay(play):
    async def scene(one, other):
        start = monotonic()
        await one.beat([Beat("user.1", "stays"), Beat("user.1", "leaves")])
        await other.leave("user.1", "leaves")
        assert await until_gone(one, "user.1") >= start + SHORT - 0.01

    play(scene, SHORT)


def test_hundreds_beat_at_once(play):
    async def scene(one, other):
        crowd = [Beat(user_place(n % 300), f"m{n}", {"n": n}) for n in range(2 * BATCH + 7)]
        await one.beat(crowd)
        assert await other.living([user_place(n) for n in range(400)]) == {user_place(n) for n in range(300)}
        assert sum(len(members) for members in (await other.members()).values()) == len(crowd)

    play(scene)


def test_nobody_asked_nobody_there(play):
    async def scene(one, other):
        await one.beat([])
        assert await one.living([]) == set()
        assert await one.members() == {}

    play(scene)


# What only a shared store can do


def test_nothing_of_presence_stays_in_redis(redis_server):
    prefix = f"test-{uuid4()}"

    async def scene() -> None:
        store = RedisPresence(SHORT, url=redis_server.url, prefix=prefix)
        await store.beat([Beat(user_place(n), "m") for n in range(50)])
        await store.close()

    asyncio.run(scene())
    with Client.from_url(redis_server.url) as client:
        keys = list(client.scan_iter(f"{prefix}*"))
        assert all(client.pttl(key) <= SHORT * 1000 for key in keys)
        end = monotonic() + 10
        while list(client.scan_iter(f"{prefix}*")):
            assert monotonic() < end
            client.ping()


def test_the_shipped_life_is_three_beats(redis_server):
    async def scene() -> None:
        store = RedisPresence(url=redis_server.url, prefix=f"test-{uuid4()}")
        await store.beat([Beat("user.1", "m")])
        with Client.from_url(redis_server.url) as client:
            [key] = client.scan_iter(f"{store._hash}*")
            assert 0.9 * EXPIRY_SECONDS < client.pttl(key) / 1000 <= EXPIRY_SECONDS
        await store.close()

    asyncio.run(scene())


def test_presence_that_cannot_be_asked_says_so_in_time_and_is_found_again():
    async def scene(redis: Redis) -> None:
        store = RedisPresence(url=redis.url, prefix="test")
        verbs = (
            lambda: store.beat([Beat("user.1", "m")]),
            lambda: store.leave("user.1", "m"),
            lambda: store.living(["user.1"]),
            lambda: store.members(),
        )
        await store.beat([Beat("user.1", "m")])
        for outage, end in ((redis.kill, redis.start), (redis.freeze, redis.thaw)):
            outage()
            start = monotonic()
            for verb in verbs:
                with pytest.raises(OSError, match=r".+"):
                    await verb()
            assert monotonic() - start < 8
            end()
            await store.beat([Beat("user.1", "m")])
            assert await store.living(["user.1"]) == {"user.1"}
        await store.close()

    with Redis() as redis:
        asyncio.run(scene(redis))
