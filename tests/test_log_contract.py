"""The contract of a log (chat/replay/base.py), kept by every implementation of it."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from chat import sse
from chat.events import START, Done, Error, Event, Position, Reasoning, Started, Token, Usage
from chat.replay import Entry, Log
from chat.replay.memory import MemoryLog

# How each kind of log is made: keep at most so many events of an answer, forget it so many seconds after its end.
LOGS: dict[str, Callable[..., Log]] = {
    "memory": MemoryLog,
}

SOON = 5.0  # seconds in which a follower that should wake has woken
Scene = Callable[[Log, UUID], Awaitable[None]]


@pytest.fixture(params=LOGS)
def play(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Play a scene with a new log and a new answer, on a loop of its own."""

    def run(scene: Scene, **options: float) -> None:
        async def whole() -> None:
            log = LOGS[request.param](**options)
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


def places(found) -> list[str]:
    return [str(entry.position) for entry in found.entries]


def test_what_is_acknowledged_is_there_in_order_and_unchanged(play):
    async def scene(log, answer):
        events = [
            Started(str(answer), 1, "m"),
            Reasoning("hm \ud7ff", 2),
            Token('\n\nevent: admin\n"\\ \u2028🙂'),
            Usage(1, 2, True),
            Error("timeout", "Too slow.", True, "r-1"),
        ]
        assert await log.append(entries(answer, *events)) == set()
        found = await log.follow(answer, START, 0)
        assert found.joined
        assert [entry.event for entry in found.entries] == events
        assert places(found) == ["1-1", "1-2", "1-3", "1-4", "1-5"]
        assert [entry.frame for entry in found.entries] == [
            sse.frame(e, Position(1, n + 1)) for n, e in enumerate(events)
        ]
        assert {entry.answer for entry in found.entries} == {answer}
        assert await log.last(answer) == Position(1, 5)

    play(scene)


def test_a_reader_goes_on_exactly_after_any_position(play):
    async def scene(log, answer):
        await log.append(words(answer, 9))
        for seen in range(10):
            found = await log.follow(answer, Position(1, seen) if seen else START, 0)
            assert found.joined
            assert places(found) == [f"1-{n}" for n in range(seen + 1, 10)]

    play(scene)


def test_when_an_event_was_written_is_kept(play):
    async def scene(log, answer):
        [first, second] = words(answer, 2)
        second.at = first.at - 100
        await log.append([first, second])
        assert [entry.at for entry in (await log.follow(answer, START, 0)).entries] == [first.at, second.at]

    play(scene)


def test_an_answer_nobody_wrote_is_not_joined(play):
    async def scene(log, answer):
        for position in (START, Position(1, 1)):
            found = await log.follow(answer, position, SOON)
            assert (found.joined, list(found.entries), found.first) == (False, [], None)
        assert await log.last(answer) is None

    play(scene)


@pytest.mark.parametrize("position", [Position(1, 4), Position(2, 1), Position(10**9, 10**9)])
def test_a_position_from_the_future_is_not_joined(play, position):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        found = await log.follow(answer, position, SOON)
        assert (found.joined, list(found.entries), found.first) == (False, [], Position(1, 1))

    play(scene)


@pytest.mark.parametrize("position", [Position(1, 4), Position(2, 7), Position(4, 9), Position(0, 3)])
def test_a_position_between_two_writers_that_neither_wrote_is_not_joined(play, position):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.append(words(answer, 2, fence=5))
        found = await log.follow(answer, position, SOON)
        assert (found.joined, list(found.entries), found.first) == (False, [], Position(1, 1))

    play(scene)


def test_a_log_that_begins_in_mid_answer_says_so(play):
    async def scene(log, answer):
        await log.append(entries(answer, Token("late "), Token("later"), start=7))
        found = await log.follow(answer, START, 0)
        assert (found.joined, found.first) == (False, Position(1, 7))
        assert places(await log.follow(answer, Position(1, 6), 0)) == ["1-7", "1-8"]

    play(scene)


def test_only_the_newest_events_are_kept_and_what_is_gone_is_never_skipped_in_silence(play):
    async def scene(log, answer):
        for entry in words(answer, 50):
            await log.append([entry])
        last = await log.last(answer)
        assert last == Position(1, 50)
        gone = await log.follow(answer, START, 0)
        assert (gone.joined, list(gone.entries)) == (False, [])
        assert gone.first > Position(1, 1)
        before = Position(1, gone.first.seq - 1)
        kept = await log.follow(answer, before, 0)
        assert kept.joined
        assert places(kept) == [f"1-{n}" for n in range(gone.first.seq, 51)]
        assert len(kept.entries) <= 16

    play(scene, keep=8)


@pytest.mark.parametrize("late", [[(1, 4)], [(1, 4), (1, 5)], [(2, 3)], [(2, 2), (2, 4)], [(2, 1), (2, 4)]])
def test_an_older_writer_and_a_position_that_is_taken_are_refused_and_nothing_of_them_is_added(play, late):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.append(words(answer, 3, fence=2))
        wrong = [Entry(answer, Position(*place), Token("wrong")) for place in late]
        assert await log.append(wrong) == {answer}
        found = await log.follow(answer, START, 0)
        assert places(found) == ["1-1", "1-2", "1-3", "2-1", "2-2", "2-3"]
        assert not any(getattr(entry.event, "text", "") == "wrong" for entry in found.entries)
        assert await log.append(entries(answer, Token("right"), fence=2, start=4)) == set()

    play(scene)


def test_a_new_writer_goes_on_and_its_readers_with_it(play):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.append(words(answer, 2, fence=5))
        assert places(await log.follow(answer, Position(1, 3), 0)) == ["5-1", "5-2"]
        assert places(await log.follow(answer, Position(1, 1), 0)) == ["1-2", "1-3", "5-1", "5-2"]
        assert await log.last(answer) == Position(5, 2)

    play(scene)


def test_the_same_end_twice_is_there_once(play):
    async def scene(log, answer):
        end = entries(answer, Done("stop"), start=3)
        await log.append(words(answer, 2))
        assert await log.append(end) == set()
        assert await log.append(end) == {answer}
        assert places(await log.follow(answer, Position(1, 1), 0)) == ["1-2", "1-3"]

    play(scene)


def test_one_append_serves_many_answers_and_refuses_only_the_wrong_ones(play):
    async def scene(log, answer):
        others = [uuid4() for _ in range(20)]
        await log.append(words(answer, 5, fence=2))
        mixed = [words(other, 4) for other in (*others, answer)]
        interleaved = [entry for group in zip(*mixed, strict=True) for entry in group]
        assert await log.append(interleaved) == {answer}
        for other in others:
            assert places(await log.follow(other, START, 0)) == ["1-1", "1-2", "1-3", "1-4"]
        assert places(await log.follow(answer, START, 0)) == ["2-1", "2-2", "2-3", "2-4", "2-5"]

    play(scene)


def test_appending_nothing_does_nothing(play):
    async def scene(log, answer):
        assert await log.append([]) == set()
        assert await log.last(answer) is None

    play(scene)
