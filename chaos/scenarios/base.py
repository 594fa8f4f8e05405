"""What a scenario is: a row of the figures table that can be run alone, for any numbers of its trials."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from chaos.cluster import Cluster, Lab
from chaos.journal import Trial
from chaos.report import Limit


@dataclass(frozen=True)
class Stage:
    """Where a scenario plays. Scenarios that run on one cluster leave it as they found it."""

    lab: Lab
    cluster: Cluster
    seed: int
    short: bool  # a part of script/test, on a busy machine

    def rng(self, figure: str, number: int) -> random.Random:
        """The dice of one trial: the same for the same seed, whatever was played before."""
        return random.Random(f"{self.seed}-{figure}-{number}")


Play = Callable[[Stage, Sequence[int]], AsyncIterator[Trial]]


@dataclass(frozen=True)
class Scenario:
    """One row: what is done how often, in full and in short, and what must come of it."""

    name: str
    title: str
    goal: str
    full: int
    short: int
    speeches: Sequence[str]
    play: Play
    limits: Sequence[Limit] = ()
    settings: dict[str, str] = field(default_factory=dict)  # besides the shipped ones
    calm: bool = False  # nothing is broken on purpose, so no process may log an accident
    needs: Callable[[], str] = str  # says what this machine lacks, or nothing


async def side_by_side(
    numbers: Sequence[int], width: int, trial: Callable[[int], Awaitable[Trial]]
) -> AsyncIterator[Trial]:
    """Play trials, so many at a time; each is handed on when it is over."""
    waiting = list(reversed(numbers))
    running: set[asyncio.Task[Trial]] = set()
    try:
        while waiting or running:
            while waiting and len(running) < width:
                running.add(asyncio.ensure_future(trial(waiting.pop())))
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
