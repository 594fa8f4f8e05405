"""One click that arrives several times: at once at several processes, again while it is written, after a lost response."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence

from chaos.client import User
from chaos.history import Click
from chaos.journal import Trial
from chaos.load import judge, since
from chaos.programs import model_name
from chaos.scenarios.base import Scenario, Stage, side_by_side

SPEECH = "tokens=8&rate=40"
WIDTH = 12


async def play(stage: Stage, numbers: Sequence[int]) -> AsyncIterator[Trial]:
    """Each trial is one click with two or three tries."""
    conversations: dict[str, str] = {}  # the newest of each user, to ask on in

    async def trial(number: int) -> Trial:
        start, rng = time.monotonic(), stage.rng("double", number)
        user = User(stage.cluster.tokens[number % len(stage.cluster.tokens)], stage.cluster.doors, rng)
        click = Click(f"double {stage.seed} {number}", model_name(SPEECH, number))
        if (known := conversations.pop(user.token, "")) and rng.random() < 0.5:
            click.path = f"/conversations/{known}/messages"
        await TIMINGS[number % len(TIMINGS)](user, click, rng)
        await user.ask(click)  # a last time: by now it may have ended, too
        await user.read(click, patience=30)
        violations = await judge(stage.cluster, [click])
        conversations[user.token] = click.conversation
        return Trial("double", number, violations, seconds=since(start) / WIDTH)

    async for finished in side_by_side(numbers, WIDTH, trial):
        yield finished


async def at_once(user: User, click: Click, rng: random.Random) -> None:
    """At two or three processes in the same moment."""
    doors = rng.sample(user.doors, min(len(user.doors), rng.choice((2, 3))))
    await asyncio.gather(*(user.post(click, door) for door in doors))


async def shortly_after(user: User, click: Click, rng: random.Random) -> None:
    """Again at another process some milliseconds later, so that the transactions overlap in every way."""

    async def later(door: str) -> None:
        await asyncio.sleep(rng.uniform(0, 0.03))
        await user.post(click, door)

    await asyncio.gather(user.post(click, user.door()), later(user.door()))


async def while_open(user: User, click: Click, rng: random.Random) -> None:
    """Again when the answer is being written."""
    await user.post(click, user.door())
    await asyncio.sleep(rng.uniform(0, 0.1))
    await user.post(click, user.door())


async def response_lost(user: User, click: Click, rng: random.Random) -> None:
    """The connection breaks before the response comes."""
    lost = asyncio.ensure_future(user.post(click, user.door()))
    await asyncio.wait([lost], timeout=rng.uniform(0, 0.03))
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    await user.post(click, user.door())


TIMINGS = (at_once, shortly_after, while_open, response_lost)

SCENARIO = Scenario(
    name="double",
    title="double submits over 3 processes",
    goal="1 question, 1 model call each",
    full=2000,
    short=120,
    speeches=[SPEECH],
    play=play,
    calm=True,
)
