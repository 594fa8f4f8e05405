"""A fake OpenAI-compatible provider: real sockets, scripted answers and faults, a ledger of every call.

    python -m bench.fake_provider --port 0          prints http://127.0.0.1:PORT/v1 when it is ready

    with FakeProvider() as provider:                in tests, in a thread of its own
        provider.script("clever", Script(tokens=5, fault="cut", at=3))
        ...
        provider.calls                              what was asked, what was sent, how it ended

Any model name answers; `fake?tokens=200&rate=50&fault=cut&at=10` is its own script. Other processes read
GET /ledger and /ledger/totals, and use POST /ledger/reset and POST /models {"models": [...], "status": 200}.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable

from bench.answer import Job
from bench.connection import Connection
from bench.doors import State
from bench.faults import FAULTS
from bench.ledger import Call
from bench.script import Script
from bench.wire import Steps


class FakeProvider:
    """The provider in a thread of its own: `with FakeProvider() as provider`, then `provider.url`.

    `start` and `stop` may be called again and again; the port stays, so a stopped provider refuses
    connections. Everything here may be called from any thread.
    """

    def __init__(self, port: int = 0, key: str = "bench", strict: bool = False) -> None:
        self.state = State(key=key, strict=strict)
        self.ledger = self.state.ledger
        self.port = port
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """The base URL for clients of the OpenAI API."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def calls(self) -> list[Call]:
        """Copies of all calls as they are now, oldest first."""
        return self.ledger.calls()

    def wait(self, until: Callable[[list[Call]], object], timeout: float = 5.0) -> list[Call]:
        """Block until `until(calls)` is true; TimeoutError otherwise."""
        return self.ledger.wait(until, timeout)

    def script(self, model: str, script: Script | Callable[[Job], Steps]) -> None:
        """What this exact model name answers from the next call on, in place of what the name itself says."""
        self.state.scripts[model] = script

    def start(self) -> FakeProvider:
        """Serve; returns when connections are accepted."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready.set)), daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError(f"the fake provider did not start on port {self.port}")
        return self

    def stop(self) -> None:
        """Close every connection and refuse new ones."""
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)
        self._loop = self._thread = None

    __enter__ = start

    def __exit__(self, *problem: object) -> None:
        self.stop()

    async def serve(self, ready: Callable[[], object]) -> None:
        """Serve in the running loop until `stop`; calls `ready` when connections are accepted."""
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        connections: set[Connection] = set()
        server = await self._loop.create_server(
            lambda: Connection(self.state, connections), "127.0.0.1", self.port, backlog=4096
        )
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await self._stopping.wait()
        server.close()
        for connection in list(connections):
            connection.close()
        await asyncio.sleep(0)  # the transports close their sockets in the next turn of the loop


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser(prog="python -m bench.fake_provider", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--key", default="bench", help="the API key that counts as the right one")
    parser.add_argument("--strict", action="store_true", help="answer 401 to any other key")
    parser.add_argument("--models", default="fake", help="what GET /v1/models lists, separated by commas")
    parser.add_argument("--faults", action="store_true", help="print the fault table and exit")
    options = parser.parse_args(arguments)
    if options.faults:
        print("\n".join(f"{name:26} {says}" for name, says in FAULTS.items()))
        return
    provider = FakeProvider(options.port, options.key, options.strict)
    provider.state.models = options.models.split(",")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(provider.serve(lambda: print(provider.url, flush=True)))


if __name__ == "__main__":
    main()
