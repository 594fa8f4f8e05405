"""The work of a process: provider -> log -> row, for every answer it writes.

`start()` makes this process a runner, `begin()` hands it an answer, `drain()` ends its service. All other processes
reach it by nudges on the group `runners` and by `stop_by` on the row. `recover()` is for a command that runs beside servers.
"""

import asyncio
import logging
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from chat import groups
from chat.database import in_database
from chat.models import Message
from chat.replay import log
from chat.runner import claims
from chat.runner.alone import AlreadyRunning, be_alone
from chat.runner.claims import out_of_time
from chat.runner.jobs import Job, prompt_for
from chat.runner.recovery import INTERRUPTED, Recovery
from chat.runner.runs import Runs

__all__ = [
    "AlreadyRunning",
    "Job",
    "be_alone",
    "begin",
    "drain",
    "is_draining",
    "is_running",
    "out_of_time",
    "prompt_for",
    "recover",
    "start",
    "stop",
]

logger = logging.getLogger(__name__)

# To close connections to providers and store the ends, once the time for finishing is over.
LAST_WORDS_SECONDS = 3.0

_runs: Runs | None = None
_ear: asyncio.Task[None] | None = None
_draining = False


def is_running() -> bool:
    """Whether this process can take a job."""
    return _runs is not None and not _draining


def is_draining() -> bool:
    """Whether this process is about to leave."""
    return _draining


async def start() -> None:
    """Begin to work. The only process there is first ends what its previous life left open."""
    global _runs, _ear, _draining
    if not log().shared:
        count, _ = await recover(Q())
        logger.log(
            logging.WARNING if count else logging.INFO,
            "%d answers were open when the last server stopped; they are interrupted now",
            count,
        )
    _runs, _draining = Runs(), False
    _ear = asyncio.create_task(_obey(_runs))


def begin(job: Job) -> None:
    """Write this answer. May be called from any thread, once its row is committed."""
    if _runs is None:
        raise RuntimeError("this process has no runner: serve it with script/server or manage.py runserver")
    _runs.start_soon(job)


def stop(answer: UUID, by: str) -> None:
    """Stop an answer if this process writes it. For the loop's thread."""
    if _runs:
        _runs.stop(answer, by)


async def drain() -> None:
    """Take no more jobs, let the running ones finish within CHAT_DRAIN_SECONDS, interrupt the rest, and stop."""
    global _runs, _draining
    _draining = True
    if _runs is None:
        return
    if not await _runs.settle(settings.CHAT_DRAIN_SECONDS):
        _runs.interrupt(INTERRUPTED)
        await _runs.settle(LAST_WORDS_SECONDS)
    if _ear:
        _ear.cancel()
    await _runs.close()
    _runs = None


async def recover(held: Q, *, without_log: bool = False) -> tuple[int, int]:
    """End every open answer that is held as `held` says, and close the ledger of what is over.

    Returns how many were ended, and how many could not be, since the log is away. Nothing is begun again.
    """
    recovery = Recovery(None, without_log=without_log)
    for answer in await in_database(lambda: list(Message.objects.open().filter(held).values_list("pk", flat=True))):
        await recovery.take_over(answer, held)
    taken = len(recovery.held)
    await recovery.finish_all()
    await in_database(claims.close_strays, claims.stray_age() if log().shared else 0)
    return taken - len(recovery.held), len(recovery.held)


async def _obey(runs: Runs) -> None:
    """Stop what other doors ask to be stopped. A nudge that is lost is made good by the next checkpoint."""
    async for kind, data in groups.listen(groups.RUNNERS):
        if kind == "stop":
            runs.stop(UUID(data["answer"]), data["by"])
