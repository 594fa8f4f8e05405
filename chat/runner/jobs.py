"""What a run needs to know, made from rows: the answer, the words that the model is sent, and who is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

from django.conf import settings

from chat import providers
from chat.events import Started
from chat.history import Turn, fit
from chat.models import Message
from chat.providers import Model, Prompt, Provider

# Room for the answer: a quarter of the context, and never more than this many tokens.
ANSWER_SHARE, ANSWER_ROOM = 4, 4096
GO_ON = (
    "Your last message was cut off. Continue it from exactly where it ends: do not repeat any of it, do not begin anew, "
    "and say nothing about the interruption."
)


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a run needs to know. `asked` is when the question arrived, on this process's monotonic clock."""

    answer: UUID
    conversation: UUID
    user: int
    fence: int
    attempt: int
    call: UUID
    request_id: str
    prompt: Prompt
    provider: Provider
    asked: float
    kept: str = ""  # the text that the answer begins with: it continues another one
    background: bool = False  # nobody waits for it, so others are served first

    @property
    def started(self) -> Started:
        """The first event of this attempt."""
        return Started(str(self.answer), self.attempt, self.prompt.model)

    @classmethod
    def of(
        cls, answer: Message, user: int, call: UUID, prompt: Prompt, provider: str, *,
        asked: float | None = None, background: bool = False,
    ) -> "Job":  # fmt: skip
        """The job of writing an open answer, whose row and ledger row are stored."""
        return cls(
            answer=answer.pk,
            conversation=answer.conversation_id,
            user=user,
            fence=answer.fence,
            attempt=answer.attempt,
            call=call,
            request_id=answer.request_id,
            prompt=prompt,
            provider=providers.provider(provider),
            asked=monotonic() if asked is None else asked,
            kept=answer.text[: answer.kept],
            background=background,
        )


def prompt_for(branch: Sequence[Message], model: Model, kept: str = "") -> tuple[Prompt, int]:
    """What the model is sent to answer the last message of a branch, or to go on after the text that is kept of an answer.

    Also says how many of the oldest messages are left out because they do not fit.
    """
    system = [Turn("system", settings.CHAT_SYSTEM_PROMPT)] if settings.CHAT_SYSTEM_PROMPT else []
    said = [Turn(message.role, message.text) for message in branch if message.text.strip()]
    if kept.strip():
        said += [Turn("assistant", kept), Turn("user", GO_ON)]
    room = model.context - min(ANSWER_ROOM, model.context // ANSWER_SHARE) - sum(turn.tokens for turn in system)
    turns, left_out = fit(said, room)
    return Prompt(model.name, [*system, *turns]), left_out
