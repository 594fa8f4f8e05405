"""Seals: how a log is closed to an older writer, and how it is emptied, in every implementation of the contract."""

import asyncio

import pytest

from chat.events import START, Done, Position, Token
from chat.replay import Fate, Slice
from tests.test_log_contract import SOON, entries, places, play, until_joined, words

__all__ = ["play"]  # the fixture


def test_a_sealed_log_takes_nothing_at_or_below_the_seal(play):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.seal(answer, Position(2, 0))
        assert await log.append(entries(answer, Token("late"), start=4)) == {answer: Fate.REFUSED}
        assert await log.append(words(answer, 3)[:1]) == {answer: Fate.REFUSED}
        assert await log.last(answer) == Position(2, 0)

    play(scene)


def test_readers_do_not_see_a_seal_and_the_next_entry_follows_it(play):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.seal(answer, Position(2, 0))
        assert await log.read(answer, Position(1, 3)) == Slice([])
        assert places(await log.read(answer, START)) == ["1-1", "1-2", "1-3"]
        assert await log.append(entries(answer, Token("gap"), fence=2, start=2)) == {answer: Fate.LOST}
        assert await log.append(entries(answer, Done("stop"), fence=2)) == {}
        assert places(await log.read(answer, Position(1, 2))) == ["1-3", "2-1"]
        assert places(await log.read(answer, Position(2, 0))) == ["2-1"]
        assert places(await log.follow(answer, Position(1, 3), SOON)) == ["2-1"]

    play(scene)


def test_an_answer_that_nobody_wrote_can_be_sealed(play):
    async def scene(log, answer):
        await log.seal(answer, Position(2, 0))
        assert await log.last(answer) == Position(2, 0)
        assert await log.append(words(answer, 3)) == {answer: Fate.REFUSED}
        assert await log.read(answer, START) == Slice(joined=False)
        assert await log.append(words(answer, 2, fence=2)) == {}
        assert places(await log.read(answer, START)) == ["2-1", "2-2"]

    play(scene)


@pytest.mark.parametrize("forget", [False, True])
def test_a_log_that_is_past_a_seal_stays_as_it_is(play, forget):
    async def scene(log, answer):
        await log.append(words(answer, 3, fence=2))
        for position in (Position(1, 9), Position(2, 0), Position(2, 2)):
            await log.seal(answer, position, forget=forget)
        assert places(await log.read(answer, START)) == ["2-1", "2-2", "2-3"]
        assert await log.append(entries(answer, Token("more"), fence=2, start=4)) == {}

    play(scene)


@pytest.mark.parametrize("forget", [False, True])
def test_a_seal_may_be_set_again(play, forget):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        for _ in range(3):
            await log.seal(answer, Position(2, 0), forget=forget)
        assert await log.last(answer) == Position(2, 0)
        assert places(await log.read(answer, START)) == ([] if forget else ["1-1", "1-2", "1-3"])

    play(scene)


def test_a_seal_that_forgets_empties_the_log_until_a_new_started(play):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.seal(answer, Position(2, 0), forget=True)
        for position in (START, Position(1, 1), Position(1, 3), Position(2, 0), Position(7, 7)):
            assert await log.read(answer, position) == Slice(joined=False)
        assert await log.append(words(answer, 3)) == {answer: Fate.REFUSED}
        assert await log.append(words(answer, 2, fence=2)) == {}
        for position in (START, Position(1, 1), Position(1, 3), Position(2, 0)):
            assert places(await log.read(answer, position)) == ["2-1", "2-2"]

    play(scene)


def test_a_seal_at_the_newest_entry_can_forget_it(play):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.seal(answer, Position(1, 3))
        assert places(await log.read(answer, START)) == ["1-1", "1-2", "1-3"]
        await log.seal(answer, Position(1, 3), forget=True)
        assert await log.read(answer, START) == Slice(joined=False)
        assert await log.append(entries(answer, Token("more"), start=4)) == {}
        assert await log.read(answer, START) == Slice(joined=False)

    play(scene)


def test_what_goes_before_a_seal_is_known_even_when_it_is_the_oldest_that_is_kept(play):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        await log.seal(answer, Position(2, 0))
        await log.append(entries(answer, Token("a"), Token("b"), Token("c"), fence=2))
        assert places(await log.read(answer, Position(1, 3))) == ["2-1", "2-2", "2-3"]
        assert await log.read(answer, Position(1, 2)) == Slice(joined=False)

    play(scene, keep=4)


def test_forgetting_wakes_a_waiting_reader_and_a_seal_alone_does_not(play):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        waiting = asyncio.create_task(log.follow(answer, Position(1, 3), SOON))
        await asyncio.sleep(0.02)
        await log.seal(answer, Position(2, 0))
        await log.append(words(other := type(answer)(int=answer.int ^ 1), 1))
        await log.follow(other, START, SOON)
        assert not waiting.done()
        await log.seal(answer, Position(3, 0), forget=True)
        assert await waiting == Slice(joined=False)
        await log.append(words(answer, 2, fence=3))
        assert places(await until_joined(log, answer, Position(1, 3))) == ["3-1", "3-2"]

    play(scene)


def test_a_reader_that_waits_across_a_seal_gets_what_comes_after_it(play):
    async def scene(log, answer):
        await log.append(words(answer, 3))
        waiting = asyncio.create_task(log.follow(answer, Position(1, 3), SOON))
        await asyncio.sleep(0.02)
        await log.seal(answer, Position(2, 0))
        await log.append(entries(answer, Done("stop"), fence=2))
        assert places(await waiting) == ["2-1"]

    play(scene)
