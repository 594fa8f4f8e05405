"""The log of a single process, in its memory: bounded, and gone with it. The rows keep the text."""

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice
from time import monotonic, time
from uuid import UUID

from chat.events import START, Position, Started
from chat.replay.base import Entry, Log, Slice

# An answer that has been silent for so long is not being written any more.
ABANDONED_SECONDS = 6 * 3600.0


class Tape:
    """The events of one answer, newest last, and the readers that wait for more."""

    def __init__(self, keep: int) -> None:
        self.entries: deque[Entry] = deque(maxlen=keep)
        self.dropped = START  # the newest position that is no longer kept
        self.more = asyncio.Event()

    @property
    def last(self) -> Position:
        return self.entries[-1].position if self.entries else START

    @property
    def last_at(self) -> float:
        return self.entries[-1].at

    def add(self, entry: Entry) -> None:
        if len(self.entries) == self.entries.maxlen:
            self.dropped = self.entries[0].position
        self.entries.append(entry)

    def after(self, position: Position) -> Slice:
        """Exactly what follows the position, or an unjoined slice."""
        count, known = 0, self.dropped
        for entry in reversed(self.entries):
            if entry.position <= position:
                known = entry.position
                break
            count += 1
        if position != known:
            return Slice(joined=False, first=self.entries[0].position if self.entries else None)
        return Slice(entries=list(islice(self.entries, len(self.entries) - count, None)))


class MemoryLog(Log):
    """Keeps the newest `keep` events of an answer until `forget` seconds after its final event.

    At one event per 40 ms, 4,096 events are the last 160 s, far more than the one second between two checkpoints
    of the row, which holds the rest.
    """

    def __init__(self, keep: int = 4096, forget: float = 300.0) -> None:
        self._keep = keep
        self._forget = forget
        self._tapes: dict[UUID, Tape] = {}
        self._ended: deque[tuple[float, UUID]] = deque()  # when, which; oldest first

    async def append(self, entries: Sequence[Entry]) -> set[UUID]:
        self._sweep()
        fresh: dict[UUID, list[Entry]] = {}
        for entry in entries:
            fresh.setdefault(entry.answer, []).append(entry)
        refused = set()
        for answer, new in fresh.items():
            tape = self._tapes.get(answer)
            if tape and new[0].position <= tape.last:
                refused.add(answer)
                continue
            if tape is None:
                tape = self._tapes[answer] = Tape(self._keep)
                if not isinstance(new[0].event, Started):
                    tape.dropped = Position(new[0].position.fence, new[0].position.seq - 1)
            for entry in new:
                tape.add(entry)
            if new[-1].event.final:
                self._ended.append((monotonic(), answer))
            tape.more.set()
            tape.more = asyncio.Event()
        return refused

    async def follow(self, answer: UUID, after: Position, wait: float) -> Slice:
        tape = self._tapes.get(answer)
        if tape is None:
            return Slice(joined=False)
        found = tape.after(after)
        if found.entries or not found.joined or wait <= 0:
            return found
        try:
            async with asyncio.timeout(wait):
                await tape.more.wait()
        except TimeoutError:
            return found
        return tape.after(after)

    async def last(self, answer: UUID) -> Position | None:
        tape = self._tapes.get(answer)
        return tape.last if tape else None

    def _sweep(self) -> None:
        """Forget the answers that ended long enough ago."""
        limit = monotonic() - self._forget
        while self._ended and self._ended[0][0] <= limit:
            self._tapes.pop(self._ended.popleft()[1], None)
        # Answers that were deleted while they were written never end; they are at the front when their time has come.
        while self._tapes and (oldest := next(iter(self._tapes.values()))).last_at < time() - ABANDONED_SECONDS:
            self._tapes.pop(oldest.entries[-1].answer)
