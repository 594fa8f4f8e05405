"""Commands for Redis: any number of them in one round trip, which is over in a bounded time, whatever became of Redis."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from hiredis import pack_command
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

Word = str | bytes | int | float
Command = Sequence[Word]

COMMAND_SECONDS = 2.0
CONNECTIONS = 10
PROBE_SECONDS = 0.5


class RedisDown(OSError):
    """Redis did not answer in time, or not at all. What became of the commands is not known."""


class Script:
    """A Lua script, which Redis keeps until it is restarted."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], args: Sequence[Word]) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)


class OneLine(logging.Filter):
    """An outage that a library reports again and again is told in a line each time, not in a page."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], RedisError | OSError):
            record.msg, record.args = f"{record.getMessage()}: {record.exc_info[1]}", ()
            record.exc_info = record.exc_text = None
        return True


class SocketParser(DefaultParser):  # type: ignore[valid-type,misc]
    """For connections that are read with a time-out again and again, as subscriptions are.

    A connection that died of silence raises the same TimeoutError as a read that waited long enough. Taken for one of
    these, it would be read again at once, for ever, and nothing else would happen in this process.
    """

    async def read_from_socket(self) -> bool:
        try:
            return bool(await super().read_from_socket())
        except TimeoutError as error:
            raise RedisConnectionError(f"The connection to Redis died: {error}") from None


class Link:
    """A few connections to one Redis, made when they are needed. Whoever comes when all are busy waits for one.

    After a failure, and until Redis answers again, each use first asks whether it is there, which fails quickly.
    """

    def __init__(self, url: str) -> None:
        # Replies have the old protocol's shape, whatever the version of Redis. Time is kept here, for whole round trips.
        self._pool = ConnectionPool.from_url(
            url, protocol=2, socket_timeout=None, socket_connect_timeout=COMMAND_SECONDS, driver_info=None
        )
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._failed = False

    async def run(self, *commands: Command) -> list[Any]:
        """Their replies, in order; a command that Redis refused has its ResponseError there. Raises RedisDown."""
        async with self.connected() as connection:
            return await exchange(connection, commands)

    async def evaluate(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Word]]]) -> list[Any]:
        """What the script returns for each of these keys and arguments. Raises RedisDown, also if Redis refused one."""
        async with self.connected() as connection:
            replies = await exchange(connection, [script.call(*call) for call in calls])
            unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                again = [("EVAL", script.source, *script.call(*calls[n])[2:]) for n in unknown]
                for n, reply in zip(unknown, await exchange(connection, again), strict=True):
                    replies[n] = reply
        for reply in replies:
            if isinstance(reply, ResponseError):
                self._failed = True
                raise RedisDown(f"Redis refused: {reply}") from None
        return replies

    async def check(self) -> None:
        """Before work that would be in vain: raises RedisDown if Redis failed the last time and still does."""
        if self._failed:
            async with self.connected():
                pass

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """A connection for the caller alone. What fails inside is raised as RedisDown."""
        connection = await self._borrow()
        try:
            if self._failed:
                await exchange(connection, [("PING",)], PROBE_SECONDS)
            yield connection
            self._failed = False
        except RedisDown:
            self._failed = True
            raise
        finally:
            self._free.release()
            await self._pool.release(connection)

    async def _borrow(self) -> Connection:
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                await self._free.acquire()
                try:
                    return cast(Connection, await self._pool.get_connection())  # type: ignore[no-untyped-call]
                except BaseException:
                    self._free.release()
                    raise
        except (RedisError, OSError) as error:
            self._failed = True
            raise RedisDown(str(error) or "Redis did not answer in time.") from None

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


async def exchange(connection: Connection, commands: Sequence[Command], seconds: float = COMMAND_SECONDS) -> list[Any]:
    """Send commands and read as many replies. After an error or a cancellation the connection is closed. Raises RedisDown."""
    replies: list[Any] = []
    try:
        async with asyncio.timeout(seconds):
            # Three times as fast as the connection's own packing.
            packed = b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]
            await connection.send_packed_command(packed, check_health=False)
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as refusal:
                    replies.append(refusal)
    except (RedisError, OSError) as error:
        await connection.disconnect(nowait=True)
        raise RedisDown(str(error) or "Redis did not answer in time.") from None
    return replies
