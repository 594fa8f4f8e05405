"""The talk with the provider: one request, or two, and what comes of it."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from time import monotonic

from django.conf import settings
from uuid_utils.compat import uuid7

from chat.database import in_database
from chat.events import Done, Event, Reasoning, Token, Usage
from chat.providers import ProviderError, truncated
from chat.runner import rows
from chat.runner.jobs import Job

# A provider that asks for a longer wait than this gets no automatic repetition.
LONGEST_RETRY_WAIT = 10.0
RETRY_WAIT = 0.5
# How long a provider may take to say what a finished answer cost, in seconds.
USAGE_SECONDS = 5.0
# Deltas longer than this on average hold several tokens each, so counting them would bill too little.
LONGEST_TOKEN = 8


class Talk:
    """Asks the provider and hands on what it says, in order, through `hear`. Cancelling `go` closes the request at once.

    Afterwards `heard` says how many deltas came, `call` which row of the ledger is the last one, and `cost` what to bill.
    """

    def __init__(self, job: Job, hear: Callable[[Event], None]) -> None:
        self.call = job.call
        self.heard = 0
        self.thought_ms: int | None = None
        self._job = job
        self._hear = hear
        self._size = 0
        self._largest = settings.CHAT_MAX_ANSWER_CHARS - len(job.kept)
        self._usage: Usage | None = None
        self._concluded: Done | None = None
        self._begun_at: float | None = None
        self._sent_at: float | None = None
        self._heard_at = 0.0
        self._thinking_since: float | None = None

    async def go(self) -> Done:
        """Ask once, and once more if the first request failed in a passing way before anything was heard."""
        self._begun_at = monotonic()
        try:
            return await self._ask()
        except ProviderError as error:
            wait = error.retry_after or RETRY_WAIT
            if not error.retry or self.heard or wait > LONGEST_RETRY_WAIT:
                raise
            await in_database(rows.fail_call, self.call, error.code)
            self._sent_at = None  # nothing is under way during the wait
            await asyncio.sleep(wait)
            failed, self.call = self.call, uuid7()
            await in_database(rows.repeat_call, failed, self.call)
        return await self._ask()

    def overdue(self, now: float) -> Done | str:
        """Why this must not go on: a sentence for people, the end that the provider has announced, or nothing."""
        silent = now - self._heard_at
        if self._concluded:
            return self._concluded if silent > USAGE_SECONDS else ""
        if not self.heard and now - (self._sent_at or now) > settings.CHAT_FIRST_TOKEN_SECONDS:
            return "The model did not begin to answer in time."
        if self.heard and silent > settings.CHAT_GAP_SECONDS:
            return "The model fell silent in the middle of its answer. What it wrote is kept."
        if now - (self._begun_at or now) > settings.CHAT_ANSWER_SECONDS:
            return "The model took too long over its answer. What it wrote is kept."
        return ""

    def cost(self) -> Usage:
        """The provider's count, or an estimate from what was sent and heard."""
        if self._usage:
            return self._usage
        if self._sent_at is None:
            return Usage(0, 0)
        prompt = sum(turn.tokens for turn in self._job.prompt.turns)
        return Usage(prompt, max(self.heard, self._size // LONGEST_TOKEN), estimated=True)

    async def _ask(self) -> Done:
        """One request. What comes after the end is ignored, but for the usage that belongs there."""
        self._sent_at = monotonic()
        try:
            async with aclosing(self._job.provider.stream(self._job.prompt)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Usage):
                        self._usage = event
                    elif isinstance(event, Done):
                        self._conclude(event)
                    elif self._concluded is None and self._take(event):
                        return Done("length")
        except ProviderError:
            if self._concluded is None:
                raise
        if self._concluded is None:
            raise truncated()
        return self._concluded

    def _conclude(self, done: Done) -> None:
        """The provider says that the answer is finished; the first time counts."""
        if self._concluded is None:
            self._concluded, self._heard_at = done, monotonic()

    def _take(self, event: Event) -> bool:
        """Hand on one delta; True when the answer has reached its largest size."""
        now = self._heard_at = monotonic()
        self.heard += 1
        if isinstance(event, Reasoning):
            self._thinking_since = self._thinking_since or now
        elif self._thinking_since and self.thought_ms is None:
            self.thought_ms = round((now - self._thinking_since) * 1000)
        if isinstance(event, Token | Reasoning):
            room = self._largest - self._size
            self._size += len(event.text)
            if len(event.text) > room:
                event = type(event)(event.text[:room], event.n)
        self._hear(event)
        return self._size >= self._largest
