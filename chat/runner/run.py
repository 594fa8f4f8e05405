"""One run: the task that writes one answer, from the first event of its log to the end of its row."""

import asyncio
import logging
from time import monotonic
from typing import Protocol

from django.db import Error as StorageError

from chat import groups
from chat.database import in_database
from chat.events import Done, Error, Event, Position, Reasoning, Started, Token, Usage
from chat.models import status_after
from chat.providers import ProviderError
from chat.replay import Entry
from chat.runner import rows
from chat.runner.coalesce import Coalescer
from chat.runner.talk import Job, Talk

logger = logging.getLogger(__name__)


class Writer(Protocol):
    """What a run wants of its process: to be flushed soon, or now and to hear when that is done."""

    def touch(self, run: "Run", *, now: bool) -> None: ...

    async def flush(self, run: "Run") -> None: ...


class Run:
    """Pulls from the provider, hands events to the log, and ends the row. Only `live` is awaited, by its own task.

    That task is never cancelled: stopping cancels the inner task that pulls, so the end always gets written.
    """

    def __init__(self, job: Job, writer: Writer) -> None:
        self.job = job
        self.task: asyncio.Task[None] | None = None
        self.stopping = False
        self.lost = False
        self.settled = False  # the row has ended, by this run or by another process
        self.ttft_ms: int | None = None
        self.position = Position(job.fence, 0)
        self.alone_since: float | None = None
        self.had_company = False
        self._writer = writer
        self._news = Coalescer()
        self._pull: asyncio.Task[Done] | None = None
        self._verdict: Done | Error | None = None
        self._talk = Talk(job, self._hear)
        self._text: list[str] = []  # acknowledged by the log
        self._reasoning: list[str] = []
        self._text_id = Position(job.fence, 0)
        self._deltas = 0
        self._saved_id = self._text_id

    async def live(self) -> None:
        """The whole life of the run."""
        self.write(Started(str(self.job.answer), self.job.attempt, self.job.prompt.model), now=True)
        await self._tell("answer.opened")
        final = await self._outcome()
        await self._finish(final)

    def stop(self, by: str) -> None:
        """Close the upstream and end the answer as stopped. The first verdict counts."""
        self.give_up(Done("stopped", by))

    def fail(self, code: str, message: str, *, retryable: bool = True) -> None:
        """Close the upstream and end the answer with an error."""
        self.give_up(self._error(code, message, retryable))

    def give_up(self, verdict: Done | Error) -> None:
        if self._verdict is None:
            self._verdict = verdict
            self.stopping = True
            if self._pull:
                self._pull.cancel()

    def lose(self) -> None:
        """Another process holds the answer now: close the upstream and write nothing more."""
        self.lost = self.settled = True
        self.give_up(self._error("lost", "", retryable=False))

    def check_deadlines(self, now: float) -> None:
        """Give up on a provider that is silent for too long, or has been writing for too long."""
        overdue = self._talk.overdue(now)
        if isinstance(overdue, Done):
            self.give_up(overdue)
        elif overdue:
            self.fail("timeout", overdue)

    # What the flusher does with a run

    def write(self, event: Event, *, now: bool = False) -> None:
        """Add an event to what the next flush takes."""
        self._news.add(event)
        self._writer.touch(self, now=now)

    def take(self) -> list[Entry]:
        """What was written since the last flush, at its final positions."""
        entries = []
        for event in self._news.take():
            self.position = self.position.next()
            entries.append(Entry(self.job.answer, self.position, event))
        return entries

    def acknowledge(self, entries: list[Entry]) -> None:
        """The log has these entries: from now on they may be stored and counted."""
        for entry in entries:
            event = entry.event
            if isinstance(event, Token):
                self._text.append(event.text)
            elif isinstance(event, Reasoning):
                self._reasoning.append(event.text)
            else:
                continue
            self._deltas += event.n
            self._text_id = entry.position
            if self.ttft_ms is None:
                self.ttft_ms = self._since_asked()

    def checkpoint(self, *, always: bool = False) -> rows.Checkpoint | None:
        """The acknowledged state, if it is news since the last time."""
        if self._text_id == self._saved_id and not always:
            return None
        self._text = ["".join(self._text)]
        self._reasoning = ["".join(self._reasoning)]
        job = self.job
        return rows.Checkpoint(
            job.answer, job.fence, self._text[0], self._reasoning[0], self._text_id, self._deltas, self.ttft_ms
        )

    def saved(self, checkpoint: rows.Checkpoint) -> None:
        """This state is stored."""
        self._saved_id = checkpoint.text_id

    # From the provider to a verdict

    async def _outcome(self) -> Done | Error:
        """Pull until the provider is finished, has failed, or a verdict cancels it."""
        if self._verdict:  # stopped before the first step
            return self._verdict
        self._pull = asyncio.create_task(self._talk.go())
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

    def _hear(self, event: Event) -> None:
        """The first delta goes out at once, the others with the next flush."""
        self.write(event, now=self._talk.heard == 1)

    # The end

    async def _finish(self, final: Done | Error) -> None:
        """Flush what was heard, close the row, and only then let anybody see the final event."""
        self.stopping = True
        usage = self._talk.cost()
        if self.lost:
            await in_database(rows.close_lost_call, self._talk.call, usage)
            return
        if isinstance(final, Done) or self._talk.heard:
            self.write(usage)
        await self._writer.flush(self)
        if isinstance(final, Done):
            final = Done(final.reason, final.by, self.ttft_ms, self._since_asked())
        if await self._end_row(final, usage):
            self.write(final)
            await self._writer.flush(self)
            await self._tell("answer.ended", status=status_after(final))

    async def _end_row(self, final: Done | Error, usage: Usage) -> bool:
        """COMMIT the end. Tried again for as long as the database is away: nobody else has the last words."""
        last = self.checkpoint(always=True)
        assert last is not None
        ending = rows.Ending(
            last,
            final,
            self.position.next(),
            self._talk.call,
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.estimated,
            self._talk.thought_ms,
        )
        tries = 0
        while not self.lost:
            try:
                won = await in_database(rows.end, ending)
                self.settled = True
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
