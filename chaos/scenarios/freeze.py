"""SIGSTOP of a process until others have taken its answers, then SIGCONT: what it writes afterwards must change nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from chaos.cluster import Cluster
from chaos.facts import select, written_by
from chaos.history import Click
from chaos.journal import Trial
from chaos.load import Load, judge, since
from chaos.scenarios.base import Scenario, Stage
from chaos.waiting import until

SPEECH = "tokens=400&rate=20"  # 20 s: still being written when the process wakes up
STREAMS = 12
TAKEN_SECONDS = 16.0  # the lease of 10 s, and the next look of the others
WAKE_SECONDS = 3.0  # in which the process does what it was about to do


async def play(stage: Stage, numbers: Sequence[int]) -> AsyncIterator[Trial]:
    """Each trial freezes one process."""
    for number in numbers:
        start, rng = time.monotonic(), stage.rng("freeze", number)
        web = rng.choice(stage.cluster.webs)
        async with Load(stage.cluster, [SPEECH], STREAMS, rng) as load:
            await load.is_under_way()
            web.freeze()
            try:
                victims = await written_by(stage.cluster, web.pid)
                problems, before = await taken(stage.cluster, victims)
            finally:
                web.thaw()
            await asyncio.sleep(WAKE_SECONDS)
            problems += zombie_writes(before, await rows_of(stage.cluster, victims))
            load.leave()
        clicks = load.take_finished()
        problems += await judge(stage.cluster, clicks, victims) + unharmed(clicks, victims)
        yield Trial("freeze", number, problems, {"answers taken": [float(len(victims))]}, seconds=since(start))


async def taken(cluster: Cluster, victims: set[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Wait until the answers of the frozen process have a new writer or an end; what is wrong, and their rows."""

    async def all_taken() -> bool:
        return all(row["status"] != "open" or row["fence"] > 1 for row in (await rows_of(cluster, victims)).values())

    in_time = await until(all_taken, TAKEN_SECONDS, every=0.5)
    rows = await rows_of(cluster, victims)
    left = [key for key, row in rows.items() if row["status"] == "open" and row["fence"] == 1]
    return ([] if in_time else [f"{key}: not taken over {TAKEN_SECONDS:g} s after the freeze" for key in left]), rows


async def rows_of(cluster: Cluster, answers: set[str]) -> dict[str, dict[str, Any]]:
    query = "SELECT id, status, fence, text, final_id FROM chat_message WHERE id IN"
    rows = await asyncio.to_thread(select, cluster, query, list(answers))
    return {str(row["id"]): row for row in rows}


def zombie_writes(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[str]:
    """Rows that had ended, and are not as they were."""
    return [
        f"{key}: the row was {row['status']} at {row['final_id']}, and changed after the process woke up"
        for key, row in before.items()
        if row["status"] != "open" and after.get(key) != row
    ]


def unharmed(clicks: Sequence[Click], victims: set[str]) -> list[str]:
    """A trial in which nothing was taken over shows nothing."""
    hit = [click for click in clicks if click.answer in victims]
    return [] if hit or not clicks else ["the frozen process was writing nothing"]


SCENARIO = Scenario(
    name="freeze",
    title="SIGSTOP beyond the lease, then SIGCONT",
    goal="0 zombie writes accepted",
    full=20,
    short=1,
    speeches=[SPEECH],
    play=play,
)
