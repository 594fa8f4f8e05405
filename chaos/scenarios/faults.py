"""Every fault of a provider, over the log in Redis and over the one in memory, with deadlines that are scaled down."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from bench.faults import CATALOGUE
from bench.faults.expected import BUSY, EXPECTED, PASSING, seconds
from chaos.client import User
from chaos.cluster import Cluster
from chaos.facts import Facts, learn
from chaos.history import FINAL, Click
from chaos.journal import Trial
from chaos.load import judge, since
from chaos.scenarios.base import Scenario, Stage, side_by_side
from chaos.waiting import off_loop

FIRST, GAP, WHOLE = 1.0, 1.0, 4.0  # seconds: the three deadlines
RETRY_AFTER = 0.3
FAULTS = tuple(EXPECTED)
WIDTH = 5
ENDINGS = frozenset({"done", "failed"})


def model(fault: str) -> str:
    seed = FAULTS.index(fault) % 34
    return f"fake?tokens=12&at=5&rate=200&retry_after={RETRY_AFTER}&seed={seed}&fault={fault}"


async def play(stage: Stage, numbers: Sequence[int]) -> AsyncIterator[Trial]:
    """Trial 2n is the nth fault with Redis, trial 2n+1 the same with the log in memory. In short they are spread out."""
    deadlines = {"FIRST_TOKEN": FIRST, "GAP": GAP, "ANSWER": WHOLE}
    settings = {f"CHAT_{name}_SECONDS": str(value) for name, value in deadlines.items()}
    spread = len(FAULTS) * 2 // len(numbers) if stage.short and numbers else 1
    chosen = {number: FAULTS[number // 2 * spread % len(FAULTS)] for number in numbers}
    for shared in (True, False):
        mine = [number for number in numbers if (number % 2 == 0) == shared]
        if not mine:
            continue
        cluster = Cluster(stage.lab, [], shared=shared, count=1, settings=settings)
        cluster.provider.models = [model(chosen[number]) for number in mine]
        await off_loop(cluster.__enter__)
        try:

            async def trial(number: int, cluster: Cluster = cluster) -> Trial:
                return await strike(cluster, chosen[number], number, stage.seed)

            async for finished in side_by_side(mine, WIDTH, trial):
                yield finished
        finally:
            await off_loop(cluster.__exit__)


async def strike(cluster: Cluster, fault: str, number: int, seed: int) -> Trial:
    """One question to a provider with this fault."""
    start = time.monotonic()
    user = User(cluster.tokens[number % len(cluster.tokens)], cluster.doors)
    click = Click(f"fault {fault} {seed}", model(fault), may_end=ENDINGS)
    if not await user.ask(click):
        return Trial("faults", number, [f"{click.question}: it was not accepted"])
    reading = await user.read(click, patience=30)
    took = since(start)
    violations = await judge(cluster, [click])
    facts = (await learn(cluster, [click]))[click.question]
    finals = [seen for seen in reading.events() if seen.name in FINAL]
    allowed = seconds(fault, FIRST, GAP, WHOLE, RETRY_AFTER) + 1
    if took > allowed:
        violations.append(f"{click.question}: it ended after {took:.2f} s, allowed are {allowed:.2f} s")
    endings = [seen.data.get("reason") or seen.data.get("code") for seen in finals]
    if endings == [BUSY.get(fault)]:
        return Trial("faults", number, violations, seconds=since(start) / WIDTH)
    if endings != [EXPECTED[fault]]:
        violations.append(f"{click.question}: it ended with {endings}, right is {EXPECTED[fault]}")
    violations += wrong_text(click, facts, fault)
    return Trial("faults", number, violations, seconds=since(start) / WIDTH)


def wrong_text(click: Click, facts: Facts, fault: str) -> list[str]:
    """A text that does not fit the fault, or calls that do not."""
    problems = []
    for row in facts.answers:
        ending = row["reason"] if row["status"] == "done" else "error"
        if not CATALOGUE[fault].accepts(click.script, ending, row["text"]):
            problems.append(f"{click.question}: {ending} with the text {row['text'][:60]!r}")
    if not len(facts.bills) == len(facts.upstream) == (2 if fault in PASSING else 1):
        problems.append(f"{click.question}: {len(facts.upstream)} calls, {len(facts.bills)} billed")
    return problems


SCENARIO = Scenario(
    name="faults",
    title=f"provider faults, {len(FAULTS)} kinds, both logs",
    goal="one right final event within deadline + 1 s",
    full=2 * len(FAULTS),
    short=24,
    speeches=[],
    play=play,
)
