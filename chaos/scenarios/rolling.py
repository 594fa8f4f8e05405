"""A rolling restart of all processes behind nginx under load, as an update does it: nobody notices."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bench.proxies import Nginx
from chaos.history import Click
from chaos.journal import Trial
from chaos.load import Load, judge, since
from chaos.programs import wait_ready
from chaos.scenarios.base import Scenario, Stage
from chaos.scenarios.term import DRAIN_SECONDS, LAST_SECONDS, gone
from chaos.waiting import off_loop, until

SPEECH = "tokens=80&rate=20"
STREAMS = 18


async def play(stage: Stage, numbers: Sequence[int]) -> AsyncIterator[Trial]:
    """Each trial restarts every process once, one after another."""
    cluster = stage.cluster
    nginx = Nginx(cluster.doors, static=Path(cluster.webs[0].settings["CHAT_DATA_DIR"]) / "static")
    cluster.extra.append(nginx)
    await off_loop(nginx.start)
    for number in numbers:
        start, problems = time.monotonic(), list[str]()
        async with Load(cluster, [SPEECH], STREAMS, stage.rng("rolling", number), [nginx.base]) as load:
            await load.is_under_way()
            for web in cluster.webs:
                assert web.process
                web.process.terminate()
                if (status := await until(lambda web=web: gone(web), DRAIN_SECONDS + LAST_SECONDS)) != [0]:  # type: ignore[misc]
                    problems.append(f"a process has not left in order: {status}")
                await off_loop(web.launch)
                await off_loop(wait_ready, web)
        clicks = load.take_finished()
        problems += await judge(cluster, clicks) + failed_sends(clicks)
        measured = {"questions": [float(len(clicks))]}
        yield Trial("rolling", number, problems, measured, seconds=since(start))


def failed_sends(clicks: Sequence[Click]) -> list[str]:
    """Questions that were not taken at the first try."""
    return [
        f"{click.question}: the first try was answered {click.posts[0].status}"
        for click in clicks
        if click.posts[0].status not in (200, 201)
    ]


def needs() -> str:
    """What this machine lacks."""
    return "" if Nginx.is_installed() else "nginx"


SCENARIO = Scenario(
    name="rolling",
    title="rolling restart of 3 processes behind nginx",
    goal="0 failed sends, 0 interrupted answers",
    full=10,
    short=1,
    speeches=[SPEECH],
    play=play,
    needs=needs,
)
