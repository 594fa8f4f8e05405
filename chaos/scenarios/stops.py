"""A stop that races the answer: before its first token, in the middle, around its end; at another process than the run's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from chaos.client import Reader, User
from chaos.facts import Facts, learn, stored
from chaos.history import FINAL, Click, Reading, Seen
from chaos.journal import Trial
from chaos.load import judge, since
from chaos.programs import model_name
from chaos.report import Limit
from chaos.scenarios.base import Scenario, Stage, side_by_side
from chaos.waiting import off_loop

TOKENS = 30
SPEECH = f"tokens={TOKENS}&rate=100"  # is over after 300 ms
LATE = f"{SPEECH}&ttft=0.3"
SLOW = "tokens=120&rate=40"  # goes on for 3 s, if its provider is not hung up on
WIDTH = 6


async def play(stage: Stage, numbers: Sequence[int]) -> AsyncIterator[Trial]:
    """Each trial is one answer, stopped once or twice."""

    async def trial(number: int) -> Trial:
        start, race = time.monotonic(), Race(stage, number)
        violations = await race.run()
        return Trial("stops", number, violations, race.measured, seconds=since(start) / WIDTH)

    async for finished in side_by_side(numbers, WIDTH, trial):
        yield finished


class Race:
    """One answer and the stops that race it."""

    def __init__(self, stage: Stage, number: int) -> None:
        self.stage = stage
        self.rng = rng = stage.rng("stops", number)
        self.user = User(stage.cluster.tokens[number % len(stage.cluster.tokens)], stage.cluster.doors, rng)
        self.early = number % 5 == 1  # before the first token
        speech = {1: LATE, 2: SLOW}.get(number % 5, SPEECH)
        both = frozenset({"done", "stopped"})
        self.click = Click(f"stop {stage.seed} {number}", model_name(speech, number), may_end=both)
        self.measured: dict[str, list[float]] = {}
        self.receipts: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.looks: list[asyncio.Task[None]] = []

    async def run(self) -> list[str]:
        click, user = self.click, self.user
        if not await user.ask(click):
            return [f"{click.question}: it was not accepted: {click.posts}"]
        moment = asyncio.Event()
        reader = Reader(user, click.answer, Reading("reader"), self.rings_at(moment))
        click.readings.append(reader.reading)
        reading = asyncio.ensure_future(reader.read(time.monotonic() + 30))
        await asyncio.wait([asyncio.ensure_future(moment.wait())], timeout=30)
        await asyncio.sleep(self.rng.uniform(0, 0.03))
        stopped_at = time.monotonic()
        await asyncio.gather(*(self.stop() for _ in range(self.rng.choice((1, 1, 2)))))
        await asyncio.gather(reading, *self.looks)
        await user.read(click, "late", patience=30)
        await self.stop()  # asking again gives the same receipt
        violations = await judge(self.stage.cluster, [click])
        facts = (await learn(self.stage.cluster, [click]))[click.question]
        return violations + self.problems + list(self.wrong_receipts(facts, stopped_at))

    def rings_at(self, moment: asyncio.Event) -> Any:
        """Rings when so many tokens were seen."""
        wanted, seen_tokens = 0 if self.early else self.rng.randint(TOKENS // 3, TOKENS), 0

        def watch(seen: Seen) -> bool:
            nonlocal seen_tokens
            seen_tokens += int(seen.data.get("n", 0)) if seen.name == "token" else 0
            if seen.name in FINAL:
                self.looks.append(asyncio.ensure_future(self.look()))
            if seen_tokens >= wanted or seen.name in FINAL:
                moment.set()
            return False

        return watch

    async def look(self) -> None:
        """Who has seen the end finds it stored, at that very moment."""
        row = await off_loop(stored, self.stage.cluster, [self.click.question])
        if [answer["status"] for answer in row[self.click.question].answers] == ["open"]:
            self.problems.append(f"{self.click.question}: the end was shown before it was stored")

    async def stop(self) -> None:
        status, receipt = await self.user.stop(self.click.answer, self.user.door())
        if status == 200:
            self.receipts.append(receipt)
        else:
            self.problems.append(f"{self.click.question}: the stop was answered {status} {json.dumps(receipt)}")

    def wrong_receipts(self, facts: Facts, stopped_at: float) -> Any:
        """What is wrong with the receipts, and how long the provider went on."""
        if any(receipt != self.receipts[0] for receipt in self.receipts):
            yield f"{self.click.question}: several receipts: {self.receipts}"
        for call in facts.upstream:
            if [row["status"] for row in facts.answers] == ["stopped"] and call["ended_at"]:
                self.measured["provider hung up on"] = [max(0.0, call["ended_at"] - stopped_at) * 1000]


SCENARIO = Scenario(
    name="stops",
    title="stop races over 3 processes",
    goal="1 final event; upstream closed p99 500 ms",
    full=2000,
    short=100,
    speeches=[SPEECH, LATE, SLOW],
    play=play,
    calm=True,
    limits=[Limit("provider hung up on", 99, 500)],
)
