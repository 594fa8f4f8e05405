"""Recovery: what becomes of an answer whose writer is gone.

In this order: the row's fence is raised, which closes the row to older writers; a seal closes the log to them; what
the log has beyond the row is read; the row is ended, or the answer begun again; then the log gets the ending.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from chat import groups
from chat.database import in_database
from chat.events import Done, Error, Position, Reasoning, Started, Token
from chat.models import Message, status_after
from chat.replay import Entry, LogUnavailable, Slice, log
from chat.runner import claims, rows
from chat.runner.jobs import Job

logger = logging.getLogger(__name__)

INTERRUPTED = "The server stopped while this answer was being written. What was written is kept."


@dataclass(frozen=True, slots=True)
class Heard:
    """What was acknowledged of an answer: the row, and what its log has beyond that."""

    text: str
    reasoning: str
    deltas: int
    text_id: Position
    in_log: bool  # whether the log has all of it

    @classmethod
    def of(cls, row: Message, found: Slice) -> "Heard":
        heard = cls(row.text, row.reasoning, row.completion_tokens or 0, row.text_position, found.joined)
        for entry in found.entries:
            event = entry.event
            if isinstance(event, Started):
                heard = cls("", "", 0, entry.position, in_log=True)
            elif isinstance(event, Token):
                heard = replace(
                    heard, text=heard.text + event.text, deltas=heard.deltas + event.n, text_id=entry.position
                )
            elif isinstance(event, Reasoning):
                reasoning = heard.reasoning + event.text
                heard = replace(heard, reasoning=reasoning, deltas=heard.deltas + event.n, text_id=entry.position)
        return heard

    def anything(self, kept: int) -> bool:
        """Whether a model has said anything that a reader may have seen."""
        return bool(self.deltas or self.reasoning or self.text[kept:])


class Recovery:
    """Takes answers over and brings each to an end, or hands it to `begin` for another attempt."""

    def __init__(self, begin: Callable[[Job], None] | None, *, without_log: bool = False) -> None:
        self.held: dict[UUID, Message] = {}  # taken over, and not brought to an end yet
        self._begin = begin
        self._without_log = without_log

    async def sweep(self, steady: Callable[[], bool]) -> None:
        """Take over what has run out of time.

        `steady` is asked again after each look: when the database comes back after an outage, all leases have run out.
        """
        for answer in await in_database(claims.expired) if steady() else ():
            if steady():
                await self.take_over(answer, claims.out_of_time())

    async def take_over(self, answer: UUID, held: Q) -> None:
        """Claim an answer that is held as `held` says; one that is not any more is left alone."""
        row = await in_database(claims.claim, settings.CHAT_WORKER, answer, held)
        if row is not None:
            logger.warning("answer %s has lost its writer (fence %s); recovering it", answer, row.fence - 1)
            self.held[answer] = row

    async def finish_all(self) -> None:
        """Bring what was taken over to its end, as far as that can be done now."""
        for answer in list(self.held):
            await self._finish(answer)

    async def _finish(self, answer: UUID) -> None:
        """Bring an answer that was taken over to its end. This waits for a log that is away: it may know more than the row."""
        fence = self.held[answer].fence
        try:
            row, found = await self._read(answer, fence)
        except LogUnavailable:
            return
        if row is not None:
            await self._settle(row, Heard.of(row, found))
        del self.held[answer]

    async def _read(self, answer: UUID, fence: int) -> tuple[Message | None, Slice]:
        """The row as it is now, and what the log has beyond it, closed to everybody else."""
        if self._without_log:
            return await in_database(claims.held_row, answer, fence), Slice(joined=False)
        await log().seal(answer, Position(fence, 0))
        row = await in_database(claims.held_row, answer, fence)
        if row is None:
            return None, Slice()
        return row, await log().read(answer, row.text_position)

    async def _settle(self, row: Message, heard: Heard) -> None:
        restartable = self._begin and row.attempt < claims.ATTEMPTS and not row.stop_by
        if restartable and not heard.anything(row.kept) and (job := await in_database(claims.begin_again, row)):
            assert self._begin
            self._begin(job)
            return
        await self._end(row, heard)

    async def _end(self, row: Message, heard: Heard) -> None:
        final: Done | Error = Error("interrupted", INTERRUPTED, retryable=True, request_id=row.request_id)
        if row.stop_by:
            final = Done("stopped", row.stop_by, row.ttft_ms, None)
        call, usage = await in_database(claims.cost, row, heard.deltas)
        last = rows.Checkpoint(
            row.pk, row.fence, row.fence, heard.text, heard.reasoning, heard.text_id, heard.deltas, row.ttft_ms
        )
        final_id = Position(row.fence, 2)
        if not await in_database(rows.end, rows.Ending(last, final, final_id, call, usage)):
            return
        with suppress(LogUnavailable):  # chat.readers tells it later
            if heard.in_log:
                await log().append([Entry(row.pk, Position(row.fence, 1), usage), Entry(row.pk, final_id, final)])
            elif not self._without_log:  # readers have all of it from the row
                await log().seal(row.pk, final_id, forget=True)
        group = groups.user_group(row.conversation.owner_id)
        ids = {"conversation": str(row.conversation_id), "answer": str(row.pk)}
        await groups.nudge(group, "answer.ended", status=status_after(final), **ids)
