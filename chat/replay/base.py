"""The contract of a log: the numbered events of each open answer, kept where every reader can follow them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import time
from uuid import UUID

from chat import sse
from chat.events import Event, Position


@dataclass(slots=True)
class Entry:
    """One event at its position. Encoded once, whoever reads it. `at` is when it was written, epoch seconds."""

    answer: UUID
    position: Position
    event: Event
    at: float = field(default_factory=time)
    _frame: bytes | None = None

    @property
    def frame(self) -> bytes:
        """The event as it goes over SSE."""
        if self._frame is None:
            self._frame = sse.frame(self.event, self.position)
        return self._frame


@dataclass(frozen=True, slots=True)
class Slice:
    """What a log holds after a position: `entries` oldest first, and whether nothing is missing before them.

    `joined` is False when the log cannot continue exactly from the position: it never heard of it, it dropped the
    events that followed it, or it no longer knows the answer at all. `entries` is then empty and `first` is the
    oldest position it still has, if any.
    """

    entries: Sequence[Entry] = ()
    joined: bool = True
    first: Position | None = None


class Log(ABC):
    """Stores events; knows nothing of rows. Followers pull, so a slow reader costs nothing but its position."""

    @abstractmethod
    async def append(self, entries: Sequence[Entry]) -> set[UUID]:
        """Add entries of any number of answers, each answer's in order.

        When this returns they are acknowledged and visible to every reader. Returns the answers whose entries were
        refused because a writer with a higher fence, or the same position, was there before; nothing of these
        answers was added. Raises LogUnavailable, and then may be called again with the same entries.
        """

    @abstractmethod
    async def follow(self, answer: UUID, after: Position, wait: float) -> Slice:
        """What comes after a position; if that is nothing yet, wait up to `wait` seconds for more.

        An empty joined slice means that the time is over. Safe to cancel at any moment.
        """

    @abstractmethod
    async def last(self, answer: UUID) -> Position | None:
        """The newest position of an answer, or None if the log does not know it."""

    async def close(self) -> None:  # noqa: B027 - a log without connections has nothing to close
        """Give back what the log holds. Nothing may be called afterwards."""


class LogUnavailable(Exception):
    """The log cannot be reached now. Nothing was lost; try again."""
