"""SIGTERM with streams open: readers are sent on and leave in time, the process goes on writing until its answers are done."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Sequence

from chaos.history import Visit
from chaos.journal import Trial
from chaos.load import Load, judge, since
from chaos.programs import Web, wait_ready
from chaos.report import Limit
from chaos.scenarios.base import Scenario, Stage
from chaos.waiting import off_loop, until

SPEECH = "tokens=100&rate=20"
LONG = "tokens=1400&rate=20"  # 70 s, more than a process may take to leave
STREAMS = 18
LEAVES_SECONDS = 2.0
DRAIN_SECONDS = 60.0  # the shipped bound with Redis
LAST_SECONDS = 5.0  # to interrupt what is left, and to go
LONG_EVERY = 25  # trials


async def play(stage: Stage, numbers: Sequence[int]) -> AsyncIterator[Trial]:
    """Each trial tells one process to leave and starts it again. Now and then an answer takes longer than a drain may."""
    for number in numbers:
        start, rng = time.monotonic(), stage.rng("term", number)
        is_long = number % LONG_EVERY == LONG_EVERY - 1
        web = rng.choice(stage.cluster.webs)
        may_end = "done interrupted" if is_long else "done"
        async with Load(stage.cluster, [LONG if is_long else SPEECH], STREAMS, rng, may_end=may_end) as load:
            await load.is_under_way()
            await asyncio.sleep(rng.uniform(0, 2))
            problems, measured = await leave(web, load, is_long)
            await off_loop(web.launch)
            await off_loop(wait_ready, web)
        problems += await judge(stage.cluster, load.take_finished())
        yield Trial("term", number, problems, measured, seconds=since(start))


async def leave(web: Web, load: Load, is_long: bool) -> tuple[list[str], dict[str, list[float]]]:
    """Tell the process to leave, and see how its readers and it itself do."""
    assert web.process
    visits = open_visits(load, web)
    told = time.monotonic()
    web.process.send_signal(signal.SIGTERM)
    await until(lambda: all(visit.ended_at for visit in visits), LEAVES_SECONDS + 3)
    problems = [said for visit in visits if (said := wrong_end(visit))]
    left = [(visit.ended_at or time.monotonic()) - told for visit in visits]
    status = await until(lambda: gone(web), DRAIN_SECONDS + LAST_SECONDS + 10)
    measured = {"body ended": left, "gone": [since(told)]}
    if status != [0]:
        problems.append(f"the process has not left in order: {status}")
    if is_long and since(told) < DRAIN_SECONDS:
        problems.append(f"the process left after {since(told):.1f} s, while its answers were being written")
    return problems, measured


def gone(web: Web) -> list[int]:
    """The exit status, in a list that is true even for 0, once the process is gone."""
    assert web.process
    status = web.process.poll()
    if status is None:
        return []
    web.stop()
    return [status]


def open_visits(load: Load, web: Web) -> list[Visit]:
    """The streams that are open at this process."""
    visits = [reading.visits[-1] for click in load.live for reading in click.readings if reading.visits]
    return [visit for visit in visits if visit.door == web.door and visit.status == 200 and not visit.ended_at]


def wrong_end(visit: Visit) -> str:
    """A stream may end with `reconnect`, or with `close` if its answer happened to end; never cut."""
    last = visit.events[-1].name if visit.events else "nothing"
    if visit.ending == "left":  # a bad connection of its own
        return ""
    return (
        ""
        if visit.ending == "end" and last in ("reconnect", "close")
        else f"a body ended by {visit.ending!r} after {last}"
    )


SCENARIO = Scenario(
    name="term",
    title="SIGTERM with streams open",
    goal="bodies end cleanly within 2 s, 0 tokens lost, exit within 65 s",
    full=50,
    short=2,
    speeches=[SPEECH, LONG],
    play=play,
    limits=[Limit("body ended", 100, LEAVES_SECONDS, "s"), Limit("gone", 100, DRAIN_SECONDS + LAST_SECONDS, "s")],
)
