"""Readers who are cut again and again, and others who come with every kind of position: valid, stale, future, garbage."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from chaos.client import Reader, User
from chaos.history import Click, Reading, Seen, Visit
from chaos.journal import Trial
from chaos.load import judge, since
from chaos.programs import model_name
from chaos.scenarios.base import Scenario, Stage, side_by_side

SPEECH = "tokens=160&rate=60"
CUTTERS, PROBES = 4, 6  # readers of one answer
WIDTH = 6


class Hasty(User):
    """A user who is back at once."""

    async def pause(self, tries: int) -> None:
        await asyncio.sleep(self.rng.uniform(0, 0.02) if tries < 3 else 0.3)


async def play(stage: Stage, numbers: Sequence[int]) -> AsyncIterator[Trial]:
    """Each trial is one answer; it counts each cut and each position that a reader came with: about 30."""

    async def trial(number: int) -> Trial:
        start, rng = time.monotonic(), stage.rng("cuts", number)
        user = Hasty(stage.cluster.tokens[number % len(stage.cluster.tokens)], stage.cluster.doors, rng)
        click = Click(f"cuts {stage.seed} {number}", model_name(SPEECH, number))
        if not await user.ask(click):
            return Trial("cuts", number, [f"{click.question}: it was not accepted"])
        cutters = [Reader(user, click.answer, Reading(f"cut {i}"), cuts(rng)) for i in range(CUTTERS)]
        click.readings += [reader.reading for reader in cutters]
        probes = Probes(user, click, cutters[0].reading, rng)
        end = time.monotonic() + 60
        await asyncio.gather(*(reader.read(end) for reader in cutters), probes.run(end))
        click.readings += probes.whole
        violations = await judge(stage.cluster, [click]) + probes.problems + list(probes.wrong_continuations())
        count = sum(len(reader.reading.visits) - 1 for reader in cutters) + PROBES
        return Trial("cuts", number, violations, count=count, seconds=since(start) / WIDTH)

    async for finished in side_by_side(numbers, WIDTH, trial):
        yield finished


def cuts(rng: random.Random) -> Callable[[Seen], bool]:
    """Cuts the connection after some events, more often than not in mid-answer."""
    left = rng.randint(1, 12)

    def watch(seen: Seen) -> bool:
        nonlocal left
        left -= 1
        if left <= 0 and seen.name not in ("done", "error", "close"):
            left = rng.choice((1, 2, 5, 8, 12))
            return True
        return False

    return watch


class Probes:
    """Readers that come in at positions of their own, at odd moments."""

    def __init__(self, user: User, click: Click, model: Reading, rng: random.Random) -> None:
        self.user = user
        self.click = click
        self.model = model  # a reader whose positions are borrowed
        self.rng = rng
        self.whole: list[Reading] = []  # began at the start, so they must show all
        self.continued: list[Visit] = []
        self.problems: list[str] = []

    async def run(self, end: float) -> None:
        await asyncio.gather(*(self.probe(i, end) for i in range(PROBES)))

    async def probe(self, number: int, end: float) -> None:
        """One reader with a position: after it, exactly the rest follows; after none, the whole answer."""
        await asyncio.sleep(self.rng.uniform(0, 3.5))
        known = [seen for seen in self.model.events() if seen.id and not seen.id.endswith("-0")]
        if number % 2 and known:
            return await self.continuation(known[self.rng.randrange(len(known))].id, end)
        newest = known[-1].id if known else "1-1"
        fence, _, seq = newest.partition("-")
        odd = [
            "",
            f"{fence}-0",
            f"{fence}-{int(seq) + 100_000}",
            f"{int(fence) + 7}-3",
            "0-0",
            "-",
            "x" * 65,
            "１-1",
            "9" * 60,
        ]
        reader = Reader(self.user, self.click.answer, Reading(f"odd {number}"))
        visit = await reader.visit(self.user.door(), self.rng.choice(odd), end)
        if [seen.name for seen in visit.events if seen.name != "status"][:1] != ["started"]:
            self.problems.append(
                f"{self.click.question}: after {visit.after!r} came {visit.events[:1]}, status {visit.status}"
            )
        self.whole.append(reader.reading)

    async def continuation(self, after: str, end: float) -> None:
        reader = Reader(self.user, self.click.answer, Reading("continues"))
        self.continued.append(await reader.visit(self.user.door(), after, end))

    def wrong_continuations(self) -> Iterator[str]:
        """Readers that got something else than exactly the rest. To be asked when the model reader has all."""
        right = [(seen.id, seen.name, str(seen.data)) for seen in self.model.events() if seen.id]
        for visit in self.continued:
            said = [(seen.id, seen.name, str(seen.data)) for seen in visit.events if seen.id]
            begin = [id_ for id_, _, _ in right].index(visit.after) + 1
            if said != right[begin:] or visit.status != (200 if said else 204):
                yield (
                    f"{self.click.question}: after {visit.after} came {said[:2]} … {said[-1:]} ({visit.status}"
                    f" {visit.ending}), right is {right[begin : begin + 2]} … {right[-1:]}"
                )


SCENARIO = Scenario(
    name="cuts",
    title="random cuts and positions",
    goal="0 gaps, 0 duplicates",
    full=360,
    short=20,
    speeches=[SPEECH],
    play=play,
    calm=True,
)
