"""The log that several processes share: one Redis stream for each answer, and scripts that keep its order."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from django.conf import settings
from redis.exceptions import ResponseError

from chat.events import Position
from chat.redis_client import Command, Link, RedisDown
from chat.replay.base import Entry, Fate, Log, LogUnavailable, Slice
from chat.replay.feed import Feed
from chat.replay.stored import APPEND, LOST, REFUSED, SEAL, items_of, position_of, words_of
from chat.replay.tape import Tape

# An answer that has been silent for so long is not being written any more.
ABANDONED_SECONDS = 24 * 3600.0
# Tapes outlive their last reader by so much: one who reconnects finds all events decoded.
LINGER_SECONDS = 10.0

FATES = {REFUSED: Fate.REFUSED, LOST: Fate.LOST}


class RedisLog(Log):
    """Keeps the newest `keep` events of an answer until `forget` seconds after its final event.

    As many answers as there are in an append cost one round trip. Followers cost one connection for the whole process.
    """

    shared = True

    def __init__(
        self, keep: int = 4096, forget: float = 24 * 3600.0, url: str | None = None, prefix: str | None = None
    ) -> None:
        self._keep = keep
        self._forget = forget
        self._link = Link(url or settings.REDIS_URL)
        self._feed = Feed(self._link, prefix or settings.REDIS_PREFIX, keep, min(LINGER_SECONDS, forget))

    async def append(self, entries: Sequence[Entry]) -> Mapping[UUID, Fate]:
        by_answer: dict[UUID, list[Entry]] = {}
        for entry in entries:
            by_answer.setdefault(entry.answer, []).append(entry)
        if not by_answer:
            return {}
        try:
            await self._link.check()
            calls = [([self._feed.key(answer)], self._words(given)) for answer, given in by_answer.items()]
            outcomes = await self._link.evaluate(APPEND, calls)
        except RedisDown as error:
            raise LogUnavailable(str(error)) from None
        return {answer: FATES[o] for answer, o in zip(by_answer, outcomes, strict=True) if o in FATES}

    def _words(self, entries: Sequence[Entry]) -> Command:
        seconds = self._forget if entries[-1].event.final else ABANDONED_SECONDS
        return [self._keep, round(seconds * 1000), *(word for entry in entries for word in words_of(entry))]

    async def seal(self, answer: UUID, at: Position, *, forget: bool = False) -> None:
        words = [at.fence, at.seq, int(forget), round(ABANDONED_SECONDS * 1000)]
        try:
            await self._link.evaluate(SEAL, [([self._feed.key(answer)], words)])
        except RedisDown as error:
            raise LogUnavailable(str(error)) from None

    async def read(self, answer: UUID, after: Position) -> Slice:
        tape = Tape(answer, self._keep)
        tape.add(items_of(answer, await self._ask(("XRANGE", self._feed.key(answer), "-", "+"))))
        return tape.after(after)

    async def follow(self, answer: UUID, after: Position, wait: float) -> Slice:
        return await self._feed.follow(answer, after, wait)

    async def last(self, answer: UUID) -> Position | None:
        found = await self._ask(("XREVRANGE", self._feed.key(answer), "+", "-", "COUNT", 1))
        return position_of(found[0][0]) if found else None

    async def _ask(self, command: Command) -> Sequence:
        try:
            [found] = await self._link.run(command)
        except RedisDown as error:
            raise LogUnavailable(str(error)) from None
        if isinstance(found, ResponseError):
            raise LogUnavailable(f"Redis refused: {found}")
        return list(found)

    async def close(self) -> None:
        await self._feed.close()
        await self._link.close()
