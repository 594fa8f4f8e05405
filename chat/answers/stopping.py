"""Stopping an answer from anywhere, and the receipt of it.

Whoever asks writes `stop_by` on the open row and nudges; only the run that holds the row ends it, after it has closed the
request to the provider. The receipt is read from the ended row, so asking again gives the same one.
"""

import asyncio
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any
from uuid import UUID

from chat import groups
from chat.answers.asking import Refused
from chat.database import in_database
from chat.models import Message
from chat.replay import log

# A stop takes some milliseconds; after this long, whoever asked is told to look again.
PATIENCE = 10.0
LOOK_AGAIN_SECONDS = 0.5


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
    last = await log().last(answer)
    row = await in_database(request_stop, answer, by)
    if row.is_open:
        await groups.nudge(groups.RUNNERS, "stop", answer=str(answer), by=by)
        row = await until_ended(answer, last)
    return Receipt.of(row)


def request_stop(answer: UUID, by: str) -> Message:
    """Write down who wants the answer stopped; the first one counts."""
    Message.objects.open().filter(pk=answer, stop_by="").update(stop_by=by)
    return Message.objects.get(pk=answer)


async def until_ended(answer: UUID, last: Any) -> Message:
    """The row once it has ended. The log tells when to look; without it, the row is looked at again and again."""
    end = monotonic() + PATIENCE
    while monotonic() < end:
        found = await log().follow(answer, last, LOOK_AGAIN_SECONDS) if last else None
        if found is None or not found.joined:
            last = await log().last(answer)
            await asyncio.sleep(0.02)
        elif found.entries:
            last = found.entries[-1].position
            if not found.entries[-1].event.final:
                continue
        row = await in_database(Message.objects.get, pk=answer)
        if not row.is_open:
            return row
    raise Refused(
        "stopping", "The stop has been noted but is not confirmed yet. Look again in a moment.", retry_after=2
    )
