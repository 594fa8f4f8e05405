"""What of a conversation is sent to a model: the system prompt and the newest turns that fit its context.

Oldest turns are dropped in blocks: when the running total outgrows the budget, it is cut to half of it. Between two cuts
the beginning of what is sent stays the same from question to question, so providers can reuse their prefix cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chat.text import estimate_tokens

# What the chat format itself adds around each message, in tokens.
MESSAGE_OVERHEAD = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """One message as a model reads it; role is system, user or assistant."""

    role: str
    text: str

    @property
    def tokens(self) -> int:
        """An estimate of what this turn costs of the context."""
        return estimate_tokens(self.text) + MESSAGE_OVERHEAD


def fit(turns: Sequence[Turn], budget: int) -> tuple[list[Turn], int]:
    """The newest of `turns` that fit `budget` tokens, and how many older ones were left out.

    The last turn is always kept, and what is kept begins with a question where the turns have one: an answer
    without its question would confuse a model.
    """
    start, total = 0, 0
    for index, turn in enumerate(turns):
        total += turn.tokens
        over = total > budget
        while start < index and ((over and total > budget // 2) or (start and turns[start].role != "user")):
            total -= turns[start].tokens
            start += 1
    return list(turns[start:]), start
