"""What a run writes to the database: each function is one whole transaction, called off the loop."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from chat.events import Error, Event, Position, Usage
from chat.models import Conversation, Message, ModelCall, Status, lease_end, status_after

INTERRUPTED = "The server stopped while this answer was being written. What was written is kept."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The acknowledged state of one answer: exactly what its log holds up to `text_id`."""

    answer: UUID
    fence: int
    text: str
    reasoning: str
    text_id: Position
    completion_tokens: int
    ttft_ms: int | None


@transaction.atomic
def checkpoint(owner: str, changed: Sequence[Checkpoint]) -> dict[UUID, tuple[int, str]]:
    """Store what changed, renew this process's leases, and say which answers are still its own.

    Returns fence and `stop_by` of each open answer that `owner` holds: an answer that is missing has been lost.
    """
    table, pk = Message._meta.db_table, Message._meta.pk
    if changed:
        rows = sorted(changed, key=lambda row: row.answer)
        with connection.cursor() as cursor:
            cursor.executemany(
                f"UPDATE {table} SET text = %s, reasoning = %s, text_id = %s, completion_tokens = %s, ttft_ms = %s,"  # noqa: S608
                " estimated = %s WHERE id = %s AND fence = %s AND status = 'open'",
                [
                    (
                        row.text,
                        row.reasoning,
                        str(row.text_id),
                        row.completion_tokens,
                        row.ttft_ms,
                        True,
                        pk.get_db_prep_value(row.answer, connection),
                        row.fence,
                    )
                    for row in rows
                ],
            )
    mine = Message.objects.open().filter(lease_owner=owner)
    mine.update(lease_until=lease_end())
    return {pk: (fence, stop_by) for pk, fence, stop_by in mine.values_list("pk", "fence", "stop_by")}


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended: its last words, its final event, and what the call cost."""

    last: Checkpoint
    final: Event
    final_id: Position
    call: UUID
    prompt_tokens: int | None
    completion_tokens: int | None
    estimated: bool
    reasoning_ms: int | None


@transaction.atomic
def end(ending: Ending) -> bool:
    """Close the answer and its model call. False if somebody else closed the answer before; repeating is harmless."""
    usage: dict[str, Any] = {
        "prompt_tokens": ending.prompt_tokens,
        "completion_tokens": ending.completion_tokens,
        "estimated": ending.estimated,
    }
    last = ending.last
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
    close_call(ending.call, ending.final, usage)
    if won:
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


@transaction.atomic
def interrupt(answer: UUID) -> None:
    """End an answer that nobody is writing any more, if it is still open.

    The fence is raised first, so that whoever might still hold the answer has lost it.
    """
    row = Message.objects.open().select_for_update().filter(pk=answer).first()
    if row is None:
        return
    fence = row.fence + 1
    Message.objects.filter(pk=answer).update(fence=fence)
    final = Error("interrupted", INTERRUPTED, retryable=True, request_id=row.request_id)
    Message.end(answer, fence, final, Position(fence, 1))
    for call in ModelCall.objects.filter(answer=answer, outcome=Status.OPEN):
        close_call(call.pk, final, {"completion_tokens": row.completion_tokens or 0, "estimated": True})


def interrupt_all() -> int:
    """End every open answer, at the start of the only process there is: nobody can be writing them. Returns how many."""
    orphans = list(Message.objects.open().values_list("pk", flat=True))
    for answer in orphans:
        interrupt(answer)
    for call in ModelCall.objects.filter(outcome=Status.OPEN).values_list("pk", flat=True):
        ModelCall.close(call, Status.INTERRUPTED, error_code="interrupted", estimated=True)
    return len(orphans)
