"""The work of a process: provider -> log -> row, for every answer it writes.

`start()` makes this process a runner, `begin()` hands it an answer, `drain()` ends its service. All other processes
reach it by nudges on the group `runners` and by `stop_by` on the row.
"""

import asyncio
import logging
from uuid import UUID

from django.conf import settings

from chat import groups
from chat.database import in_database
from chat.runner import rows
from chat.runner.flusher import Flusher
from chat.runner.talk import Job

__all__ = ["Job", "begin", "drain", "is_draining", "is_running", "start"]

logger = logging.getLogger(__name__)

_flusher: Flusher | None = None
_ear: asyncio.Task[None] | None = None
_draining = False


def is_running() -> bool:
    """Whether this process can take a job."""
    return _flusher is not None and not _draining


def is_draining() -> bool:
    """Whether this process is about to leave."""
    return _draining


async def start() -> None:
    """Begin to work, after ending what a previous life of this only process left open."""
    global _flusher, _ear, _draining
    orphans = await in_database(rows.interrupt_all)
    if orphans:
        logger.warning("%d answers were open when the last server stopped; they are interrupted now", orphans)
    _flusher, _draining = Flusher(), False
    _ear = asyncio.create_task(_obey(_flusher))


def begin(job: Job) -> None:
    """Write this answer. May be called from any thread, once its row is committed."""
    if _flusher is None:
        raise RuntimeError("this process has no runner: serve it with script/server or manage.py runserver")
    _flusher.start_soon(job)


async def drain() -> None:
    """Take no more jobs, let the running ones finish within CHAT_DRAIN_SECONDS, interrupt the rest, and stop."""
    global _flusher, _draining
    _draining = True
    if _flusher is None:
        return
    if await _settle(_flusher, settings.CHAT_DRAIN_SECONDS):
        for run in list(_flusher.runs.values()):
            run.fail("interrupted", rows.INTERRUPTED)
        await _settle(_flusher, 3.0)
    if _ear:
        _ear.cancel()
    await _flusher.close()
    _flusher = None


async def _settle(flusher: Flusher, seconds: float) -> bool:
    """Wait until no run is left; True if some are when the time is over."""
    if tasks := flusher.writing():
        await asyncio.wait(tasks, timeout=seconds)
    return bool(flusher.writing())


async def _obey(flusher: Flusher) -> None:
    """Stop what other doors ask to be stopped. A nudge that is lost is made good by the next checkpoint."""
    async for kind, data in groups.listen(groups.RUNNERS):
        run = flusher.runs.get(UUID(data["answer"]))
        if kind == "stop" and run:
            run.stop(data["by"])
