"""Several processes share the log in Redis: what one writes the readers of another get, at once, all of it, and once.

Two logs in one test are two processes: they have nothing in common but Redis.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter
from uuid import UUID, uuid4

import pytest

from chat.events import START, Done, Position, Token
from chat.replay.redis import RedisLog
from tests.test_log_contract import SOON, entries, numbered, places, words

PATIENCE = 60.0
Scene = Callable[[RedisLog, RedisLog], Awaitable[None]]


@pytest.fixture
def play(redis_url: str) -> Callable[..., None]:
    """Play a scene with the logs of two processes."""

    def run(scene: Scene, **options: float) -> None:
        async def whole() -> None:
            prefix = f"test-{uuid4()}"
            one, other = (RedisLog(url=redis_url, prefix=prefix, **options) for _ in range(2))
            try:
                async with asyncio.timeout(PATIENCE):
                    await scene(one, other)
            finally:
                await one.close()
                await other.close()

        asyncio.run(whole())

    return run


async def read_on(log: RedisLog, answer: UUID, position: Position) -> list[str]:
    """The same for a reader whose position may be ahead of the log for a moment."""
    while True:
        if (await log.read(answer, position)).joined:
            return await read_all(log, answer, position)
        await asyncio.sleep(0.001)


async def read_all(log: RedisLog, answer: UUID, position: Position = START) -> list[str]:
    """The places of all events after a position, up to the final one, as a reader gets them that never asks twice."""
    seen = []
    while True:
        found = await log.follow(answer, position, PATIENCE)
        assert found.joined
        for entry in found.entries:
            seen.append(str(entry.position))
            position = entry.position
            if entry.event.final:
                return seen


def test_a_waiting_reader_of_another_process_gets_an_event_at_once(play):
    async def scene(writer, readers):
        answer, delays = uuid4(), []
        await writer.append(words(answer, 1))
        for n in range(2, 102):
            waiting = asyncio.create_task(readers.follow(answer, Position(1, n - 1), SOON))
            await asyncio.sleep(random.choice((0, 0.001, 0.005)))
            start = perf_counter()
            await writer.append(entries(answer, Token("x"), start=n))
            assert places(await waiting) == [f"1-{n}"]
            delays.append(perf_counter() - start)
        assert median(delays) < 0.05  # the block of a read is twenty times as long

    play(scene)


def test_a_reader_that_joins_while_others_wait_does_not_wait_for_them(play):
    async def scene(writer, readers):
        quiet = [uuid4() for _ in range(5)]
        for answer in quiet:
            await writer.append(words(answer, 1))
        patient = [asyncio.create_task(readers.follow(answer, Position(1, 1), PATIENCE)) for answer in quiet]
        await asyncio.sleep(0.05)
        delays = []
        for _ in range(20):  # each joins while the process is in the middle of a read without it
            answer = uuid4()
            await writer.append(words(answer, 1))
            await readers.follow(answer, START, 0)
            waiting = asyncio.create_task(readers.follow(answer, Position(1, 1), SOON))
            await asyncio.sleep(0.02)
            start = perf_counter()
            await writer.append(entries(answer, Done("stop"), start=2))
            assert places(await waiting) == ["1-2"]
            delays.append(perf_counter() - start)
        assert median(delays) < 0.1
        for task in patient:
            task.cancel()

    play(scene)


def test_two_writers_of_one_answer_cannot_both_be_right(play):
    async def scene(one, other):
        for n in range(1, 30):
            answer = uuid4()
            await one.append(words(answer, 1))
            fates = await asyncio.gather(
                one.append(entries(answer, Token("one"), Token("one"), start=2)),
                other.append(entries(answer, Token("other"), start=2)),
            )
            assert sorted(len(fate) for fate in fates) == [0, 1], n
            texts = {getattr(e.event, "text", "") for e in (await one.read(answer, Position(1, 1))).entries}
            assert texts == ({"other"} if fates[0] else {"one"})

    play(scene)


def test_five_hundred_answers_at_once_miss_nothing(play):
    async def scene(writer, readers):
        answers = [uuid4() for _ in range(500)]
        await writer.append([entry for answer in answers for entry in words(answer, 1)])
        crowd = [asyncio.create_task(read_all(readers, answer)) for answer in answers]
        for n in range(2, 22):
            await writer.append([entry for answer in answers for entry in entries(answer, Token("x"), start=n)])
        await writer.append([entry for answer in answers for entry in entries(answer, Done("stop"), start=22)])
        for seen in await asyncio.gather(*crowd):
            assert seen == numbered(1, 1, 22)

    play(scene)


def test_joining_fast_writers_a_thousand_times_anywhere_neither_misses_nor_doubles_an_event(play):
    async def scene(writer, readers):
        dice, joined = random.Random(12), 0
        while joined < 1000:
            answers = [uuid4() for _ in range(25)]
            await writer.append([entry for answer in answers for entry in words(answer, 1)])
            ends, reading, waiting = dict.fromkeys(answers, 1), [], list(answers)
            while waiting:  # each answer is joined once, so that its tape has to be loaded, while it is being written
                tick = []
                for answer in answers:
                    count = dice.randrange(3)
                    tick += entries(answer, *[Token("x")] * count, start=ends[answer] + 1)
                    ends[answer] += count
                writing = asyncio.create_task(writer.append(tick))
                for _ in range(dice.randrange(3)):
                    await asyncio.sleep(0)
                for answer in [waiting.pop() for _ in range(min(len(waiting), dice.randrange(6)))]:
                    after = dice.randrange(ends[answer])  # may be of an event that is not there yet
                    position = Position(1, after) if after else START
                    reading.append((answer, after, asyncio.create_task(read_on(readers, answer, position))))
                assert await writing == {}
            await writer.append(
                [e for answer in answers for e in entries(answer, Done("stop"), start=ends[answer] + 1)]
            )
            for answer, after, task in reading:
                assert await task == numbered(1, after + 1, ends[answer] + 1)
            joined += len(reading)

    play(scene)


def test_a_reader_that_changes_to_a_process_that_has_not_heard_so_much_yet_goes_on_there(play):
    async def scene(one, other):
        answer, position, written = uuid4(), Position(1, 1), 1
        await one.append(words(answer, 1))
        for log in (one, other):
            await log.follow(answer, START, 0)  # from now on it has a tape
        while written < 400:
            writing = asyncio.create_task(one.append(entries(answer, Token("x"), start=written + 1)))
            found = await one.follow(answer, position, SOON)
            position = found.entries[-1].position
            found = await other.follow(answer, position, 0)
            assert found.joined
            assert not found.entries
            assert await writing == {}
            written += 1
            one, other = other, one

    play(scene)
