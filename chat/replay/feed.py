"""What the readers of this process follow: one tape for each answer, all fed by one blocking read of Redis."""

import asyncio
import contextvars
import logging
import random
import secrets
from collections.abc import Coroutine, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from redis.asyncio import Connection
from redis.exceptions import ResponseError

from chat.events import Position
from chat.redis_client import COMMAND_SECONDS, Command, Link, RedisDown, exchange
from chat.replay.base import LogUnavailable, Slice
from chat.replay.stored import items_of, position_of
from chat.replay.tape import Tape

logger = logging.getLogger(__name__)

# How long one read waits. Also the longest that a lost ring of the bell delays a new tape.
BLOCK_SECONDS = 1.0
# A read that says nothing for so long beyond its time has met a Redis that hangs.
PATIENCE_SECONDS = 2.0
RETRY_SECONDS = 0.5
# So many answers are loaded in one round trip; each may have thousands of events.
LOAD = 20


class Feed:
    """Tapes live as long as they have readers, and a while longer; all end when the connection does.

    They end with it because a Redis that comes back may have lost its newest events, so that what a tape holds, the log
    may not. A bell, a stream of this process alone, calls the read back when it has to begin with another tape.
    """

    def __init__(self, link: Link, prefix: str, keep: int, linger: float) -> None:
        self._link = link
        self._prefix = prefix
        self._keep = keep
        self._linger = linger
        self._tapes: dict[UUID, Tape] = {}
        self._joining: dict[UUID, asyncio.Future[Tape | None]] = {}  # wanted, but not loaded yet
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reading: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[bool] | None = None  # whether Redis answered, once that is known
        self._bell = f"{prefix}:bell:{secrets.token_hex(8)}"
        self._heard = "0-0"  # the newest ring that was heard
        self._rung = False  # since the present read began

    def key(self, answer: UUID) -> str:
        """The stream of an answer."""
        return f"{self._prefix}:log:{answer}"

    async def follow(self, answer: UUID, after: Position, wait: float) -> Slice:
        """As Log.follow."""
        tape = self._tapes.get(answer) or await self._join(answer)
        try:
            found = await tape.follow(after, wait)
            if not found.joined and after > tape.last:
                await self._catch_up(tape)
                found = tape.after(after)
        finally:
            tape.left_at = asyncio.get_running_loop().time()
        if tape.broken:
            raise LogUnavailable("The connection to Redis broke.")
        return found

    async def _join(self, answer: UUID) -> Tape:
        """The tape of an answer, once it is loaded; whoever comes meanwhile waits for the same load."""
        if self._reading is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._reading = self._spawn(self._read_forever())
        joining = self._joining.get(answer)
        if joining is None:
            joining = self._joining[answer] = asyncio.get_running_loop().create_future()
            if len(self._joining) == 1:
                self._spawn(self._load())
        if tape := await asyncio.shield(joining):
            return tape
        raise LogUnavailable("Redis cannot be reached.")

    async def _load(self) -> None:
        """Load the tapes that are wanted, a few in each round trip, until none is."""
        while self._joining:
            some = dict(islice(self._joining.items(), LOAD))
            try:
                tapes = await self._loaded(list(some))
            except RedisDown:
                tapes = {}
            for answer, joining in some.items():
                del self._joining[answer]
                joining.set_result(tapes.get(answer))

    async def _loaded(self, answers: Sequence[UUID]) -> dict[UUID, Tape]:
        ready = self._ready
        assert ready
        if not await asyncio.shield(ready):
            return {}
        tapes = {}
        replies = await self._link.run(*[("XRANGE", self.key(answer), "-", "+") for answer in answers])
        for answer, found in zip(answers, replies, strict=True):
            if isinstance(found, ResponseError):
                continue
            await asyncio.sleep(0)  # one may have thousands of events
            tapes[answer] = Tape(answer, self._keep)
            tapes[answer].add(items_of(answer, found))
            tapes[answer].left_at = asyncio.get_running_loop().time()
        if ready is not self._ready:
            return {}
        self._tapes |= tapes
        if not self._rung:
            self._rung = True
            self._spawn(self._ring())
        return tapes

    async def _catch_up(self, tape: Tape) -> None:
        """A reader who comes from another process may be ahead of this one, for a moment."""
        try:
            [found] = await self._link.run(("XREVRANGE", self.key(tape.answer), "+", "-", "COUNT", 1))
        except RedisDown as error:
            raise LogUnavailable(str(error)) from None
        if isinstance(found, list) and found:
            await tape.reach(position_of(found[0][0]), COMMAND_SECONDS)

    async def _ring(self) -> None:
        # One that is lost is made good by the end of the read, a second later at most; so is a Redis that refuses.
        await self._link.run(("XADD", self._bell, "MAXLEN", 1, "*", "ring", ""), ("EXPIRE", self._bell, 60))

    async def _read_forever(self) -> None:
        while True:
            try:
                async with self._link.connected() as connection:
                    await exchange(connection, [("PING",)])
                    self._set_ready(True)
                    self._heard = "0-0"
                    while True:
                        await self._read(connection)
            except RedisDown as error:
                if self._break_off():
                    logger.warning("answers cannot be followed: %s", error)
            except Exception:
                logger.exception("reading the log failed, trying again")
                self._break_off()
            await asyncio.sleep(random.uniform(0.2, 1) * RETRY_SECONDS)

    async def _read(self, connection: Connection) -> None:
        """Wait for news of all tapes, and add them."""
        self._sweep()
        self._rung = False
        tapes = {self.key(tape.answer).encode(): tape for tape in self._tapes.values()}
        [reply] = await exchange(connection, [self._command(tapes)], BLOCK_SECONDS + PATIENCE_SECONDS)
        if isinstance(reply, ResponseError):
            raise RedisDown(f"Redis refused: {reply}")
        for key, found in reply or ():
            if tape := tapes.get(key):
                tape.add(items_of(tape.answer, found))
            else:
                self._heard = found[-1][0]

    def _command(self, tapes: dict[bytes, Tape]) -> Command:
        lasts = [str(tape.last) for tape in tapes.values()]
        return ("XREAD", "BLOCK", round(BLOCK_SECONDS * 1000), "STREAMS", self._bell, *tapes, self._heard, *lasts)

    def _sweep(self) -> None:
        """Drop the tapes that nobody has followed for a while."""
        limit = asyncio.get_running_loop().time() - self._linger
        for tape in [tape for tape in self._tapes.values() if not tape.readers and tape.left_at < limit]:
            del self._tapes[tape.answer]

    def _break_off(self) -> bool:
        """All tapes end, and nobody joins until Redis answers. False if that was so already."""
        tapes, self._tapes = self._tapes, {}
        for tape in tapes.values():
            tape.broken = True
            tape.wake()
        was_well = not (self._ready and self._ready.done() and not self._ready.result())
        self._set_ready(False)
        return was_well

    def _set_ready(self, ready: bool) -> None:
        if self._ready is None or self._ready.done():
            self._ready = asyncio.get_running_loop().create_future()
        self._ready.set_result(ready)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, RedisDown):
            logger.error("a task of the log failed", exc_info=error)

    async def close(self) -> None:
        """End all of it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._break_off()
        for joining in self._joining.values():
            joining.set_result(None)
        self._joining.clear()
