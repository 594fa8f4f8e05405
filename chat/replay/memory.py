"""The log of a single process, in its memory: bounded, and gone with it. The rows keep the text."""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from time import monotonic
from uuid import UUID

from chat.events import Position
from chat.replay.base import Entry, Fate, Log, Slice
from chat.replay.tape import Mark, Tape, before

# An answer that has been silent for so long is not being written any more.
ABANDONED_SECONDS = 6 * 3600.0


class MemoryLog(Log):
    """Keeps the newest `keep` events of an answer until `forget` seconds after its final event.

    At one event per 40 ms, 4,096 events are the last 160 s, far more than the one second between two checkpoints
    of the row, which holds the rest.
    """

    shared = False

    def __init__(self, keep: int = 4096, forget: float = 300.0) -> None:
        self._keep = keep
        self._forget = forget
        self._tapes: dict[UUID, Tape] = {}
        self._written: dict[UUID, float] = {}  # when each was written last; the oldest first
        self._ended: deque[tuple[float, UUID]] = deque()  # when, which; oldest first

    async def append(self, entries: Sequence[Entry]) -> Mapping[UUID, Fate]:
        self._sweep()
        by_answer: dict[UUID, list[Entry]] = {}
        for entry in entries:
            by_answer.setdefault(entry.answer, []).append(entry)
        fates = {}
        for answer, given in by_answer.items():
            tape = self._tapes.get(answer) or Tape(answer, self._keep)
            fresh = [entry for entry in given if entry.position > tape.last]
            if fate := fate_of(tape, given, fresh):
                fates[answer] = fate
            elif fresh:
                self._write(tape, fresh)
        return fates

    def _write(self, tape: Tape, items: Sequence[Entry | Mark]) -> None:
        tape.add(items)
        self._tapes[tape.answer] = tape
        self._written.pop(tape.answer, None)
        self._written[tape.answer] = monotonic()
        if isinstance(items[-1], Entry) and items[-1].event.final:
            self._ended.append((monotonic(), tape.answer))

    async def seal(self, answer: UUID, at: Position, *, forget: bool = False) -> None:
        tape = self._tapes.get(answer) or Tape(answer, self._keep)
        if tape.last < at or (forget and tape.last == at):
            self._write(tape, [Mark(at, tape.last if answer in self._tapes else None, forget)])

    async def read(self, answer: UUID, after: Position) -> Slice:
        return await self.follow(answer, after, 0)

    async def follow(self, answer: UUID, after: Position, wait: float) -> Slice:
        tape = self._tapes.get(answer)
        return await tape.follow(after, wait) if tape else Slice(joined=False)

    async def last(self, answer: UUID) -> Position | None:
        tape = self._tapes.get(answer)
        return tape.last if tape else None

    def _sweep(self) -> None:
        """Forget the answers that ended long enough ago, and those that were left without an end."""
        limit = monotonic() - self._forget
        while self._ended and self._ended[0][0] <= limit:
            self._drop(self._ended.popleft()[1])
        limit = monotonic() - ABANDONED_SECONDS
        while self._written and (oldest := next(iter(self._written.items())))[1] < limit:
            self._drop(oldest[0])

    def _drop(self, answer: UUID) -> None:
        self._tapes.pop(answer, None)
        self._written.pop(answer, None)


def fate_of(tape: Tape, given: Sequence[Entry], fresh: Sequence[Entry]) -> Fate | None:
    """Why these entries, of which the fresh ones are beyond the tape, cannot be added; None if they can."""
    held = {item.position: item for item in tape.items} if len(fresh) < len(given) else {}
    for entry in given[: len(given) - len(fresh)]:
        there = held.get(entry.position)
        if not isinstance(there, Entry) or (there.event, there.at) != (entry.event, entry.at):
            return Fate.REFUSED
    if fresh and before(fresh[0]) not in (None, tape.last):
        return Fate.LOST
    for earlier, later in pairwise(fresh):
        if later.position <= earlier.position or before(later) not in (None, earlier.position):
            return Fate.LOST
    return None
