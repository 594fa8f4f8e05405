"""Stopping an answer from anywhere, and the receipt of it.

Whoever asks writes `stop_by` on the open row and nudges; only the run that holds the row ends it, after it has closed the
request to the provider. The receipt is read from the ended row, so asking again gives the same one.
"""

import asyncio
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any
from uuid import UUID

from django.conf import settings

from chat import groups, runner
from chat.answers.submitting import Refused
from chat.database import in_database
from chat.events import START
from chat.models import Message
from chat.replay import LogUnavailable, log

# A stop takes some milliseconds, or a lease if the process that writes the answer is gone. After so many seconds more,
# whoever asked is told to look again.
PATIENCE = 5.0
LOOK_AGAIN_SECONDS = 0.5
BREATH_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a stopped answer came to: its whole duration in ms, and the tokens written, billed or estimated."""

    answer: str
    ms: int
    completion_tokens: int
    estimated: bool

    @classmethod
    def of(cls, row: Message) -> "Receipt":
        return cls(str(row.pk), row.ms or 0, row.completion_tokens or 0, row.estimated)

    def data(self) -> dict[str, Any]:
        return {"type": "cancelled", **asdict(self)}


async def stop(answer: UUID, by: str) -> Receipt:
    """Stop an answer and return when it has ended; one that has ended already keeps its ending.

    The caller has checked the right to stop. Raises Refused if it does not end in time, Message.DoesNotExist if it is gone.
    """
    row = await in_database(request_stop, answer, by)
    if row.is_open:
        runner.stop(answer, by)
        await groups.nudge(groups.RUNNERS, "stop", answer=str(answer), by=by)
        row = await until_ended(answer)
    return Receipt.of(row)


def request_stop(answer: UUID, by: str) -> Message:
    """Write down who wants the answer stopped; the first one counts."""
    Message.objects.open().filter(pk=answer, stop_by="").update(stop_by=by)
    return Message.objects.get(pk=answer)


async def until_ended(answer: UUID) -> Message:
    """The row once it has ended. The log tells when to look; without it, the row is looked at again and again."""
    end = monotonic() + settings.CHAT_LEASE_SECONDS + PATIENCE
    while monotonic() < end:
        await news_of(answer)
        row = await in_database(Message.objects.get, pk=answer)
        if not row.is_open:
            return row
    raise Refused(
        "stopping", "The stop has been noted but is not confirmed yet. Look again in a moment.", retry_after=2
    )


async def news_of(answer: UUID) -> None:
    """Return when the answer may have ended: its log has a final event, or cannot say."""
    end = monotonic() + LOOK_AGAIN_SECONDS
    position = START
    with suppress(LogUnavailable):
        while (found := await log().follow(answer, position, end - monotonic())).joined and found.entries:
            position = found.entries[-1].position
            if found.entries[-1].event.final:
                return
    await asyncio.sleep(min(BREATH_SECONDS, max(0.0, end - monotonic())))
