"""Live streams: so many users who ask, read to the end, and ask again, until they are told to leave."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import Sequence

from chaos.checker import check
from chaos.client import Reader, User
from chaos.cluster import Cluster
from chaos.facts import Facts, learn
from chaos.history import Click, Reading
from chaos.programs import model_name
from chaos.waiting import until

RESTLESS = 0.25  # of all readers
READ_SECONDS = 180.0
SETTLE_SECONDS = 5.0  # in which a closed row's call is over, too


class Load:
    """`async with Load(...)`: so many clicks are alive at any moment, each with one or two readers."""

    def __init__(
        self,
        cluster: Cluster,
        speeches: Sequence[str],
        count: int,
        rng: random.Random,
        doors: Sequence[str] = (),
        may_end: str = "done",
    ) -> None:
        self.cluster = cluster
        self.speeches = speeches
        self.count = count
        self.rng = rng
        self.doors = doors or cluster.doors
        self.live: set[Click] = set()
        self.finished: list[Click] = []
        self.name = secrets.token_hex(3)
        self._may_end = frozenset(may_end.split())
        self._numbers = itertools.count()
        self._open = True
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._slot(slot)) for slot in range(self.count)]
        return self

    async def __aexit__(self, *problem: object) -> None:
        self._open = False
        if problem[0]:
            for task in self._tasks:
                task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def is_under_way(self, patience: float = 60.0) -> None:
        """Return when every slot has asked."""
        if not await until(lambda: len(self.live) >= self.count * 0.9 and self.are_written(), patience):
            raise RuntimeError(f"only {len(self.live)} of {self.count} streams are alive")

    def are_written(self) -> bool:
        """Whether most answers have said something already."""
        saying = [
            click for click in self.live if any(seen.name == "token" for r in click.readings for seen in r.events())
        ]
        return len(saying) >= self.count * 0.7

    async def _slot(self, slot: int) -> None:
        tokens = self.cluster.tokens
        await asyncio.sleep(self.rng.random())  # they do not click all at once
        while self._open:
            number = next(self._numbers)
            user = User(tokens[slot % len(tokens)], self.doors, random.Random(f"{self.name}-{number}"))
            click = Click(
                f"{self.name} {number}",
                model_name(self.speeches[number % len(self.speeches)], number),
                may_end=self._may_end,
            )  # type: ignore[arg-type]
            self.live.add(click)
            await self._live(user, click)
            self.live.discard(click)
            self.finished.append(click)

    async def _live(self, user: User, click: Click) -> None:
        if await user.ask(click):
            readers = ["first", "second"][: user.rng.choice((1, 1, 2))]
            await asyncio.gather(*(self._read(user, click, name) for name in readers))

    async def _read(self, user: User, click: Click, name: str) -> None:
        """One reader in four has a bad connection: it breaks every few seconds."""
        reader = Reader(user, click.answer, Reading(name, restless=user.rng.random() < RESTLESS))
        click.readings.append(reader.reading)
        reading = asyncio.ensure_future(reader.read(time.monotonic() + READ_SECONDS))
        if reader.reading.restless:
            while not (await asyncio.wait([reading], timeout=user.rng.uniform(0.5, 3)))[0]:
                reader.cut()
        await reading

    def leave(self) -> None:
        """Nobody asks again; what is alive goes on to its end."""
        self._open = False

    def take_finished(self) -> list[Click]:
        """The clicks that ended since the last time."""
        finished, self.finished = self.finished, []
        return finished


async def judge(cluster: Cluster, clicks: Sequence[Click], victims: set[str] | None = None) -> list[str]:
    """What is wrong with these clicks, whose readers are done. Answers in `victims` may have been interrupted."""
    if not clicks:
        return []
    facts: dict[str, Facts] = {}

    async def settled() -> bool:
        nonlocal facts
        facts = await learn(cluster, clicks)
        return all(is_closed(one) for one in facts.values())

    await until(settled, SETTLE_SECONDS, every=0.2)
    violations = []
    for click in clicks:
        known = facts[click.question]
        click.excused = click.excused or any(row["id"] in (victims or ()) for row in known.answers)
        violations += check(click, known)
    return violations


def is_closed(facts: Facts) -> bool:
    """Nothing of this question goes on."""
    rows, bills, calls = facts.answers, facts.bills, facts.upstream
    return (
        all(row["status"] != "open" for row in rows)
        and all(bill["closed_at"] for bill in bills)
        and all(call["state"] != "open" for call in calls)
    )


def since(start: float) -> float:
    """Seconds since a moment of time.monotonic()."""
    return time.monotonic() - start
