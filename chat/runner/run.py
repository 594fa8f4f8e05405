"""One run: the task that writes one answer, from the first event of its log to the end of its row."""

import asyncio
import logging
from time import monotonic
from typing import Protocol

from django.db import Error as StorageError

from chat import groups
from chat.database import in_database
from chat.events import Done, Error, Event, Position, Token, Usage
from chat.models import status_after
from chat.providers import ProviderError
from chat.runner import rows
from chat.runner.draft import Draft
from chat.runner.jobs import Job
from chat.runner.slots import Slots
from chat.runner.talk import Talk

logger = logging.getLogger(__name__)


class Writer(Protocol):
    """What a run wants of its process: to be flushed soon, or now and to hear when that is done."""

    def touch(self, run: "Run", *, now: bool) -> None: ...

    async def flush(self, run: "Run") -> None: ...


class Run:
    """Pulls from the provider, hands events to the log, and ends the row. Only `live` is awaited, by its own task.

    That task is never cancelled: stopping cancels the inner task that pulls, so the end always gets written.
    """

    def __init__(self, job: Job, writer: Writer, slots: Slots) -> None:
        self.job = job
        self.draft = Draft(job)
        self.task: asyncio.Task[None] | None = None
        self.stopping = False
        self.lost = False  # another process holds the answer, or nobody
        self.mute = False  # nothing more of it may go to the log
        self.settled = False  # the row has ended, by this run or by another process
        self.alone_since: float | None = None
        self.had_company = False
        self._writer = writer
        self._slots = slots
        self._pull: asyncio.Task[Done] | None = None
        self._verdict: Done | Error | None = None
        self._talk = Talk(job, self._hear)

    async def live(self) -> None:
        """The whole life of the run."""
        self._write(self.job.started, now=True)
        if self.job.kept:
            self._write(Token(self.job.kept, 0), now=True)
        await self._tell("answer.opened")
        final = await self._outcome()
        await self._finish(final)

    def stop(self, by: str) -> None:
        """Close the upstream and end the answer as stopped. The first verdict counts."""
        self._give_up(Done("stopped", by))

    def fail(self, code: str, message: str, *, retryable: bool = True) -> None:
        """Close the upstream and end the answer with an error."""
        self._give_up(self._error(code, message, retryable))

    def lose(self) -> None:
        """Another process holds the answer now: close the upstream and write nothing more."""
        self.lost = self.mute = True
        self._give_up(self._error("lost", "", retryable=False))

    def check_deadlines(self, now: float) -> None:
        """Give up on a provider that is silent for too long, or has been writing for too long."""
        overdue = self._talk.overdue(now)
        if isinstance(overdue, Done):
            self._give_up(overdue)
        elif overdue:
            self.fail("timeout", overdue)

    def _give_up(self, verdict: Done | Error) -> None:
        if self._verdict is None:
            self._verdict = verdict
            self.stopping = True
            if self._pull:
                self._pull.cancel()

    def _write(self, event: Event, *, now: bool = False) -> None:
        """Add an event to what the next flush takes."""
        self.draft.write(event)
        self._writer.touch(self, now=now)

    # From the provider to a verdict

    async def _outcome(self) -> Done | Error:
        """Pull until the provider is finished, has failed, or a verdict cancels it."""
        if self._verdict:  # stopped before the first step
            return self._verdict
        self._pull = asyncio.create_task(self._take_turn())
        await asyncio.wait([self._pull])
        if self._pull.cancelled():
            return self._verdict or self._error("provider", "The provider closed the connection.")
        error = self._pull.exception()
        if error is None:
            return self._pull.result()
        if isinstance(error, ProviderError):
            return self._error(error.code, error.message, error.retryable)
        logger.error("a provider broke its contract", exc_info=error)
        return self._error("internal", "Something went wrong on this server. It has been noted.")

    async def _take_turn(self) -> Done:
        """Wait until the provider has room for one more, and talk with it."""
        async with self._slots.turn(self.job):
            return await self._talk.go()

    def _hear(self, event: Event) -> None:
        """The first delta goes out at once, the others with the next flush."""
        self._write(event, now=self._talk.heard == 1)

    # The end

    async def _finish(self, final: Done | Error) -> None:
        """Flush what was heard, close the row, and only then let anybody see the final event."""
        self.stopping = True
        usage = self._talk.cost()
        if isinstance(final, Done) or self._talk.heard:
            self._write(usage)
        if not self.lost:
            await self._writer.flush(self)
        if isinstance(final, Done):
            final = Done(final.reason, final.by, self.draft.ttft_ms, self._since_asked())
        won = await self._end_row(final, usage)
        self.settled = True
        if not won:
            await in_database(rows.close_lost_call, self._talk.call, usage)
            return
        if not self.mute:
            self._write(final)
            await self._writer.flush(self)
        await self._tell("answer.ended", status=status_after(final))

    async def _end_row(self, final: Done | Error, usage: Usage) -> bool:
        """COMMIT the end. Tried again for as long as the database is away: nobody else has the last words.

        Returns False if the answer has been taken over or deleted.
        """
        tries = 0
        while not self.lost:
            last = self.draft.whole()
            final_id = self.draft.position.next() if last.new_fence == last.fence else Position(last.new_fence, 1)
            ending = rows.Ending(last, final, final_id, self._talk.call, usage, self._talk.thought_ms)
            try:
                won = await in_database(rows.end, ending)
                self.mute = (
                    last.new_fence != last.fence
                )  # the log has missed something: readers have the end from the row
                if won or self.draft.fence == last.fence:
                    return won
            except StorageError:
                logger.warning("the end of answer %s cannot be stored yet", self.job.answer, exc_info=not tries)
                tries += 1
                await asyncio.sleep(min(5.0, 0.1 * 2**tries))
        return False

    def _error(self, code: str, message: str, retryable: bool = True) -> Error:
        return Error(code, message, retryable, self.job.request_id)

    def _since_asked(self) -> int:
        return round((monotonic() - self.job.asked) * 1000)

    async def _tell(self, kind: str, **data: object) -> None:
        """Nudge the user's pages."""
        job = self.job
        await groups.nudge(
            groups.user_group(job.user), kind, conversation=str(job.conversation), answer=str(job.answer), **data
        )
