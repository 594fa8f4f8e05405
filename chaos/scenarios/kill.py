"""SIGKILL of a random web process under 30 live streams; it is started again at once, as by a supervisor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from chaos.checker import story
from chaos.cluster import Cluster
from chaos.facts import stored, written_by
from chaos.history import Click
from chaos.journal import Trial
from chaos.load import Load, judge
from chaos.programs import Web, wait_ready
from chaos.report import Limit
from chaos.scenarios.base import Scenario, Stage
from chaos.waiting import off_loop, until

# Short, so that everybody who was alive is done 20 s later, although a lease is 10 s and an answer may be begun again. One in
# three is silent at first: nothing of it has been heard yet when its process is killed.
SPEECHES = ("tokens=90&rate=20", "tokens=90&rate=20", "tokens=40&rate=20&ttft=2")
STREAMS = 30
EVERY_SECONDS = 12.0  # more than a lease: whoever recovers must have lived for one
UPSTREAM_SECONDS = 5.0
ENDED_SECONDS = 20.0


@dataclass
class Blow:
    """One process that was killed, and what was alive then."""

    cluster: Cluster
    number: int
    at: float
    live: list[Click]
    victims: set[str] = field(default_factory=set)  # the answers that the process wrote
    hit_again: set[str] = field(default_factory=set)  # whose next writer was killed as well: their time begins anew
    measured: dict[str, list[float]] = field(default_factory=dict)

    async def verdict(self, load: Load) -> list[str]:
        """What is wrong 5 s and 20 s later."""
        await asyncio.sleep(max(0.0, self.at + UPSTREAM_SECONDS - time.monotonic()))
        problems = await self.upstream_left()

        async def all_ended() -> bool:
            return not self.unfinished(load) and not await self.open_rows()

        await until(all_ended, max(0.0, self.at + ENDED_SECONDS - time.monotonic()), every=0.5)
        for click in self.unfinished(load):
            kind = "hit" if click.answer in self.victims else "not hit"
            late = f"not ended for all its readers {ENDED_SECONDS:g} s after the kill ({kind})"
            problems.append(f"{click.question}: {late}; {story(click, self.at)}")
        for question in await self.open_rows():
            problems.append(f"{question}: its row is still open {ENDED_SECONDS:g} s after the kill")
        struck = [click for click in self.live if click.answer in self.victims - self.hit_again and click.finished_at]
        self.measured["end of an answer that was hit"] = [
            reading.final.at - self.at
            for click in struck
            for reading in click.readings
            if reading.final and not reading.restless
        ]
        return problems

    def unfinished(self, load: Load) -> list[Click]:
        """Who still waits. A reader with a bad connection of its own may just be away: it must see the end, but not by now."""
        return [
            click
            for click in self.live
            if click in load.live
            and click.answer not in self.hit_again
            and not (click.readings and all(reading.final or reading.restless for reading in click.readings))
        ]

    async def open_rows(self) -> list[str]:
        """Questions whose answers are still open."""
        mine = {click.question: click for click in self.live if click.answer and click.answer not in self.hit_again}
        facts = await off_loop(stored, self.cluster, list(mine))
        return [text for text, known in facts.items() if any(row["status"] == "open" for row in known.answers)]

    async def upstream_left(self) -> list[str]:
        """Calls of the process that was killed which the provider still answers."""
        hit = {click.question for click in self.live if click.answer in self.victims}
        calls = await self.cluster.provider.calls(min((click.opened_at for click in self.live), default=self.at))
        return [
            f"{call['id']} of {question}: open {UPSTREAM_SECONDS:g} s after its process was killed"
            for call in calls
            if call["state"] == "open" and call["opened_at"] < self.at
            if (question := call["body"]["messages"][-1]["content"]) in hit
        ]


async def strike(cluster: Cluster, load: Load, web: Web, number: int) -> Blow:
    """Kill a process, and learn what it was writing: its rows stay as they are until their leases end."""
    pid = web.pid
    await off_loop(web.kill)
    blow = Blow(cluster, number, time.monotonic(), list(load.live))
    blow.victims = await written_by(cluster, pid)
    await off_loop(web.launch)
    return blow


async def play(stage: Stage, numbers: Sequence[int]) -> AsyncIterator[Trial]:
    """One load for all trials; a trial is judged 20 s after its kill, when the next process has been killed already."""
    cluster, judging = stage.cluster, list[asyncio.Task[Trial]]()
    victims: set[str] = set()
    blows: list[Blow] = []
    rng = stage.rng("kill", -1)

    async def verdict(blow: Blow, load: Load, start: float) -> Trial:
        problems = await blow.verdict(load)
        problems += await judge(cluster, load.take_finished(), victims)
        return Trial("kill", blow.number, problems, blow.measured, seconds=EVERY_SECONDS)

    async with Load(cluster, SPEECHES, STREAMS, rng) as load:
        for number in numbers:
            await load.is_under_way()
            start = time.monotonic()
            web = stage.rng("kill", number).choice(cluster.webs)
            blow = await strike(cluster, load, web, number)
            victims |= blow.victims
            for earlier in blows:
                earlier.hit_again |= blow.victims
            blows = [*blows[-3:], blow]
            judging.append(asyncio.create_task(verdict(blow, load, start)))
            await off_loop(wait_ready, web)
            await asyncio.sleep(max(0.0, start + EVERY_SECONDS - time.monotonic()))
            while judging and judging[0].done():
                yield judging.pop(0).result()
        for task in judging:
            yield await task
    if problems := await judge(cluster, load.take_finished(), victims):
        yield Trial("kill", numbers[-1], problems, count=0)


SCENARIO = Scenario(
    name="kill",
    title="SIGKILL of a process under 30 streams",
    goal="nothing lost or stuck after 20 s, no call after 5 s",
    full=200,
    short=3,
    speeches=SPEECHES,
    play=play,
    limits=[Limit("end of an answer that was hit", 100, ENDED_SECONDS, "s")],
)
