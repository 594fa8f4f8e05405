"""One client of the fake provider: HTTP/1.1 with keep-alive, by hand, so a token costs next to nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from functools import partial

from bench.doors import State
from bench.ledger import Call
from bench.script import Gate
from bench.wire import FOREVER, Cut, Step, Steps

AT_ONCE = 64  # steps of one answer before the others get their turn
MAX_HEAD = 64 * 1024  # bytes


class Connection(asyncio.Protocol):
    """One client: reads a request, plays its response step by step, reads the next.

    There is no task per answer. A step that must wait sets one timer, and the socket is read all the while,
    so a client that leaves is noticed at once in the longest silence.
    """

    def __init__(self, state: State, everyone: set[Connection]) -> None:
        self.state = state
        self.everyone = everyone
        self.loop = asyncio.get_running_loop()
        self.inbox = bytearray()
        self.steps: Steps | None = None
        self.call: Call | None = None
        self.base = 0.0  # loop time at which the request was complete
        self.timer: asyncio.Handle | None = None
        self.full = False  # the client does not read as fast as it is told
        self.held = False  # waits at a gate
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.everyone.add(self)

    def data_received(self, data: bytes) -> None:
        self.inbox += data
        if self.steps is None:
            self.read_request()

    def eof_received(self) -> None:
        self.end("aborted")

    def connection_lost(self, problem: Exception | None) -> None:
        self.everyone.discard(self)
        self.end("aborted")

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self.timer is None:
            self.go_on()

    def read_request(self) -> None:
        """Start the response when the request is complete."""
        end = self.inbox.find(b"\r\n\r\n")
        if end < 0:
            if len(self.inbox) > MAX_HEAD:
                self.transport.abort()
            return
        first, *lines = self.inbox[:end].decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
        body_end = end + 4 + int(headers.get("content-length") or 0)
        if len(self.inbox) < body_end:
            return
        body = bytes(self.inbox[end + 4 : body_end])
        del self.inbox[:body_end]
        verb, path = [*first.split(" "), "", ""][:2]
        self.base = self.loop.time()
        self.steps, self.call = self.state.respond(verb, path, headers, body)
        self.go_on()

    def go_on(self) -> None:
        """Play steps until one has to wait."""
        self.timer = None
        for _ in range(AT_ONCE):
            if self.steps is None or self.full or self.held or self.transport.is_closing():
                return
            step = self.next_step(self.steps)
            if isinstance(step, bytes):
                self.transport.write(step)
            elif step is None:
                self.end("finished")
                self.read_request()
                return
            elif isinstance(step, Gate):
                self.held = not step.passes(partial(self.loop.call_soon_threadsafe, self.pass_gate))
            elif isinstance(step, Cut):
                self.cut(step)
                return
            elif step == FOREVER:
                self.held = True
            elif (due := self.base + step) > self.loop.time():
                self.timer = self.loop.call_at(due, self.go_on)
                return
        if not self.full:
            self.timer = self.loop.call_soon(self.go_on)

    def next_step(self, steps: Steps) -> Step | None:
        """The next step, or None at the end. A script that raises drops its connection, so no client hangs."""
        try:
            return next(steps, None)
        except Exception:
            self.transport.abort()
            raise

    def pass_gate(self) -> None:
        """The gate was opened."""
        self.held = False
        self.go_on()

    def cut(self, how: Cut) -> None:
        """End the connection as the script says."""
        self.end("finished")
        if how is Cut.RST:
            raw: socket.socket = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # makes close() send RST
            self.transport.abort()
        self.transport.close()

    def close(self) -> None:
        """The provider goes away, as a process that is killed."""
        self.end("finished")
        self.transport.abort()

    def end(self, state: str) -> None:
        """Nothing more is said to this request."""
        if self.timer:
            self.timer.cancel()
        if self.call:
            self.state.ledger.close(self.call, state)
        self.steps = self.call = self.timer = None
        self.held = False
