"""The contract of a log (chat/replay/base.py), kept by every implementation of it."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from chat import sse
from chat.events import START, Done, Error, Event, Position, Reasoning, Started, Token, Usage
from chat.replay import Entry, Fate, Log, Slice
from chat.replay.memory import MemoryLog
from chat.replay.redis import RedisLog

SOON = 5.0  # seconds in which a follower that should wake has woken
Scene = Callable[[Log, UUID], Awaitable[None]]


def memory_log(request: pytest.FixtureRequest, **options: float) -> Log:
    return MemoryLog(**options)


def redis_log(request: pytest.FixtureRequest, **options: float) -> Log:
    return RedisLog(url=request.getfixturevalue("redis_url"), prefix=f"test-{uuid4()}", **options)


# How each kind of log is made: keep at most so many events of an answer, forget it so many seconds after its end.
LOGS: dict[str, Callable[..., Log]] = {"memory": memory_log, "redis": redis_log}


@pytest.fixture(params=LOGS)
def play(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Play a scene with a new log and a new answer, on a loop of its own."""

    def run(scene: Scene, **options: float) -> None:
        async def whole() -> None:
            log = LOGS[request.param](request, **options)
            try:
                async with asyncio.timeout(30):
                    await scene(log, uuid4())
            finally:
                await log.close()

        asyncio.run(whole())

    return run


def entries(answer: UUID, *events: Event, fence: int = 1, start: int = 1) -> list[Entry]:
    return [Entry(answer, Position(fence, start + i), event) for i, event in enumerate(events)]


def words(answer: UUID, count: int, fence: int = 1) -> list[Entry]:
    """`started` and tokens that carry their number."""
    return entries(
        answer, Started(str(answer), fence, "m"), *(Token(f"{n} ") for n in range(2, count + 1)), fence=fence
    )


def places(found: Slice) -> list[str]:
    return [str(entry.position) for entry in found.entries]


async def until_joined(log: Log, answer: UUID, position: Position) -> Slice:
    """What a follower gets that asks again until the log can go on from where it is."""
    async with asyncio.timeout(SOON):
        while True:
            found = await log.follow(answer, position, SOON)
            if found.joined:
                return found
            await asyncio.sleep(0.01)


def numbered(fence: int, first: int, last: int) -> list[str]:
    return [f"{fence}-{n}" for n in range(first, last + 1)]


# What is there


def test_what_is_acknowledged_is_there_in_order_and_unchanged(play):
    async def scene(log, answer):
        events = [
            Started(str(answer), 1, "m"),
            Reasoning("hm \ud7ff", 2),
            Token('\n\nevent: admin\n"\\ \u2028🙂'),
            Usage(1, 2, True),
            Error("timeout", "Too slow.", True, "r-1"),
        ]
        assert await log.append(entries(answer, *events)) == {}
        for found in (await log.read(answer, START), await log.follow(answer, START, 0)):
            assert found.joined
            assert [entry.event for entry in found.entries] == events
            assert places(found) == numbered(1, 1, 5)
            assert [entry.frame for entry in found.entries] == [
                sse.frame(e, Position(1, n + 1)) for n, e in enumerate(events)
            ]
            assert {entry.answer for entry in found.entries} == {answer}
        assert await log.last(answer) == Position(1, 5)

    play(scene)


def test_when_an_event_was_written_is_kept(play):
    async def scene(log, answer):
        [first, second] = words(answer, 2)
        second.at = first.at - 100
        await log.append([first, second])
        assert [entry.at for entry in (await log.read(answer, START)).entries] == [first.at, second.at]

    play(scene)


def test_one_append_serves_many_answers_and_turns_down_only_the_wrong_ones(play):
    async def scene(log, answer):
        others, unknown = [uuid4() for _ in range(20)], uuid4()
        await log.append(words(answer, 5, fence=2))
        mixed = [words(other, 4) for other in (*others, answer)]
        interleaved = [entry for group in zip(*mixed, strict=True) for entry in group]
        tail = entries(unknown, Token("tail"), start=7)
        assert await log.append(interleaved + tail) == {answer: Fate.REFUSED, unknown: Fate.LOST}
        for other in others:
            assert places(await log.read(other, START)) == numbered(1, 1, 4)
        assert places(await log.read(answer, START)) == numbered(2, 1, 5)
        assert await log.last(unknown) is None

    play(scene)


def test_appending_nothing_does_nothing(play):
    async def scene(log, answer):
        assert await log.append([]) == {}
        assert await log.last(answer) is None

    play(scene)


# Where a reader goes on


def test_a_reader_goes_on_exactly_after_any_position(play):
    async def scene(log, answer):
        await log.append(words(answer, 9))
        for seen in range(10):
            found = await log.read(answer, Position(1, seen) if seen else START)
            assert found.joined
            assert places(found) == numbered(1, seen + 1, 9)

    play(scene)


def test_an_answer_nobody_wrote_is_not_joined(play):
    async def scene(log, answer):
        for position in (START, Position(1, 1)):
            assert await log.read(answer, position) == Slice(joined=False)
            assert await log.follow(answer, position, SOON) == Slice(joined=False)
        assert await log.last(answer) is None

    play(scene)


@pytest.mark.parametrize("position", [Position(1, 4), Position(2, 1), Position(10**9, 10**9), Position(10**40, 1)])
def test_a_position_from_the_future_is_not_joined(play, position):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        assert await log.read(answer, position) == Slice(joined=False)
        assert await log.follow(answer, position, SOON) == Slice(joined=False)

    play(scene)


@pytest.mark.parametrize("position", [START, Position(1, 4), Position(2, 7), Position(4, 9), Position(0, 3)])
def test_from_a_position_that_nobody_wrote_a_reader_begins_anew_at_the_newest_started(play, position):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.append(words(answer, 2, fence=5))
        assert places(await log.read(answer, position)) == ["5-1", "5-2"]

    play(scene)


def test_a_new_writer_goes_on_and_its_readers_with_it(play):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.append(words(answer, 2, fence=5))
        assert places(await log.read(answer, Position(1, 3))) == ["5-1", "5-2"]
        assert places(await log.read(answer, Position(1, 1))) == ["1-2", "1-3", "5-1", "5-2"]
        assert await log.last(answer) == Position(5, 2)

    play(scene)


def test_only_the_newest_events_are_kept_and_what_is_gone_is_never_skipped_in_silence(play):
    async def scene(log, answer):
        for entry in words(answer, 50):
            await log.append([entry])
        assert await log.last(answer) == Position(1, 50)
        for seen in (0, 1, 40, 41):
            assert await log.read(answer, Position(1, seen)) == Slice(joined=False)
        assert places(await log.read(answer, Position(1, 42))) == numbered(1, 43, 50)
        assert places(await log.read(answer, Position(1, 47))) == numbered(1, 48, 50)

    play(scene, keep=8)


# Who may write


@pytest.mark.parametrize("late", [[(1, 4)], [(1, 4), (1, 5)], [(2, 3)], [(2, 2), (2, 4)], [(2, 1), (2, 4)]])
def test_an_older_writer_and_a_position_that_is_taken_are_refused_and_nothing_of_them_is_added(play, late):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.append(words(answer, 3, fence=2))
        wrong = [Entry(answer, Position(*place), Token("wrong")) for place in late]
        assert await log.append(wrong) == {answer: Fate.REFUSED}
        found = await log.read(answer, Position(1, 1))
        assert places(found) == ["1-2", "1-3", "2-1", "2-2", "2-3"]
        assert not any(getattr(entry.event, "text", "") == "wrong" for entry in found.entries)
        assert await log.append(entries(answer, Token("right"), fence=2, start=4)) == {}

    play(scene)


@pytest.mark.parametrize("early", [[(2, 5)], [(2, 4), (2, 6)], [(3, 1)], [(3, 2)], [(2, 4), (3, 1)], [(2, 3), (2, 5)]])
def test_entries_are_lost_where_the_log_has_not_got_what_goes_before_them(play, early):
    async def scene(log, answer):
        held = words(answer, 3, fence=2)
        await log.append(held)
        gap = [Entry(answer, Position(*place), Token("gap")) for place in early]
        if gap[0].position == held[2].position:
            gap[0] = held[2]
        assert await log.append(gap) == {answer: Fate.LOST}
        assert await log.last(answer) == Position(2, 3)
        assert await log.append(entries(answer, Token("right"), fence=2, start=4)) == {}

    play(scene)


def test_a_log_does_not_begin_in_mid_answer(play):
    async def scene(log, answer):
        assert await log.append(entries(answer, Token("late "), Token("later"), start=7)) == {answer: Fate.LOST}
        assert await log.append(entries(answer, Token("first"))) == {answer: Fate.LOST}
        assert await log.last(answer) is None

    play(scene)


def test_started_goes_after_anything_but_never_back(play):
    async def scene(log, answer):
        again = Started(str(answer), 2, "m")
        await log.append(entries(answer, again, start=7))
        assert await log.append(entries(answer, again, Token("a"), start=20)) == {}
        assert await log.append(entries(answer, again, start=20)) == {answer: Fate.REFUSED}
        assert await log.append(entries(answer, again, start=8)) == {answer: Fate.REFUSED}
        assert places(await log.read(answer, START)) == ["1-20", "1-21"]

    play(scene)


def test_the_same_entries_again_count_as_added_and_are_there_once(play):
    async def scene(log, answer):
        first, more = words(answer, 2), entries(answer, Token("a"), Token("b"), start=3)
        assert [await log.append(first) for _ in range(3)] == [{}, {}, {}]
        assert await log.append(more) == {}
        assert await log.append(more) == {}
        assert await log.append(more[:1]) == {}
        assert await log.append([*first, *more, *entries(answer, Done("stop"), start=5)]) == {}
        assert places(await log.read(answer, START)) == numbered(1, 1, 5)

    play(scene)


def test_the_same_place_with_other_content_or_another_time_is_not_the_same_entry(play):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        [_, _, last] = (await log.read(answer, START)).entries
        for event, at in ((Token("3 ", 2), last.at), (Done("stop"), last.at), (last.event, last.at + 0.001)):
            assert await log.append([Entry(answer, last.position, event, at)]) == {answer: Fate.REFUSED}
        assert await log.append([Entry(answer, last.position, last.event, last.at)]) == {}

    play(scene)
