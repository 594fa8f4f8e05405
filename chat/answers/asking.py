"""Questions become rows: the question, its open answer, the ledger's first row and the idempotency key, in one transaction.

The run begins when that transaction has committed, whatever has become of the request by then.
"""

import secrets
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from uuid_utils.compat import uuid7

from chat import providers, runner
from chat.answers.submitting import Asked, Busy, Refused, Submitted, once
from chat.models import Conversation, Message, ModelCall, Role, Status, lease_end
from chat.providers import Model
from chat.runner import Job
from chat.text import flaw

TITLE_CHARS = 60
NO_NAME = ("", None)  # of a model: the sender leaves the choice to us


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
        return begin(user, thread, [*branch, question], chosen, submitted)

    return once(user, submitted, open_answer)


def edit(user: Any, question: UUID, text: str, model: str, submitted: Submitted) -> Asked:
    """Ask a question in other words: a sibling of the question, with an answer of its own.

    Raises Refused, and Busy among that; Message.DoesNotExist for a question that is not the user's.
    """

    def open_answer() -> Message:
        old = Message.objects.of(user).get(pk=question, role=Role.USER)
        text_problem(text)
        chosen = choose(model)
        refuse_if_unable(user, old.conversation_id)
        thread = locked(user, old.conversation_id)
        asked = Message.objects.create(conversation=thread, parent_id=old.parent_id, role=Role.USER, text=text)
        return begin(user, thread, thread.branch(asked.pk), chosen, submitted)

    return once(user, submitted, open_answer)


def regenerate(user: Any, answer: UUID, model: str, submitted: Submitted) -> Asked:
    """Open a sibling of an answer: the same question asked again, of the same model or of another one.

    Raises Refused, and Busy among that; Message.DoesNotExist for an answer that is not the user's.
    """
    return sibling(user, answer, model, submitted, lambda old: "")


def go_on(user: Any, answer: UUID, model: str, submitted: Submitted) -> Asked:
    """Open a sibling of an answer that begins with its text and goes on from there.

    Raises Refused, and Busy among that; Message.DoesNotExist for an answer that is not the user's.
    """
    return sibling(user, answer, model, submitted, text_to_continue)


def sibling(user: Any, answer: UUID, model: str, submitted: Submitted, keep: Callable[[Message], str]) -> Asked:
    """Open one more answer to the question of this one, beginning with what `keep` takes over from it."""

    def open_answer() -> Message:
        old = Message.objects.of(user).answers().get(pk=answer)
        chosen = choose(old.model if model in NO_NAME else model)
        refuse_if_unable(user, old.conversation_id)
        kept = keep(old)
        thread = locked(user, old.conversation_id)
        return begin(user, thread, thread.branch(old.parent_id), chosen, submitted, kept=kept)

    return once(user, submitted, open_answer)


def text_to_continue(old: Message) -> str:
    """Raises Busy for an answer that is open, and Refused for one that cannot be continued."""
    if old.is_open:
        raise Busy(old.pk)
    if not old.can_go_on:
        raise Refused("finished", "There is nothing to continue: this answer has no text, or is at its end.")
    text: str = old.text
    return text


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


def refuse_if_unable(user: Any, conversation: UUID | None = None) -> None:
    """Refuse while this process is leaving, and when the user has enough open answers.

    Those in the conversation itself do not count: they are stopped first.
    """
    if not runner.is_running():
        raise Refused("draining", "The server is restarting. Please try again in a moment.", retry_after=3)
    limit = settings.CHAT_MAX_OPEN_ANSWERS
    if Message.objects.of(user).open().exclude(conversation=conversation).count() >= limit:
        raise Refused("too_many", f"You have {limit} answers being written. Wait for one or stop one.", retry_after=5)


def locked(user: Any, conversation: UUID) -> Conversation:
    """The user's conversation, locked until the transaction ends. Refused while an answer is being written in it."""
    thread: Conversation = Conversation.objects.of(user).select_for_update().get(pk=conversation)
    if open_answer := thread.messages.filter(status=Status.OPEN).first():
        raise Busy(open_answer.pk)
    return thread


def begin(
    user: Any, thread: Conversation, branch: list[Message], model: Model, submitted: Submitted, *, kept: str = ""
) -> Message:
    """The open answer to the last message of `branch`, its ledger row, and its run as soon as both are committed."""
    prompt, left_out = runner.prompt_for(branch, model, kept)
    answer = Message.objects.create(
        conversation=thread,
        parent=branch[-1],
        role=Role.ASSISTANT,
        status=Status.OPEN,
        text=kept,
        kept=len(kept),
        model=model.name,
        is_demo=model.demo,
        lease_owner=settings.CHAT_WORKER,
        lease_until=lease_end(),
        left_out=left_out,
        request_id=secrets.token_hex(8),
    )
    call = ModelCall.objects.create(pk=uuid7(), answer=answer, user=user, provider=model.provider, model=model.name)
    thread.save(update_fields=["updated_at"])
    job = Job.of(
        answer, user.pk, call.pk, prompt, model.provider, asked=submitted.arrived, background=submitted.background
    )
    transaction.on_commit(lambda: runner.begin(job))
    return answer


def title_of(text: str) -> str:
    """A conversation's first title: the beginning of its first question, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= TITLE_CHARS:
        return line
    return line[:TITLE_CHARS].rsplit(" ", 1)[0][: TITLE_CHARS - 1] + "…"
