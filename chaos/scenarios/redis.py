"""Redis is killed and started again, with what it had stored or empty, at once or half a minute later."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Sequence

from bench.services import Redis
from chaos.journal import Trial
from chaos.load import Load, judge, since
from chaos.report import Limit
from chaos.scenarios.base import Scenario, Stage
from chaos.waiting import off_loop

SPEECHES = ("tokens=100&rate=20", "tokens=60&rate=20", "tokens=25&rate=20")  # so that somebody asks at any moment
STREAMS = 15
OUTAGE_SECONDS = 30.0
OUTAGE_EVERY = 5  # trials: four that are short, then one that is long
AFTER_SECONDS = 2.0


async def play(stage: Stage, numbers: Sequence[int]) -> AsyncIterator[Trial]:
    """Each trial takes Redis away once. Every answer must be done all the same, and no question be refused."""
    redis = stage.cluster.redis
    assert redis
    for number in numbers:
        start, rng = time.monotonic(), stage.rng("redis", number)
        is_long = number % OUTAGE_EVERY == OUTAGE_EVERY - 1
        async with Load(stage.cluster, SPEECHES, STREAMS, rng) as load:
            await load.is_under_way()
            await asyncio.sleep(rng.uniform(0, 1))
            gone_at = time.monotonic()
            await off_loop(redis.kill)
            await asyncio.sleep(OUTAGE_SECONDS if is_long else rng.uniform(0, 3))
            if rng.random() < 0.5:
                forget(redis)
            await off_loop(redis.start)
            back_at = time.monotonic()
            await asyncio.sleep(AFTER_SECONDS)
        clicks = load.take_finished()
        problems = await judge(stage.cluster, clicks)
        during = [post for click in clicks for post in click.posts if gone_at < post.sent_at < back_at]
        problems += [f"a question sent while Redis was away was answered {p.status}" for p in during if p.status != 201]
        measured = {
            "outage": [back_at - gone_at],
            "question sent meanwhile": [(post.ended_at - post.sent_at) * 1000 for post in during],
        }
        yield Trial("redis", number, problems, measured, seconds=since(start))


def forget(redis: Redis) -> None:
    """What Redis had written to the disk is lost."""
    for kept in redis.directory.glob("appendonly*"):
        shutil.rmtree(kept) if kept.is_dir() else kept.unlink()


SCENARIO = Scenario(
    name="redis",
    title="Redis killed and restarted; 30 s outage each 5th time",
    goal="0 lost messages, 0 silent gaps",
    full=25,
    short=2,
    speeches=SPEECHES,
    play=play,
    limits=[Limit("question sent meanwhile", 99, 10_000)],
)
