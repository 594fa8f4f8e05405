"""The contract of a log: the numbered events of each open answer, kept where every reader can follow them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from time import time
from typing import ClassVar
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
    """What a log holds for a reader at a position: `entries`, oldest first, and whether they join on to it.

    A reader goes on exactly after a position that the log knows. From any other one it goes on at the newest `started`
    above it, which empties the bubble. `joined` is False, and `entries` empty, where there is neither.
    """

    entries: Sequence[Entry] = ()
    joined: bool = True


class Fate(Enum):
    """Why entries were not added."""

    REFUSED = "refused"  # the log is past them: another writer was there
    LOST = "lost"  # the log has not got what goes before them: it was emptied, or lost its newest events


class Log(ABC):
    """Stores events; knows nothing of rows. Followers pull, so a slow reader costs nothing but its position.

    Within one answer positions only grow and have no gaps: an entry goes directly after the one before it, with the same
    fence and the next number. A `started` goes after whatever there is, and so begins a log or begins it anew.
    """

    shared: ClassVar[bool]  # whether other processes read and write the same log

    @abstractmethod
    async def append(self, entries: Sequence[Entry]) -> Mapping[UUID, Fate]:
        """Add entries of any number of answers, each answer's in order.

        When this returns they are acknowledged and visible to every reader, but for the answers it names: nothing of these
        was added. Raises LogUnavailable if it is not known what became of the entries; the very same ones may then be
        given again, and count as added if they had been.
        """

    @abstractmethod
    async def seal(self, answer: UUID, at: Position, *, forget: bool = False) -> None:
        """Take nothing at or below this position any more; readers do not see the seal, and the next entry follows it.

        With `forget`, drop what the log holds as well: no reader joins until a new `started`. A log that is past the position
        stays as it is. Raises LogUnavailable, and may then be called again.
        """

    @abstractmethod
    async def read(self, answer: UUID, after: Position) -> Slice:
        """What the log holds for a reader at this position, with all that was acknowledged before. Raises LogUnavailable."""

    @abstractmethod
    async def follow(self, answer: UUID, after: Position, wait: float) -> Slice:
        """The same, and if that is nothing yet, wait up to `wait` seconds for more. May be a moment behind `read`.

        An empty joined slice means that the time is over. Safe to cancel at any moment. Raises LogUnavailable, also in
        the middle of a wait.
        """

    @abstractmethod
    async def last(self, answer: UUID) -> Position | None:
        """The newest position of an answer, seals included, or None if the log does not know it. Raises LogUnavailable."""

    async def conclude(self, final: Entry) -> None:
        """Make known how an ended answer's row ended. A log that has missed something before that gives way to the row.

        Harmless if the log has ended already. Raises LogUnavailable, and may then be called again.
        """
        if (await self.append([final])).get(final.answer) is Fate.LOST:
            await self.seal(final.answer, final.position, forget=True)

    async def close(self) -> None:  # noqa: B027 - a log without connections has nothing to close
        """Give back what the log holds. Nothing may be called afterwards."""


class LogUnavailable(Exception):
    """The log cannot be reached now. Nothing was lost; try again."""
