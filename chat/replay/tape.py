"""The events of one answer in the memory of a process, as both logs keep them for readers."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from chat.events import START, Position, Started
from chat.replay.base import Entry, Slice


@dataclass(frozen=True, slots=True)
class Mark:
    """A position without an event: a seal. `after` is the position before it, None if there was none."""

    position: Position
    after: Position | None = None
    forget: bool = False  # what goes before it is no more


Item = Entry | Mark


def is_started(item: Item) -> bool:
    return isinstance(item, Entry) and isinstance(item.event, Started)


def before(item: Item) -> Position | None:
    """The position that an item goes directly after. None for a `started`, which goes after anything."""
    if isinstance(item, Mark):
        return item.after
    return None if is_started(item) else Position(item.position.fence, item.position.seq - 1)


class Tape:
    """The newest `keep` items of one answer, and the readers that wait for more."""

    def __init__(self, answer: UUID, keep: int) -> None:
        self.answer = answer
        self.items: deque[Item] = deque(maxlen=keep)
        self.last = START
        self.dropped: Position | None = None  # directly before what is kept: a reader may go on from there
        self.readers = 0
        self.left_at = 0.0  # when the last reader left, on the loop's clock
        self.broken = False  # fed no more
        self._more = asyncio.Event()

    def add(self, items: Iterable[Item]) -> None:
        """Go on with newer items. Where some are missing before one, the tape begins anew with it."""
        for item in items:
            if isinstance(item, Mark) and item.forget:
                self.items.clear()
                self.dropped = None
            else:
                self._add(item)
            self.last = item.position
        self.wake()

    def _add(self, item: Item) -> None:
        follows = before(item)
        if follows not in (None, self.last):
            self.items.clear()
            self.dropped = follows
        elif len(self.items) == self.items.maxlen:
            self.dropped = self.items[0].position
        self.items.append(item)

    def wake(self) -> None:
        """Let all who wait look again."""
        self._more.set()
        self._more = asyncio.Event()

    def after(self, position: Position) -> Slice:
        """What a reader at this position gets."""
        newer: list[Item] = []
        known = self.dropped
        for item in reversed(self.items):
            if item.position <= position:
                known = item.position
                break
            newer.append(item)
        if position != known:
            begin = next((n for n, item in enumerate(newer) if is_started(item)), None)
            if begin is None:
                return Slice(joined=False)
            del newer[begin + 1 :]
        return Slice([item for item in reversed(newer) if isinstance(item, Entry)])

    async def follow(self, position: Position, wait: float) -> Slice:
        """The same; if that is nothing yet, wait for more, or for the end of the tape."""
        found = self.after(position)

        def is_over() -> bool:
            nonlocal found
            found = self.after(position)
            return bool(found.entries) or not found.joined

        if wait > 0 and found.joined and not found.entries:
            await self._until(is_over, wait)
        return found

    async def reach(self, position: Position, wait: float) -> None:
        """Wait until the tape is as far as this position."""
        if self.last < position:
            await self._until(lambda: self.last >= position, wait)

    async def _until(self, is_over: Callable[[], bool], wait: float) -> None:
        """Wait for more until this is so, or the tape is fed no more, or the time is over."""
        self.readers += 1
        try:
            async with asyncio.timeout(wait):
                while not self.broken:
                    await self._more.wait()
                    if is_over():
                        return
        except TimeoutError:
            pass
        finally:
            self.readers -= 1
