"""One HTTP request over a connection of its own, told piece by piece: what a browser's network stack does for a page."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Head:
    """Status line and headers, names in lower case."""

    status: int
    headers: Mapping[str, str]


@dataclass
class Body:
    """Takes the frames off a body that comes in arbitrary pieces, and knows when it is whole."""

    chunked: bool
    left: int | None  # bytes still to come; None for a body that the end of the connection ends
    whole: bool = False
    rest: bytearray = field(default_factory=bytearray)

    @classmethod
    def of(cls, head: Head) -> Body:
        length = head.headers.get("content-length")
        chunked = head.headers.get("transfer-encoding", "").lower() == "chunked"
        left = int(length) if length else 0 if head.status == 204 else None
        return cls(chunked, left, whole=not chunked and left == 0)

    def feed(self, data: bytes) -> bytes:
        """The content among these bytes."""
        if self.chunked:
            return self._unchunk(data)
        if self.left is not None:
            self.left -= len(data)
            self.whole = self.left <= 0
        return data

    def _unchunk(self, data: bytes) -> bytes:
        self.rest += data
        out = bytearray()
        while (line := self.rest.find(b"\r\n")) >= 0:
            size = int(self.rest[:line], 16)
            if len(self.rest) < line + size + 4:
                break
            out += self.rest[line + 2 : line + 2 + size]
            del self.rest[: line + size + 4]
            self.whole = self.whole or size == 0
        return bytes(out)


class Exchange(asyncio.Protocol):
    """A request that was sent, and the response as it comes: the pieces of its body go to `take`."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        loop = asyncio.get_running_loop()
        self.head: asyncio.Future[Head] = loop.create_future()
        self.over: asyncio.Future[bool] = loop.create_future()  # True when the body was whole, False when it was cut
        self.heard_at = loop.time()
        self._take = take
        self._head = bytearray()
        self._body: Body | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        if self._body is None:
            self._head += data
            if b"\r\n\r\n" not in self._head:
                return
            raw, _, data = bytes(self._head).partition(b"\r\n\r\n")
            self._begin(read_head(raw))
        assert self._body
        if content := self._body.feed(data):
            self._take(content)
        if self._body.whole:
            self._end(whole=True)

    def connection_lost(self, problem: Exception | None) -> None:
        self._end(whole=self._body is not None and not self._body.chunked and self._body.left is None and not problem)

    def leave(self) -> None:
        """Cut the connection, as a tab that is closed does."""
        self.transport.abort()

    def _begin(self, head: Head) -> None:
        self._body = Body.of(head)
        if not self.head.done():
            self.head.set_result(head)

    def _end(self, *, whole: bool) -> None:
        if not self.head.done():
            self.head.set_exception(ConnectionResetError("closed without a response"))
            self.head.exception()  # seen: nobody has to wait for it
        if not self.over.done():
            self.over.set_result(whole)
        self.transport.close()


def read_head(raw: bytes) -> Head:
    """Status line and headers from their bytes."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return Head(int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields})


@contextlib.asynccontextmanager
async def request(
    door: str,
    verb: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    take: Callable[[bytes], object] = len,
) -> AsyncIterator[Exchange]:
    """Send a request to `name:port` on this machine; the connection is closed at the end. OSError when nobody listens."""
    port = int(door.rpartition(":")[2])
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_SECONDS):
        _, exchange = await loop.create_connection(lambda: Exchange(take), "127.0.0.1", port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    fixed = f"{verb} {path} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    try:
        exchange.transport.write(f"{fixed}{lines}\r\n".encode() + body)
        yield exchange
    finally:
        exchange.leave()


async def fetch(
    door: str, verb: str, path: str, headers: Mapping[str, str], body: bytes = b"", within: float = 30.0
) -> tuple[int, bytes]:
    """Status and whole body. OSError when the response is cut or does not come, TimeoutError when it is late."""
    pieces: list[bytes] = []
    async with asyncio.timeout(within), request(door, verb, path, headers, body, pieces.append) as exchange:
        head = await exchange.head
        if not await exchange.over:
            raise ConnectionResetError("the response was cut")
    return head.status, b"".join(pieces)


class Frames:
    """Turns the bytes of an event stream into events: name, id and data."""

    def __init__(self, take: Callable[[str, str, dict[str, Any]], object]) -> None:
        self._take = take
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
            if "event" in fields:
                self._take(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
