"""The vocabulary: every event that an answer's log or its stream can carry, and the position of one in a log.

docs/protocol.md is the same list for readers of the wire. Events are frozen values; `dump` and `load` are exact
inverses, and `load` refuses names and fields it does not know, so that a typo never travels.
"""

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self


class Position(NamedTuple):
    """Where an event stands in its answer's log: `<fence>-<seq>` on the wire, growing in both parts.

    The fence counts the writers an answer has had, the sequence counts the events of one writer from 1.
    """

    fence: int
    seq: int

    def __str__(self) -> str:
        return f"{self.fence}-{self.seq}"

    def next(self) -> "Position":
        """The position after this one, of the same writer."""
        return Position(self.fence, self.seq + 1)

    @classmethod
    def of(cls, text: str) -> "Position":
        """The inverse of `str`, for what a row has stored; an empty text is the start. Raises ValueError for junk."""
        if not text:
            return START
        fence, seq = text.split("-")
        return cls(int(fence), int(seq))

    @classmethod
    def parse(cls, text: str | None) -> "Position":
        """Read a position that a client sent. Whatever is not one, or ends in `-0`, means from the start."""
        if not text or len(text) > 64 or not _POSITION.fullmatch(text):
            return START
        found = cls.of(text)
        return found if found.seq else START


_POSITION = re.compile(r"[0-9]+-[0-9]+")
START = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Event:
    """Something a reader is told. Logged events have a position; the others concern one reader's connection."""

    name: ClassVar[str]
    logged: ClassVar[bool] = True
    final: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Started(Event):
    """First event of each attempt: the reader empties the bubble."""

    name: ClassVar[str] = "started"
    answer: str
    attempt: int
    model: str


@dataclass(frozen=True, slots=True)
class Token(Event):
    """Visible text to append; `n` counts the provider's deltas in it."""

    name: ClassVar[str] = "token"
    text: str
    n: int = 1

    def __add__(self, other: Self) -> "Token":
        return Token(self.text + other.text, self.n + other.n)


@dataclass(frozen=True, slots=True)
class Reasoning(Event):
    """Thinking text to append, shown collapsed."""

    name: ClassVar[str] = "reasoning"
    text: str
    n: int = 1

    def __add__(self, other: Self) -> "Reasoning":
        return Reasoning(self.text + other.text, self.n + other.n)


@dataclass(frozen=True, slots=True)
class Usage(Event):
    """Tokens as the provider bills them, or an estimate that says so."""

    name: ClassVar[str] = "usage"
    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Done(Event):
    """Final: `reason` is stop, length, content_filter or stopped; `by` says who stopped it. Times in ms."""

    name: ClassVar[str] = "done"
    final: ClassVar[bool] = True
    reason: str
    by: str | None = None
    ttft_ms: int | None = None
    ms: int | None = None


@dataclass(frozen=True, slots=True)
class Error(Event):
    """Final: `message` is written for people; `retryable` says whether asking again may help."""

    name: ClassVar[str] = "error"
    final: ClassVar[bool] = True
    code: str
    message: str
    retryable: bool
    request_id: str


@dataclass(frozen=True, slots=True)
class Status(Event):
    """What is happening while no token comes: queued, waiting, silent or recovering, for how many seconds."""

    name: ClassVar[str] = "status"
    logged: ClassVar[bool] = False
    state: str
    seconds: int
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Ping(Event):
    """The connection is alive."""

    name: ClassVar[str] = "ping"
    logged: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Reconnect(Event):
    """This process is shutting down: come back with your last id after a short, jittered wait."""

    name: ClassVar[str] = "reconnect"
    logged: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Close(Event):
    """Nothing more will come on this stream."""

    name: ClassVar[str] = "close"
    logged: ClassVar[bool] = False


KINDS: dict[str, type[Event]] = {
    kind.name: kind for kind in (Started, Token, Reasoning, Usage, Done, Error, Status, Ping, Reconnect, Close)
}


def dump(event: Event) -> dict[str, Any]:
    """The event's data as JSON-ready values, without its name."""
    return {field.name: getattr(event, field.name) for field in fields(event)}


def load(name: str, data: dict[str, Any]) -> Event:
    """The inverse of `dump`. Raises ValueError for a name or a field that is not in the vocabulary."""
    try:
        return KINDS[name](**data)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an event: {name} {sorted(data)}") from error
