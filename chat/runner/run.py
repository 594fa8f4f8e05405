"""One run: the task that writes one answer, from the first event of its log to the end of its row."""

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from typing import Protocol
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from uuid_utils.compat import uuid7

from chat import groups
from chat.database import in_database
from chat.events import Done, Error, Event, Position, Reasoning, Started, Token, Usage
from chat.models import status_after
from chat.providers import Prompt, Provider, ProviderError
from chat.replay import Entry
from chat.runner import rows
from chat.runner.coalesce import Coalescer

logger = logging.getLogger(__name__)

# A provider that asks for a longer wait than this gets no automatic repetition.
LONGEST_RETRY_WAIT = 10.0
RETRY_WAIT = 0.5
# How long a provider may take to say what a finished answer cost, in seconds.
USAGE_SECONDS = 5.0
# How long the end of an answer is tried again while the database is away.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a run needs to know. `asked` is when the question arrived, on this process's monotonic clock."""

    answer: UUID
    conversation: UUID
    user: int
    fence: int
    attempt: int
    call: UUID
    request_id: str
    prompt: Prompt
    provider: Provider
    asked: float


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
        self._call = job.call
        self._concluded: Done | None = None
        self._usage: Usage | None = None
        self._text: list[str] = []  # acknowledged by the log
        self._reasoning: list[str] = []
        self._text_id = Position(job.fence, 0)
        self._deltas = 0
        self._size = 0
        self._heard = 0  # deltas of this call, before coalescing
        self._sent_at: float | None = None
        self._heard_at = 0.0
        self._thinking_since: float | None = None
        self._thought_ms: int | None = None
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
        silent = now - self._heard_at
        if self._concluded:
            if silent > USAGE_SECONDS:
                self.give_up(self._concluded)
        elif not self._heard and now - (self._sent_at or now) > settings.CHAT_FIRST_TOKEN_SECONDS:
            self.fail("timeout", "The model did not begin to answer in time.")
        elif self._heard and silent > settings.CHAT_GAP_SECONDS:
            self.fail("timeout", "The model fell silent in the middle of its answer. What it wrote is kept.")
        elif now - self.job.asked > settings.CHAT_ANSWER_SECONDS:
            self.fail("timeout", "The model took too long over its answer. What it wrote is kept.")

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
        self._saved_id = self._text_id
        self._text = ["".join(self._text)]
        self._reasoning = ["".join(self._reasoning)]
        job = self.job
        return rows.Checkpoint(
            job.answer, job.fence, self._text[0], self._reasoning[0], self._text_id, self._deltas, self.ttft_ms
        )

    # From the provider to a verdict

    async def _outcome(self) -> Done | Error:
        """Pull until the provider is finished, has failed, or a verdict cancels it."""
        if self._verdict:  # stopped before the first step
            return self._verdict
        self._pull = asyncio.create_task(self._converse())
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

    async def _converse(self) -> Done:
        """Ask once, and once more if the first request failed in a passing way before anything was heard."""
        try:
            return await self._ask()
        except ProviderError as error:
            wait = error.retry_after or RETRY_WAIT
            if not error.retry or self._heard or wait > LONGEST_RETRY_WAIT:
                raise
            await in_database(rows.fail_call, self._call, error.code)
            self._sent_at = None  # nothing is under way during the wait
            await asyncio.sleep(wait)
            failed, self._call = self._call, uuid7()
            await in_database(rows.repeat_call, failed, self._call)
        return await self._ask()

    async def _ask(self) -> Done:
        """One request. What comes after the end is ignored, but for the usage that belongs there."""
        self._sent_at = monotonic()
        try:
            async with aclosing(self.job.provider.stream(self.job.prompt)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Usage):
                        self._usage = event
                    elif isinstance(event, Done):
                        self._conclude(event)
                    elif self._concluded is None and self._hear(event):
                        return Done("length")
        except ProviderError:
            if self._concluded is None:
                raise
        if self._concluded is None:
            raise ProviderError("truncated", "The provider ended the answer before it was finished. What came is kept.")
        return self._concluded

    def _conclude(self, done: Done) -> None:
        """The provider says that the answer is finished; the first time counts."""
        if self._concluded is None:
            self._concluded, self._heard_at = done, monotonic()

    def _hear(self, event: Event) -> bool:
        """Take one delta; True when the answer has reached its largest size."""
        now = self._heard_at = monotonic()
        self._heard += 1
        if isinstance(event, Reasoning):
            self._thinking_since = self._thinking_since or now
        elif self._thinking_since and self._thought_ms is None:
            self._thought_ms = round((now - self._thinking_since) * 1000)
        if isinstance(event, Token | Reasoning):
            room = settings.CHAT_MAX_ANSWER_CHARS - self._size
            self._size += len(event.text)
            if len(event.text) > room:
                event = type(event)(event.text[:room], event.n)
        self.write(event, now=self._heard == 1)
        return self._size >= settings.CHAT_MAX_ANSWER_CHARS

    # The end

    async def _finish(self, final: Done | Error) -> None:
        """Flush what was heard, close the row, and only then let anybody see the final event."""
        self.stopping = True
        usage = self._billed()
        if isinstance(final, Done) or self._heard:
            self.write(usage)
        await self._writer.flush(self)
        if isinstance(final, Done):
            final = Done(final.reason, final.by, self.ttft_ms, self._since_asked())
        if not self.lost and await self._end_row(final, usage):
            self.write(final)
            await self._writer.flush(self)
            await self._tell("answer.ended", status=status_after(final))

    async def _end_row(self, final: Done | Error, usage: Usage) -> bool:
        """COMMIT the end. Tried again while the database is away; recovery takes over if that lasts."""
        last = self.checkpoint(always=True)
        assert last is not None
        ending = rows.Ending(
            last,
            final,
            self.position.next(),
            self._call,
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.estimated,
            self._thought_ms,
        )
        tries, until = 0, monotonic() + PATIENCE
        while True:
            try:
                won = await in_database(rows.end, ending)
                self.settled = True
                return won
            except DatabaseError:
                if monotonic() > until or self.lost:
                    logger.exception("the end of answer %s could not be stored", self.job.answer)
                    return False
                tries += 1
                await asyncio.sleep(min(5.0, 0.1 * 2**tries))

    def _billed(self) -> Usage:
        """The provider's count, or an estimate from what was sent and heard."""
        if self._usage:
            return self._usage
        if self._sent_at is None:
            return Usage(0, 0)
        prompt = sum(turn.tokens for turn in self.job.prompt.turns)
        return Usage(prompt, max(self._heard, self._size // 5), estimated=True)

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
