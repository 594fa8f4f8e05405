"""Whoever may not read any more stops reading within seconds: streams end, sockets close, and nobody else notices."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest

from bench.script import Gate, Script, text
from tests.parley import Client, Parley, close_code, hear, say, shown

SECONDS = 5.0  # the promise
TOKENS = 6


@pytest.fixture
def name(parley: Parley) -> str:
    """A new account of this test's own, which may come to harm."""
    return f"reader-{uuid4().hex[:12]}"


@pytest.fixture
def hold(offer, provider) -> Iterator[Callable[[Client], str]]:
    """Make open answers that wait for the end of the test: hold(client) returns the answer."""
    gate, model = Gate(), offer(f"fake-rights-{uuid4()}")
    provider.script(model, Script(tokens=TOKENS, at=2, gate=gate, seed=12))

    def ask(client: Client) -> str:
        return str(client.ask("Hold on", model)["answer"])

    ask.gate = gate  # type: ignore[attr-defined]
    yield ask
    gate.open()


class Listening:
    """A stream and a socket, read in threads; `ends` says when they came to their end, and how."""

    def __init__(self, client: Client, answer: str, pool: ThreadPoolExecutor) -> None:
        self.client = client
        self.socket_here = client.socket() if client.session else None
        self.socket = self.socket_here.__enter__() if self.socket_here else None
        self.stream = client.events(answer)
        self.frames = self.stream.read_until("token")
        self.stream_end: Future[tuple[float, Any]] = pool.submit(self.read_stream)
        self.socket_end: Future[tuple[float, Any]] | None = pool.submit(self.read_socket) if self.socket else None

    def read_stream(self) -> tuple[float, Any]:
        self.frames += list(self.stream)
        return monotonic(), self.frames[-1].name

    def read_socket(self) -> tuple[float, Any]:
        assert self.socket
        return monotonic() if (code := close_code(self.socket)) is None else monotonic(), code

    def assert_over(self, since: float) -> None:
        """Both ended within the promised time, and the session opens nothing any more."""
        ends = [self.stream_end.result(20), self.socket_end.result(20) if self.socket_end else (since, 4401)]
        assert [what for _, what in ends] == ["close", 4401]
        assert max(when for when, _ in ends) - since < SECONDS
        assert not any(frame.name in ("done", "error") for frame in self.frames), "the answer goes on, unread"

    def assert_unaffected(self, ended: Callable[[], object]) -> None:
        """The stream goes on to the end of the answer, and the socket still answers."""
        assert not self.stream_end.done()
        ended()
        self.stream_end.result(20)
        assert shown(self.frames) == text(12, TOKENS)
        assert [frame.name for frame in self.frames[-2:]] == ["done", "close"]
        if self.socket and self.socket_end:
            assert not self.socket_end.done()

    def close(self) -> None:
        self.stream.close()
        if self.socket_here:
            self.socket_here.__exit__(None, None, None)
