"""Conversations and their messages.

A conversation is a tree of messages by `parent`. An assistant message is an *answer*: while its status is `open` a run
writes it under a lease, and exactly one conditional UPDATE (`end`) closes it. Rows that have ended never open again.
"""

from datetime import timedelta
from typing import Any, ClassVar, Self
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.functional import cached_property
from uuid_utils.compat import uuid7

from chat.events import Done, Error, Event, Position

# A speed is not worth showing of an answer that was written in less time than this.
SHORTEST_MS = 200


class Role(models.TextChoices):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Status(models.TextChoices):
    """How an answer stands. Everything but `open` is final."""

    OPEN = "open"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


def status_after(final: Event) -> Status:
    """The status of an answer that ended with this event."""
    if isinstance(final, Error):
        return Status.INTERRUPTED if final.code == "interrupted" else Status.FAILED
    if isinstance(final, Done):
        return Status.STOPPED if final.reason == "stopped" else Status.DONE
    raise TypeError(f"{final.name} does not end an answer")


class OwnedQuerySet(models.QuerySet[Any]):
    """Rows reached through their owner: the only way in for doors."""

    owner_path: ClassVar[str] = "owner"

    def of(self, user: Any) -> Self:
        """The rows that belong to this user."""
        return self.filter(**{self.owner_path: user})


class ConversationQuerySet(OwnedQuerySet):
    pass


class MessageQuerySet(OwnedQuerySet):
    owner_path = "conversation__owner"

    def answers(self) -> Self:
        return self.filter(role=Role.ASSISTANT)

    def open(self) -> Self:
        return self.filter(status=Status.OPEN)


class Conversation(models.Model):
    """One thread of questions and answers, seen by its owner and by staff who review."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=120, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ("-updated_at",)
        indexes: ClassVar = [models.Index(fields=["owner", "-updated_at"])]

    def __str__(self) -> str:
        return self.title or "New chat"

    def branch(self, leaf: UUID | None = None) -> list["Message"]:
        """A message, the newest unless another is named, and its ancestors, oldest first.

        The newest branch is what the page shows and the model is sent.
        """
        by_id = {message.pk: message for message in self.messages.all()}
        path: list[Message] = []
        step = leaf or max(by_id, default=None)
        while step is not None:
            path.append(by_id[step])
            step = by_id[step].parent_id
        return path[::-1]


class Message(models.Model):
    """A question or an answer. The fields below `text` are an answer's; times are in milliseconds."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="messages")
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")
    role = models.CharField(max_length=10, choices=Role)
    text = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    status = models.CharField(max_length=12, choices=Status, blank=True)
    model = models.CharField(max_length=200, blank=True)
    is_demo = models.BooleanField(default=False)
    reasoning = models.TextField(blank=True)
    kept = models.PositiveIntegerField(default=0)  # characters of `text` that it took over from the answer it continues
    attempt = models.PositiveSmallIntegerField(default=1)
    fence = models.PositiveIntegerField(default=1)
    lease_owner = models.CharField(max_length=64, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    queue_position = models.PositiveIntegerField(null=True, blank=True)  # from 1, while it waits for its turn
    stop_by = models.CharField(max_length=16, blank=True)
    text_id = models.CharField(max_length=64, blank=True)
    final_id = models.CharField(max_length=64, blank=True)
    ttft_ms = models.PositiveIntegerField(null=True, blank=True)
    reasoning_ms = models.PositiveIntegerField(null=True, blank=True)
    ms = models.PositiveIntegerField(null=True, blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(null=True, blank=True)
    estimated = models.BooleanField(default=False)
    reason = models.CharField(max_length=20, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    retryable = models.BooleanField(default=False)
    request_id = models.CharField(max_length=40, blank=True)
    left_out = models.PositiveIntegerField(default=0)
    html = models.TextField(blank=True)
    html_version = models.CharField(max_length=20, blank=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        ordering = ("pk",)
        indexes: ClassVar = [
            models.Index(fields=["status", "lease_until"], condition=models.Q(status="open"), name="message_open"),
            models.Index(fields=["created_at", "ttft_ms"], name="message_ttft"),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.pk}"

    @property
    def is_open(self) -> bool:
        return self.status == Status.OPEN

    @property
    def can_go_on(self) -> bool:
        """Whether it has ended before it was finished, and there is a text to continue."""
        cut = self.status != Status.DONE or self.reason == "length"
        return cut and not self.is_open and bool(self.text.strip()) and len(self.text) < settings.CHAT_MAX_ANSWER_CHARS

    @property
    def tokens_per_second(self) -> float | None:
        """Completion tokens a second between the first token and the end; None where that is too short to tell."""
        writing = (self.ms or 0) - (self.ttft_ms or 0)
        return self.completion_tokens * 1000 / writing if self.completion_tokens and writing >= SHORTEST_MS else None

    def final_event(self) -> Event | None:
        """The last event of an ended answer, as its log had it; None while it is open."""
        if self.status in (Status.FAILED, Status.INTERRUPTED):
            return Error(self.error_code, self.error_message, self.retryable, self.request_id)
        if self.status in (Status.DONE, Status.STOPPED):
            return Done(self.reason, self.stop_by or None, self.ttft_ms, self.ms)
        return None

    @property
    def text_position(self) -> Position:
        """Where the newest event that the text contains stands in the log.

        `<fence>-0` says that the text is ahead of the log, which has nothing of this fence yet.
        """
        return Position.of(self.text_id)

    @cached_property
    def final_position(self) -> Position:
        """Where the final event stands in the log; the start for a row without one."""
        return Position.of(self.final_id)

    @classmethod
    def end(cls, answer: UUID, fence: int, final: Event, final_id: Position, **fields: Any) -> bool:
        """Close an open answer, if it is still open and this fence still holds it. True for the one who won.

        The fence of `final_id` is the row's from then on. It is higher where the log has missed something of the text.
        """
        if isinstance(final, Error):
            fields |= {
                "error_code": final.code,
                "error_message": final.message,
                "retryable": final.retryable,
                "request_id": final.request_id,
            }
        elif isinstance(final, Done):
            fields |= {
                "reason": final.reason,
                "stop_by": final.by or "",
                "ttft_ms": final.ttft_ms,
                "ms": final.ms,
            }
        won = (
            cls.objects.open()
            .filter(pk=answer, fence=fence)
            .update(
                status=status_after(final),
                fence=final_id.fence,
                final_id=str(final_id),
                lease_owner="",
                lease_until=None,
                queue_position=None,
                **fields,
            )
        )
        return won == 1


def lease_end() -> Any:
    """When a lease taken now runs out, by the database's clock: processes need not agree on theirs."""
    return Now() + timedelta(seconds=settings.CHAT_LEASE_SECONDS)
