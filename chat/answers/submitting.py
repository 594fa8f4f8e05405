"""One request, one answer: what its door read, how it is refused, and the idempotency key that makes repeating it harmless."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from chat.models import Message, Submission
from chat.text import flaw


class Refused(Exception):
    """A question that cannot be taken, in words for people. `code` is one of docs/protocol.md."""

    def __init__(self, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


class Busy(Refused):
    """An answer is being written in that conversation: it must be stopped, or waited for, first."""

    def __init__(self, answer: UUID) -> None:
        super().__init__("busy", "The last answer is still being written. Wait for it, or stop it first.")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request as its door read it: its idempotency key, if any, what that key belongs to, and when it arrived.

    In the background means that nobody waits for the answer, so that people are served first.
    """

    key: str
    path: str
    body: dict[str, Any]
    background: bool = False
    arrived: float = field(default_factory=monotonic)

    @property
    def fingerprint(self) -> str:
        """The same for the same request, and for no other."""
        return hashlib.sha256(json.dumps([self.path, self.body], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Asked:
    """The answer that a question has now. `created` is False when the same submission had opened it before."""

    answer: Message
    created: bool


def once(user: Any, submitted: Submitted, open_answer: Callable[[], Message]) -> Asked:
    """Open an answer at most once for one key. The key is looked up before every other check."""
    if len(submitted.key) > 200 or flaw(submitted.key):
        raise Refused("malformed", "The Idempotency-Key must be plain text of at most 200 characters.")
    for last_try in (False, True):
        try:
            with transaction.atomic():
                if known := recall(user, submitted):
                    return Asked(known, created=False)
                answer = open_answer()
                if submitted.key:
                    Submission.objects.create(
                        user=user, key=submitted.key, fingerprint=submitted.fingerprint, answer=answer
                    )
                return Asked(answer, created=True)
        except (IntegrityError, Refused):
            # Perhaps the same submission, at the same moment, from another request: then it can be recalled now.
            if last_try or not submitted.key:
                raise
    raise AssertionError("unreachable")


def recall(user: Any, submitted: Submitted) -> Message | None:
    """The answer that this submission opened before."""
    if not submitted.key:
        return None
    known = Submission.objects.filter(user=user, key=submitted.key).select_related("answer__conversation").first()
    if known is None:
        return None
    if known.fingerprint != submitted.fingerprint:
        raise Refused("key_reused", "This Idempotency-Key was used for another request. Make a new one.")
    if known.answer is None:
        raise Refused("deleted", "This was answered before, and the conversation has been deleted since.")
    return known.answer
