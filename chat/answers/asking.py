"""Questions become rows: the question, its open answer, the ledger's first row and the idempotency key, in one transaction.

The run begins when that transaction has committed, whatever has become of the request by then.
"""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from uuid_utils.compat import uuid7

from chat import providers, runner
from chat.history import Turn, fit
from chat.models import Conversation, Message, ModelCall, Role, Status, Submission, lease_end
from chat.providers import Model, Prompt
from chat.runner import Job
from chat.text import flaw

TITLE_CHARS = 60
# Room for the answer: a quarter of the context, and never more than this many tokens.
ANSWER_SHARE, ANSWER_ROOM = 4, 4096
NO_NAME = ("", None)  # of a model: the sender leaves the choice to us


class Refused(Exception):
    """A question that cannot be taken, in words for people. `code` is one of docs/protocol.md."""

    def __init__(self, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request as its door read it: its idempotency key, if any, what that key belongs to, and when it arrived."""

    key: str
    path: str
    body: dict[str, Any]
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


def ask(user: Any, text: str, model: str, submitted: Submitted, conversation: UUID | None = None) -> Asked:
    """Open an answer to a question, in a new conversation or in one of the user's.

    Raises Refused, and then nothing was stored; Conversation.DoesNotExist for one that is not the user's.
    """

    def open_answer() -> Message:
        text_problem(text)
        chosen = choose(model)
        refuse_if_unable(user)
        if conversation is None:
            thread = Conversation.objects.create(owner=user, title=title_of(text))
            branch: list[Message] = []
        else:
            thread = locked(user, conversation)
            branch = thread.branch()
        question = Message.objects.create(
            conversation=thread, parent=branch[-1] if branch else None, role=Role.USER, text=text
        )
        return begin(user, thread, [*branch, question], chosen, submitted.arrived)

    return once(user, submitted, open_answer)


def regenerate(user: Any, answer: UUID, model: str, submitted: Submitted) -> Asked:
    """Open a sibling of an ended answer: the same question asked again, of the same model or of another one.

    Raises Refused; Message.DoesNotExist for an answer that is not the user's.
    """

    def open_answer() -> Message:
        old = Message.objects.of(user).answers().select_related("conversation").get(pk=answer)
        chosen = choose(old.model if model in NO_NAME else model)
        refuse_if_unable(user)
        thread = locked(user, old.conversation_id)
        return begin(user, thread, thread.branch(old.parent_id), chosen, submitted.arrived)

    return once(user, submitted, open_answer)


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
        except IntegrityError:  # the same key, at the same moment, from another request
            if last_try:
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


def text_problem(text: Any) -> None:
    """Refuse what is no question."""
    if not isinstance(text, str) or not text.strip():
        raise Refused("empty", "Write a message first.")
    if len(text) > settings.CHAT_MAX_MESSAGE_CHARS:
        limit = f"{settings.CHAT_MAX_MESSAGE_CHARS:,}"
        raise Refused("too_large", f"A message can have {limit} characters at most; this one has {len(text):,}.")
    if problem := flaw(text):
        raise Refused("bad_text", problem)


def choose(name: Any) -> Model:
    """The model of this name, or the first one for no name."""
    models = providers.catalogue()
    if not models:
        raise Refused(
            "no_models",
            "No model can be reached now. The administrator can check OPENAI_BASE_URL; reload the list in a moment.",
            retry_after=10,
        )
    if name in NO_NAME:
        return next(iter(models.values()))
    if not isinstance(name, str) or name not in models:
        raise Refused("unknown_model", "This server does not have that model. Choose another one.")
    return models[name]


def refuse_if_unable(user: Any) -> None:
    """Refuse while this process is leaving, and when the user has enough open answers."""
    if not runner.is_running():
        raise Refused("draining", "The server is restarting. Please try again in a moment.", retry_after=3)
    limit = settings.CHAT_MAX_OPEN_ANSWERS
    if Message.objects.of(user).open().count() >= limit:
        raise Refused("too_many", f"You have {limit} answers being written. Wait for one or stop one.", retry_after=5)


def locked(user: Any, conversation: UUID) -> Conversation:
    """The user's conversation, locked until the transaction ends. Refused while an answer is being written in it."""
    thread: Conversation = Conversation.objects.of(user).select_for_update().get(pk=conversation)
    if thread.messages.filter(status=Status.OPEN).exists():
        raise Refused("busy", "The last answer is still being written. Wait for it, or stop it first.")
    return thread


def begin(user: Any, thread: Conversation, branch: list[Message], model: Model, arrived: float) -> Message:
    """The open answer to the last message of `branch`, its ledger row, and its run as soon as both are committed."""
    turns, left_out = prompt_turns(branch, model)
    answer = Message.objects.create(
        conversation=thread,
        parent=branch[-1],
        role=Role.ASSISTANT,
        status=Status.OPEN,
        model=model.name,
        is_demo=model.demo,
        lease_owner=settings.CHAT_WORKER,
        lease_until=lease_end(),
        left_out=left_out,
        request_id=secrets.token_hex(8),
    )
    call = ModelCall.objects.create(pk=uuid7(), answer=answer, user=user, provider=model.provider, model=model.name)
    thread.save(update_fields=["updated_at"])
    job = Job(
        answer=answer.pk,
        conversation=thread.pk,
        user=user.pk,
        fence=answer.fence,
        attempt=answer.attempt,
        call=call.pk,
        request_id=answer.request_id,
        prompt=Prompt(model.name, turns),
        provider=providers.provider(model.provider),
        asked=arrived,
    )
    transaction.on_commit(lambda: runner.begin(job))
    return answer


def prompt_turns(branch: list[Message], model: Model) -> tuple[list[Turn], int]:
    """What the model is sent, and how many of the oldest messages are left out because they do not fit."""
    system = [Turn("system", settings.CHAT_SYSTEM_PROMPT)] if settings.CHAT_SYSTEM_PROMPT else []
    said = [Turn(message.role, message.text) for message in branch if message.text.strip()]
    room = model.context - min(ANSWER_ROOM, model.context // ANSWER_SHARE) - sum(turn.tokens for turn in system)
    kept, left_out = fit(said, room)
    return [*system, *kept], left_out


def title_of(text: str) -> str:
    """A conversation's first title: the beginning of its first question, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= TITLE_CHARS:
        return line
    return line[:TITLE_CHARS].rsplit(" ", 1)[0][: TITLE_CHARS - 1] + "…"
