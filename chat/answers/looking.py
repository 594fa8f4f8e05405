"""Rows of answers for many followers at once: while a log is away, all streams of a process look at theirs every second."""

import asyncio
import contextvars
from uuid import UUID

from chat.database import in_database
from chat.models import Message

# Followers that ask within this time are served by one query.
GATHER_SECONDS = 0.01

_asked: dict[UUID, asyncio.Future[Message | None]] = {}
_tasks: set[asyncio.Task[None]] = set()


async def row_of(answer: UUID) -> Message | None:
    """The row as it is now; None if it has been deleted. Raises django.db.Error."""
    if not _asked:
        task = asyncio.get_running_loop().create_task(look(), context=contextvars.Context())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    found = _asked.setdefault(answer, asyncio.get_running_loop().create_future())
    return await asyncio.shield(found)


async def look() -> None:
    """Answer all who have asked."""
    await asyncio.sleep(GATHER_SECONDS)
    asked = dict(_asked)
    _asked.clear()
    try:
        rows = await in_database(Message.objects.in_bulk, list(asked))
    except Exception as error:
        for future in asked.values():
            future.set_exception(error)
            future.exception()  # whoever asked may have gone
        return
    for answer, future in asked.items():
        future.set_result(rows.get(answer))
