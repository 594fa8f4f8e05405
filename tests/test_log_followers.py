"""Followers of a log: they wait and wake, miss nothing, leave at any moment, and cost nothing once an answer is over."""

import asyncio
import random
from uuid import uuid4

from chat.events import START, Done, Position, Started, Token
from chat.replay import Entry
from tests.test_log_contract import SOON, entries, places, play, words

__all__ = ["play"]  # the fixture


def test_a_follower_waits_for_what_comes(play):
    async def scene(log, answer):
        await log.append(words(answer, 2))
        waiting = asyncio.create_task(log.follow(answer, Position(1, 2), SOON))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await log.append(entries(answer, Token("more"), start=3))
        assert places(await waiting) == ["1-3"]

    play(scene)


def test_a_follower_that_waits_in_vain_is_told_nothing_and_may_ask_again(play):
    async def scene(log, answer):
        await log.append(words(answer, 2))
        clock = asyncio.get_running_loop().time
        start = clock()
        found = await log.follow(answer, Position(1, 2), 0.2)
        assert 0.19 <= clock() - start < SOON
        assert (found.joined, list(found.entries)) == (True, [])
        await log.append(entries(answer, Token("more"), start=3))
        assert places(await log.follow(answer, Position(1, 2), 0.2)) == ["1-3"]

    play(scene)


def test_a_wait_of_nothing_returns_at_once(play):
    async def scene(log, answer):
        await log.append(words(answer, 1))
        assert not (await log.follow(answer, Position(1, 1), 0)).entries

    play(scene)


def test_news_of_another_answer_is_no_news(play):
    async def scene(log, answer):
        other = uuid4()
        await log.append([*words(answer, 1), *words(other, 1)])
        waiting = asyncio.create_task(log.follow(answer, Position(1, 1), SOON))
        await asyncio.sleep(0.02)
        await log.append(entries(other, Token("elsewhere"), start=2))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await log.append(entries(answer, Token("here"), start=2))
        assert places(await waiting) == ["1-2"]

    play(scene)


def test_a_refused_writer_adds_nothing_for_those_who_wait(play):
    async def scene(log, answer):
        await log.append(words(answer, 3, fence=2))
        waiting = asyncio.create_task(log.follow(answer, Position(2, 3), SOON))
        await asyncio.sleep(0.02)
        await log.append(words(answer, 9))
        await asyncio.sleep(0.02)
        await log.append(entries(answer, Token("right"), fence=2, start=4))
        found = await waiting
        while not found.entries:  # waking early and asking again is a follower's right
            found = await log.follow(answer, Position(2, 3), SOON)
        assert places(found) == ["2-4"]

    play(scene)


def test_leaving_in_mid_wait_harms_nobody(play):
    async def scene(log, answer):
        await log.append(words(answer, 1))
        crowd = [asyncio.create_task(log.follow(answer, Position(1, 1), SOON)) for _ in range(50)]
        await asyncio.sleep(0.02)
        for leaving in crowd[::2]:
            leaving.cancel()
        await asyncio.gather(*crowd[::2], return_exceptions=True)
        assert all(leaving.cancelled() for leaving in crowd[::2])
        await log.append(entries(answer, Token("more"), start=2))
        assert {tuple(places(await staying)) for staying in crowd[1::2]} == {("1-2",)}
        assert places(await log.follow(answer, START, 0)) == ["1-1", "1-2"]

    play(scene)


async def read_on(log, answer, dice: random.Random) -> list[str]:
    """All places of an answer, by a reader that is cut off again and again."""
    seen, position = [], START
    while True:
        asking = asyncio.create_task(log.follow(answer, position, SOON))
        await asyncio.wait([asking], timeout=dice.choice((0, 0, 0.001, 0.005)))
        if not asking.done():
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        if asking.cancelled():
            continue
        found = asking.result()
        assert found.joined
        for entry in found.entries:
            seen.append(str(entry.position))
            position = entry.position
            if entry.event.final:
                return seen


def test_many_followers_that_come_and_go_all_see_everything_once_and_in_order(play):
    async def scene(log, answer):
        dice = random.Random(71)
        await log.append(words(answer, 1))
        crowd = [asyncio.create_task(read_on(log, answer, random.Random(n))) for n in range(30)]
        written = 1
        while written < 200:
            count = dice.randrange(1, 6)
            await log.append(entries(answer, *[Token("x")] * count, start=written + 1))
            written += count
            await asyncio.sleep(dice.choice((0, 0, 0.002)))
        await log.append(entries(answer, Done("stop"), start=written + 1))
        wanted = [f"1-{n}" for n in range(1, written + 2)]
        assert all(seen == wanted for seen in await asyncio.gather(*crowd))

    play(scene)


def test_the_end_of_an_answer_can_be_read_for_a_while_and_is_then_forgotten(play):
    async def scene(log, answer):
        await log.append([*words(answer, 2), *entries(answer, Done("stop"), start=3)])
        assert places(await log.follow(answer, START, 0)) == ["1-1", "1-2", "1-3"]
        async with asyncio.timeout(SOON):
            while await log.last(answer) or (await log.read(answer, START)).joined:
                await asyncio.sleep(0.05)
                await log.append(words(uuid4(), 1))  # the log tidies up while it is used

    play(scene, forget=0.3)


def test_an_open_answer_is_not_forgotten(play):
    async def scene(log, answer):
        await log.append(words(answer, 2))
        await log.append([*words(other := uuid4(), 1), *entries(other, Done("stop"), start=2)])
        async with asyncio.timeout(SOON):
            while await log.last(other):
                await asyncio.sleep(0.02)
                await log.append(words(uuid4(), 1))
        assert places(await log.follow(answer, START, 0)) == ["1-1", "1-2"]

    play(scene, forget=0.05)


def test_a_reader_who_is_overtaken_by_what_is_dropped_is_told_so(play):
    async def scene(log, answer):
        await log.append([Entry(answer, Position(1, 1), Started(str(answer), 1, "m"))])
        waiting = asyncio.create_task(log.follow(answer, Position(1, 1), SOON))
        await asyncio.sleep(0.02)
        await log.append(entries(answer, *[Token("x")] * 60, start=2))
        found = await waiting
        assert not found.joined or places(found)[0] == "1-2"
        assert not (await log.follow(answer, Position(1, 1), 0)).joined

    play(scene, keep=8)
