"""Readers that stop reading, beside as many healthy ones: what they cost the others, and in memory."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

from bench.parley import cost_of
from chaos.client import Reader, User
from chaos.cluster import Cluster
from chaos.facts import learn
from chaos.history import Click, Reading, Seen
from chaos.journal import Trial
from chaos.load import judge, since
from chaos.programs import model_name
from chaos.report import Limit
from chaos.scenarios.base import Scenario, Stage
from chaos.waiting import until
from chaos.wire import request

RATE = 8  # tokens a second of each healthy answer
TOKENS = 80  # ten seconds
SPEECH = f"tokens={TOKENS}&rate={RATE}"
FLOOD = "tokens=24000"  # says all at once, so that a reader who takes nothing leaves a lot to be sent
READERS, SHORT_READERS, ANSWERS = 300, 40, 15
SLOWER = 20.0  # per cent
FINE_MS = 15.0  # that make no difference to anybody: a difference in p99 below this is the machine's
LONGEST_MS = 1500.0
MEGABYTE = 1 << 20


async def play(stage: Stage, numbers: Sequence[int]) -> AsyncIterator[Trial]:
    """Each trial reads twice: healthy readers alone, then the same beside those that have stopped reading."""
    for number in numbers:
        start, rng = time.monotonic(), stage.rng("readers", number)
        count = SHORT_READERS if stage.short else READERS
        alone, problems = await healthy(stage.cluster, count, rng, f"alone {stage.seed} {number}")
        before = memory(stage.cluster)
        async with stalled(stage.cluster, count, rng, f"flood {stage.seed} {number}"):
            beside, more = await healthy(stage.cluster, count, rng, f"beside {stage.seed} {number}")
            cost = (memory(stage.cluster) - before) / count / MEGABYTE
        measured = {"p99 alone": [alone], "p99 beside": [beside], "memory": [max(0.0, cost)]}
        if not stage.short:  # two short looks at a machine that does other things differ by more
            measured["slower"] = [max(0.0, beside - alone - FINE_MS) / alone * 100]
        yield Trial("readers", number, problems + more, measured, seconds=since(start))


async def healthy(cluster: Cluster, count: int, rng: random.Random, name: str) -> tuple[float, list[str]]:
    """p99 in ms of the time from the provider's saying a token to a reader's seeing it, and what is wrong."""
    users = [User(token, cluster.doors, rng) for token in cluster.tokens[:ANSWERS]]
    clicks = [Click(f"{name} {i}", model_name(SPEECH, i)) for i in range(ANSWERS)]
    await asyncio.gather(*(user.ask(click) for user, click in zip(users, clicks, strict=True)))
    readers = [(users[i % ANSWERS], clicks[i % ANSWERS], f"reader {i}") for i in range(count)]
    await asyncio.gather(*(user.read(click, reader, 60) for user, click, reader in readers))
    facts = await learn(cluster, clicks)
    delays: list[float] = []
    for click in clicks:
        for call in facts[click.question].upstream:
            delays += [delay for reading in click.readings for delay in late(reading, call["opened_at"])]
    delays.sort()
    p99 = delays[math.ceil(len(delays) * 0.99) - 1] * 1000 if delays else math.inf
    return p99, await judge(cluster, clicks)


def late(reading: Reading, opened_at: float) -> list[float]:
    """How long after its token was due each event came, without what was there before the reader."""
    delays, said = [], 0
    for seen in reading.events():
        if seen.name == "token":
            said += int(seen.data["n"])
            due = opened_at + (said - 1) / RATE
            if due > reading.visits[0].opened_at + 0.5:
                delays.append(seen.at - due)
    return delays


class stalled(AsyncExitStack):  # noqa: N801 - reads as a phrase where it is used
    """So many readers of a big answer that stop reading at its first bytes; they are cut at the end."""

    def __init__(self, cluster: Cluster, count: int, rng: random.Random, name: str) -> None:
        super().__init__()
        self.cluster, self.count, self.rng = cluster, count, rng
        self.click = Click(name, model_name(FLOOD, 1))

    async def __aenter__(self) -> stalled:
        await super().__aenter__()
        user = User(self.cluster.tokens[-1], self.cluster.doors, self.rng)
        await user.ask(self.click)
        await until(lambda: self.has_ended(user), 30)
        for number in range(self.count):
            door = self.cluster.doors[number % len(self.cluster.doors)]
            path = f"/answers/{self.click.answer}/events"
            exchange = await self.enter_async_context(request(door, "GET", path, user.headers("text/event-stream")))
            exchange.transport.pause_reading()
        return self

    async def has_ended(self, user: User) -> bool:
        """Read the answer once, which also shows that the flood is bigger than any buffer on the way."""
        size = 0

        def measure(seen: Seen) -> bool:
            nonlocal size
            size += len(str(seen.data))
            return False

        reader = Reader(user, self.click.answer, Reading("measures"), measure)
        await reader.read(time.monotonic() + 20)
        return bool(reader.reading.final) and size > 128 * 1024


def memory(cluster: Cluster) -> float:
    """Bytes resident in all web processes."""
    return sum(cost_of(web.pid).memory for web in cluster.webs)


SCENARIO = Scenario(
    name="readers",
    title=f"{READERS} stalled readers beside {READERS} healthy ones",
    goal="healthy p99 +20 % (or 15 ms), 1 MB per stalled reader",
    full=5,
    short=1,
    speeches=[SPEECH, FLOOD],
    play=play,
    calm=True,
    limits=[
        Limit("p99 alone", 50, LONGEST_MS),
        Limit("p99 beside", 50, LONGEST_MS),
        Limit("slower", 50, SLOWER, "%"),
        Limit("memory", 100, 1, "MB"),
    ],
)
