"""Turns at a provider: so many runs at once, and a fair queue for the others."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from chat.runner.jobs import Job


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in the queue. `called` is set when its turn has come."""

    job: Job
    called: asyncio.Event = field(default_factory=asyncio.Event)


class Line:
    """Those who wait for the same reason: one after the other of each user, the users in turn."""

    def __init__(self) -> None:
        self._users: dict[int, deque[Ticket]] = {}  # the user who is next comes first

    def join(self, ticket: Ticket) -> None:
        self._users.setdefault(ticket.job.user, deque()).append(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Those who are not in the line are ignored."""
        theirs = self._users.get(ticket.job.user, deque())
        if ticket in theirs:
            theirs.remove(ticket)
        if not theirs:
            self._users.pop(ticket.job.user, None)

    def call(self) -> Ticket | None:
        """The next one, who leaves the line; that user's others go behind everybody else's."""
        for user, theirs in self._users.items():
            ticket = theirs.popleft()
            del self._users[user]
            if theirs:
                self._users[user] = theirs
            return ticket
        return None

    def order(self) -> list[UUID]:
        """The answers that wait, in the order in which they will be called."""
        queues = [list(theirs) for theirs in self._users.values()]
        longest = max(map(len, queues), default=0)
        return [theirs[place].job.answer for place in range(longest) for theirs in queues if place < len(theirs)]


class Slots:
    """At most `size` runs at once. People who wait are called before work in the background."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._people, self._background = Line(), Line()

    @asynccontextmanager
    async def turn(self, job: Job) -> AsyncIterator[None]:
        """Wait for a turn, and give it back at the end. Cancelling leaves the queue."""
        ticket = Ticket(job)
        line = self._background if job.background else self._people
        line.join(ticket)
        self._call()
        try:
            await ticket.called.wait()
            yield
        finally:
            line.leave(ticket)
            if ticket.called.is_set():
                self._free += 1
            self._call()

    def order(self) -> list[UUID]:
        """The answers that wait for their turn, the next one first."""
        return [*self._people.order(), *self._background.order()]

    def _call(self) -> None:
        while self._free > 0 and (ticket := self._people.call() or self._background.call()):
            self._free -= 1
            ticket.called.set()
