"""What a run writes to the database: each function is one whole transaction, called off the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from chat.events import START, Error, Event, Position, Usage
from chat.models import Conversation, Message, ModelCall, Status, lease_end, status_after


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The acknowledged state of one answer: exactly what its log holds up to `text_id`.

    Where `new_fence` is above `fence`, the log does not hold it: the row itself acknowledges what the run had written up to
    `up_to`, and takes the new fence.
    """

    answer: UUID
    fence: int
    new_fence: int
    text: str
    reasoning: str
    text_id: Position
    completion_tokens: int
    ttft_ms: int | None
    up_to: Position = START


@transaction.atomic
def checkpoint(
    owner: str, changed: Sequence[Checkpoint], places: Mapping[UUID, int | None]
) -> dict[UUID, tuple[int, str]]:
    """Store what changed and who waits at which place, renew this process's leases, and say which answers are still its own.

    Returns fence and `stop_by` of each open answer that `owner` holds: an answer that is missing has been lost.
    """
    if changed:
        with connection.cursor() as cursor:
            cursor.executemany(SAVE, [values(owner, row) for row in sorted(changed, key=lambda row: row.answer)])
    for answer, place in sorted(places.items()):
        Message.objects.open().filter(pk=answer, lease_owner=owner).update(queue_position=place)
    mine = Message.objects.open().filter(lease_owner=owner)
    mine.update(lease_until=lease_end())
    return {pk: (fence, stop_by) for pk, fence, stop_by in mine.values_list("pk", "fence", "stop_by")}


SAVE = (
    f"UPDATE {Message._meta.db_table} SET text = %s, reasoning = %s, text_id = %s, completion_tokens = %s, ttft_ms = %s,"  # noqa: S608
    " estimated = %s, fence = %s WHERE id = %s AND fence IN (%s, %s) AND lease_owner = %s AND status = 'open'"
)


def values(owner: str, row: Checkpoint) -> tuple[Any, ...]:
    """The parameters of SAVE. The row may have the new fence already: a COMMIT whose reply was lost is done once more."""
    key = Message._meta.pk.get_db_prep_value(row.answer, connection)
    said = (row.text, row.reasoning, str(row.text_id), row.completion_tokens, row.ttft_ms, True)
    return (*said, row.new_fence, key, row.fence, row.new_fence, owner)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended: its last words, its final event, and what the call cost, if one is open."""

    last: Checkpoint
    final: Event
    final_id: Position
    call: UUID | None
    usage: Usage
    reasoning_ms: int | None = None


@transaction.atomic
def end(ending: Ending) -> bool:
    """Close the answer and its model call. False, and nothing is changed, if somebody else closed or took the answer before."""
    last, usage = ending.last, asdict(ending.usage)
    won = Message.end(
        last.answer,
        last.fence,
        ending.final,
        ending.final_id,
        text=last.text,
        reasoning=last.reasoning,
        text_id=str(last.text_id),
        reasoning_ms=ending.reasoning_ms,
        **usage,
    )
    if won:
        if ending.call:
            close_call(ending.call, ending.final, usage)
        touched = Message.objects.filter(pk=last.answer).values("conversation")
        for conversation in Conversation.objects.filter(pk__in=touched):
            conversation.save(update_fields=["updated_at"])
    return won


def close_call(call: UUID, final: Event, usage: dict[str, Any]) -> None:
    """Close the ledger row in the way that the answer ended."""
    error = final.code if isinstance(final, Error) else ""
    ModelCall.close(call, status_after(final), error_code=error, **usage)


def close_lost_call(call: UUID, usage: Usage) -> None:
    """Close the call of an answer that was taken over or deleted while it was written."""
    tokens = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    ModelCall.close(call, Status.INTERRUPTED, estimated=usage.estimated, error_code="lost", **tokens)


def fail_call(call: UUID, error_code: str) -> None:
    """Close a call that failed before anything came."""
    ModelCall.close(call, Status.FAILED, error_code=error_code, completion_tokens=0)


def repeat_call(failed: UUID, fresh: UUID) -> None:
    """Open the ledger row of the one repetition of a call that failed."""
    call = ModelCall.objects.get(pk=failed)
    ModelCall.objects.create(
        pk=fresh, answer_id=call.answer_id, user_id=call.user_id, provider=call.provider, model=call.model
    )
