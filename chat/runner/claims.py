"""Taking over an answer that nobody is writing any more: each function is one transaction, called off the loop."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chat import providers
from chat.events import Usage
from chat.models import Message, ModelCall, Status, lease_end
from chat.providers import Model
from chat.runner.jobs import Job, prompt_for

# At most this often is an answer begun: a question that crashes its process must not crash one after the other.
ATTEMPTS = 2
BATCH = 20


def expired() -> list[UUID]:
    """Open answers whose lease has run out, by the database's clock; the longest ones first."""
    found = Message.objects.open().filter(lease_until__lt=Now()).order_by("lease_until")
    return list(found.values_list("pk", flat=True)[:BATCH])


def claim(owner: str, answer: UUID, held: Q) -> Message | None:
    """Raise the fence of an open answer and hold its lease from now on, if it is still held as `held` says.

    Of any number of claimers one gets the row, with its new fence and its conversation; the others get None.
    """
    row = Message.objects.open().filter(held, pk=answer).first()
    if row is None:
        return None
    won = (
        Message.objects.open()
        .filter(held, pk=answer, fence=row.fence)
        .update(fence=row.fence + 1, lease_owner=owner, lease_until=lease_end(), queue_position=None)
    )
    return held_row(answer, row.fence + 1) if won else None


def out_of_time() -> Q:
    """The lease has run out."""
    return Q(lease_until__lt=Now())


def held_row(answer: UUID, fence: int) -> Message | None:
    """The open answer as it is now, if this fence still holds it."""
    return Message.objects.open().select_related("conversation").filter(pk=answer, fence=fence).first()


def cost(row: Message, deltas: int) -> tuple[UUID | None, Usage]:
    """The ledger row of the request that was under way, if there is one, and an estimate of what to bill for it."""
    call = ModelCall.objects.filter(answer=row, outcome=Status.OPEN).values_list("pk", flat=True).last()
    prompt, _ = prompt_for(row.conversation.branch(row.parent_id), model_of(row), row.text[: row.kept])
    return call, Usage(sum(turn.tokens for turn in prompt.turns) if call else 0, deltas, estimated=True)


def model_of(row: Message) -> Model:
    """The model that an answer is asked of, which this process's own list may not have."""
    asked = ModelCall.objects.filter(answer=row).values_list("provider", flat=True).last()
    return providers.catalogue().get(row.model) or Model(row.model, settings.CHAT_CONTEXT_TOKENS, asked or "")


@transaction.atomic
def begin_again(row: Message) -> Job | None:
    """The next attempt at an answer of which nothing has been heard. None if it is lost, or its provider is not in settings."""
    model = model_of(row)
    if model.provider not in settings.CHAT_PROVIDERS:
        return None
    fresh: dict[str, Any] = {
        "attempt": row.attempt + 1,
        "text": row.text[: row.kept],
        "reasoning": "",
        "text_id": f"{row.fence}-0",
        "completion_tokens": None,
        "ttft_ms": None,
    }
    if not Message.objects.open().filter(pk=row.pk, fence=row.fence).update(**fresh):
        return None
    for name, value in fresh.items():
        setattr(row, name, value)
    user = row.conversation.owner_id
    for lost in ModelCall.objects.filter(answer=row, outcome=Status.OPEN).values_list("pk", flat=True):
        ModelCall.close(lost, Status.INTERRUPTED, error_code="lost", completion_tokens=0, estimated=True)
    call = ModelCall.objects.create(pk=uuid7(), answer=row, user_id=user, provider=model.provider, model=model.name)
    prompt, _ = prompt_for(row.conversation.branch(row.parent_id), model, row.text)
    return Job.of(row, user, call.pk, prompt, model.provider)


def close_strays(older_than: float) -> int:
    """Close ledger rows that are open though their answer is not, opened more than so many seconds ago. Returns how many.

    The run that opened one closes it, unless its process was killed between two steps.
    """
    strays = (
        ModelCall.objects.filter(outcome=Status.OPEN, opened_at__lt=Now() - timedelta(seconds=older_than))
        .exclude(answer__status=Status.OPEN)
        .values_list("pk", flat=True)
    )
    closed: Sequence[UUID] = list(strays[:BATCH])
    for call in closed:
        ModelCall.close(call, Status.INTERRUPTED, error_code="lost", estimated=True)
    return len(closed)


def stray_age() -> float:
    """After this many seconds no run can still be about to close its ledger row itself."""
    return settings.CHAT_ANSWER_SECONDS + 10 * settings.CHAT_LEASE_SECONDS
