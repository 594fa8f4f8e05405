"""The programs of this project as services: a web process, and the fake provider in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.parley import KEPT
from bench.service import Service
from chaos.wire import fetch

ROOT = Path(__file__).resolve().parent.parent
SEEDS = 34  # different texts of the fake provider


def model_name(speech: str, seed: int) -> str:
    """The model that says so many tokens so fast: `speech` is like tokens=20&rate=50."""
    return f"fake?{speech}&seed={seed % SEEDS}"


def answers_http(port: int) -> bool:
    """Whether a server on this port answers its health check."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


class Program(Service):
    """A Python program of this project as a service."""

    def env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return kept | {"PYTHONPATH": str(ROOT)}


class Provider(Program):
    """The fake provider: what it is asked, and how each call ended, is the truth that bills are held against."""

    name = "provider"

    def __init__(self, models: Sequence[str]) -> None:
        super().__init__()
        self.models = list(models)
        self._marks: list[tuple[float, int]] = [(0.0, 0)]  # when the ledger was read, and how long it was

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def command(self) -> list[str]:
        listed = ",".join(self.models)
        return [sys.executable, "-m", "bench.fake_provider", "--port", str(self.port), "--models", listed]

    def is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    async def calls(self, since: float) -> list[dict[str, Any]]:
        """The ledger from this moment on, and perhaps some calls before it."""
        known = max(length for at, length in self._marks if at <= since)
        _, body = await fetch(f"127.0.0.1:{self.port}", "GET", "/ledger", {"X-First": str(known + 1)})
        calls: list[dict[str, Any]] = json.loads(body)
        self._marks.append((time.monotonic(), known + len(calls)))  # a call that opens from now on has a higher number
        return calls


class Web(Program):
    """One web process."""

    name = "web"

    def __init__(self, settings: dict[str, str]) -> None:
        super().__init__()
        data = self.directory / "data"
        (data / "static").mkdir(parents=True)  # programs need none of its files
        self.settings = settings | {"CHAT_DATA_DIR": str(data)}

    @property
    def door(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def env(self) -> dict[str, str]:
        return super().env() | self.settings

    def command(self) -> list[str]:
        return [sys.executable, "-m", "chatproject.server", "--port", str(self.port)]

    def is_ready(self) -> bool:
        return answers_http(self.port)


def wait_ready(web: Web, patience: float = 60.0) -> None:
    """Return when a web process that was launched answers."""
    end = time.monotonic() + patience
    while not web.is_ready():
        if web.process is None or web.process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"a web process did not start:\n{web.log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)
