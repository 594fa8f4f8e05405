"""The web server: daphne, with what it lacks for streams that last.

A reader that stops reading slows its own application down and nobody else. Background work starts before
the first connection and is drained before the process leaves. `python -m chatproject.server` runs it, and
`manage.py runserver` uses the same class.
"""

import argparse
import asyncio
import logging
import math
import os
import pkgutil
import signal
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from daphne.endpoints import build_endpoint_description_strings
from daphne.http_protocol import WebRequest
from daphne.server import Server as DaphneServer  # installs the asyncio reactor, so it comes before Twisted's
from daphne.ws_protocol import WebSocketProtocol
from django.core.exceptions import ImproperlyConfigured
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

logger = logging.getLogger(__name__)
reactor: Any = installed_reactor

SOCKET_PATIENCE = 2.0  # seconds a WebSocket may stay more than 64 KB behind; a living one catches up sooner
CANCEL_SECONDS = 1.0  # for applications cancelled at the end; nothing important relies on it
MAX_BODY_BYTES = 16 * 1024 * 1024  # a body is cut beyond; the handler refuses far smaller ones, see CHAT_MAX_BODY_BYTES
RESTARTING = 1012  # the WebSocket close code for "come back in a moment"


@implementer(IPushProducer)
class Gate(asyncio.Event):
    """Open while the transport has room. Twisted closes it above 64 KB and opens it when all is written."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self.patience = patience
        self.set()

    pauseProducing = asyncio.Event.clear  # noqa: N815
    resumeProducing = stopProducing = asyncio.Event.set  # noqa: N815


class Server(DaphneServer):  # type: ignore[misc]
    """Takes daphne's arguments, and three more.

    `service` has `async start()`, after which the server listens, and `async drain()`, which the process
    awaits before it leaves; `chat.service` unless given. A reader that takes nothing for `stall_seconds`
    while 64 KB wait for it is cut. WebSockets are pinged after `ping_interval`, not at daphne's next round.
    """

    def __init__(
        self, application: Any, *, service: Any = None, stall_seconds: float = 60, ping_interval: float = 5,
        ping_timeout: float = 10, **options: Any,
    ) -> None:  # fmt: skip
        options |= {"http_timeout": None, "server_name": "Parley"}  # daphne's time-out cuts running streams
        # daphne would ping again while an answer is due, and then drop a slow reader that has answered.
        # autobahn waits for the answer, so it does the pinging and daphne's turn never comes.
        super().__init__(application, ping_interval=math.inf, ping_timeout=ping_timeout, **options)
        self.ping_seconds = ping_interval
        self.stall_seconds = stall_seconds
        self.service = service
        self.failure = ""

    def run(self) -> None:
        """Returns after the drain. Without the service or the address, the process ends with status 1."""
        loop = reactor._asyncioEventloop
        asyncio.set_event_loop(loop)
        try:
            self.service = self.service or pkgutil.resolve_name("chat.service")
            loop.run_until_complete(self.service.start())
        except Exception as error:
            if not isinstance(error, ImproperlyConfigured):  # whose message says all
                traceback.print_exc()
            end_process(1, f"Parley could not start: {error}")
        super().run()
        if self.failure:
            loop.run_until_complete(self.service.drain())
            end_process(1, self.failure)

    def listen_error(self, failure: Any) -> None:
        self.failure = f"Parley could not start: {failure.getErrorMessage()}"
        self.stop()

    def protocol_connected(self, protocol: Any) -> None:
        super().protocol_connected(protocol)
        if isinstance(protocol, WebSocketProtocol):
            protocol.autoPingInterval = self.ping_seconds
            gate = self.connections[protocol]["gate"] = Gate(min(SOCKET_PATIENCE, self.stall_seconds))
            protocol.transport.unregisterProducer()  # the HTTP channel, which has handed the transport over
            protocol.transport.registerProducer(gate, True)
        else:
            protocol.handleContentChunk = partial(self.keep_chunk, protocol)

    def keep_chunk(self, request: Any, chunk: bytes) -> None:
        """Twisted would keep the whole body, of any size, before the application could refuse it."""
        if request.content.tell() <= MAX_BODY_BYTES:
            request.content.write(chunk)

    def protocol_disconnected(self, protocol: Any) -> None:
        if protocol in self.connections:  # a reader that takes long to go is forgotten before it has gone
            super().protocol_disconnected(protocol)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        scope["root_path"] = self.root_path  # daphne believes a header that any client can send
        queue = super().create_application(protocol, scope)
        if task := self.connections.get(protocol, {}).get("application_instance"):
            task.add_done_callback(partial(self.application_ended, protocol))
        return queue

    def application_ended(self, protocol: Any, task: asyncio.Task[None]) -> None:
        """Closes a response left unfinished, so that its reader neither waits nor takes it for whole.

        daphne would begin a second response, fail, and from then on never clean up any connection.
        """
        details = self.connections.get(protocol)
        if not details or "disconnected" in details or not isinstance(protocol, WebRequest):
            return
        if "gate" not in details and not task.cancelled() and task.exception():
            return  # nothing was sent yet: daphne answers 500
        self.protocol_disconnected(protocol)
        close(protocol.channel, self.stall_seconds)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """Hands a message to the client, and returns when there is room for another one.

        So at most 64 KB and one message wait in memory, and not for ever.
        """
        details = self.connections.get(protocol, {"disconnected": True})
        if isinstance(protocol, WebSocketProtocol) and protocol.state == protocol.STATE_CLOSING:
            # The close is on its way to the application; autobahn would raise, and the application break.
            await asyncio.sleep(0)
            return
        last = message["type"] == "http.response.body" and not message.get("more_body")
        await super().handle_reply(protocol, {**message, "more_body": True} if last else message)
        if "disconnected" in details:
            await asyncio.sleep(0)  # else an application that sends on and on would hold the loop
            return
        if message["type"] == "http.response.start":
            details["gate"] = Gate(self.stall_seconds)
            protocol.registerProducer(details["gate"], True)
        await self.wait_for_room(protocol, details.get("gate"))
        if last and "disconnected" not in details:
            channel = protocol.channel
            protocol.unregisterProducer()
            await super().handle_reply(protocol, {"type": "http.response.body"})
            if not channel.persistent:
                close(channel, self.stall_seconds)

    async def wait_for_room(self, protocol: Any, gate: Gate | None) -> None:
        """Returns when all is written. Cuts a reader that takes nothing while the gate has patience."""
        while gate and not gate.is_set():
            waiting = unsent(protocol.transport)
            try:
                async with asyncio.timeout(gate.patience):
                    await gate.wait()
            except TimeoutError:
                if unsent(protocol.transport) >= waiting:
                    protocol.transport.abortConnection()
                    return

    def kill_all_applications(self) -> Any:
        """Called by the reactor, which stops when the result is there. A second signal ends the process."""
        if self.signal_handlers:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return Deferred.fromFuture(asyncio.ensure_future(self.leave()))

    async def leave(self) -> None:
        """Drains with the door open, so that the application itself says 503, then closes what is left."""
        try:
            await self.service.drain()
        except Exception:
            logger.exception("The drain failed")
        for protocol in self.connections:
            if isinstance(protocol, WebSocketProtocol) and protocol.state == protocol.STATE_OPEN:
                protocol.sendCloseFrame(RESTARTING)
        applications = (details.get("application_instance") for details in self.connections.values())
        running = [task for task in applications if task and task.cancel()]
        if running:
            await asyncio.wait(running, timeout=CANCEL_SECONDS)
        for _ in range(100):  # one second, for last bytes on their way to readers that do read
            if not reactor.getWriters():
                break
            await asyncio.sleep(0.01)


def close(channel: Any, seconds: float) -> None:
    """Closes a connection when its last bytes are read, or without them if nobody reads them for so long."""
    channel.loseConnection()
    channel.setTimeout(seconds)


def unsent(transport: Any) -> int:
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


def end_process(status: int, sentence: str = "") -> NoReturn:
    """Ends it now. Python would wait for ever for a thread that is stuck in a database call, and in the
    thread that runserver uses, `sys.exit` would end that thread only."""
    logging.shutdown()
    print(sentence, end="\n" if sentence else "", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)


def main(argv: Sequence[str] | None = None, application: Any = None, **options: Any) -> NoReturn:
    """Serves until SIGTERM or SIGINT. Prints one line with the address as soon as connections are welcome."""
    env = os.environ
    parser = argparse.ArgumentParser(prog="python -m chatproject.server", description="Serves Parley.")
    parser.add_argument("--host", default=env.get("HOST", "127.0.0.1"), help="address (env HOST)")
    parser.add_argument("--port", default=env.get("PORT", "8000"), type=int, help="0: any (env PORT)")
    chosen = parser.parse_args(argv)

    def announce() -> None:
        host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        print(f"Parley is listening on http://{host}:{server.listening_addresses[0][1]}/", flush=True)

    server = Server(
        application or pkgutil.resolve_name("chatproject.asgi:application"),
        endpoints=build_endpoint_description_strings(chosen.host, chosen.port),
        ready_callable=lambda: reactor.callWhenRunning(announce),  # by then signals are handled, too
        **options,
    )
    server.run()
    end_process(0)


if __name__ == "__main__":
    main()
