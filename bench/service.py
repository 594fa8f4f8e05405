"""A server program of this machine: started on a port of its own, stopped, killed, frozen; it never outlives this process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from bench.guard import __file__ as guard
from bench.guard import signal_family

PATIENCE = 60.0  # seconds until a server that does not start or end has failed to
# Below the ports that systems give to outgoing connections: one of those must not take the port of a server that is down.
PORTS = range(20000, 30000)


def free_port() -> int:
    """A port of this machine that nobody listens on now, and that stays free while its server is down."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Service:
    """A server program of this machine. It can be started again after `stop` and `kill`: port and data stay until `close`."""

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"parley-{self.name}-")).resolve()
        self.log = self.directory / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What starts the server in the foreground."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it answers requests."""
        raise NotImplementedError

    def user(self) -> dict[str, Any]:
        """Who runs it, as subprocess wants to know it."""
        return {}

    def env(self) -> dict[str, str]:
        """Nothing of the caller's but where programs are."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.directory), "LC_ALL": "C", "TZ": "UTC"}

    def launch(self) -> None:
        """Start the server without waiting until it is ready."""
        if self.process:
            if self.process.poll() is None:
                raise RuntimeError(f"{self.name} is running already")
            self._ended()  # by itself
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env=self.env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.user(),
            )
        watch = [sys.executable, "-S", "-E", guard, str(self.process.pid), str(self.directory)]
        self._guard = subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True)

    def start(self) -> Self:
        """Start the server; returns when it answers."""
        self.launch()
        end = time.monotonic() + PATIENCE
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None or time.monotonic() > end:
                said = self.log.read_text(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"{self.name} did not start:\n{said}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Let the server end in order, as an operator would. Nothing happens if it is down."""
        if self.process:
            self.thaw()
            self.process.send_signal(self.stop_signal)
            self.process.wait(PATIENCE)
            self._ended()

    def kill(self) -> None:
        """End it at once, with everything that works for it, as if the machine had lost power. Nothing if it is down."""
        if self.process:
            pids = signal_family(self.process.pid, signal.SIGKILL) if self.process.poll() is None else []
            self.process.wait(PATIENCE)
            end = time.monotonic() + PATIENCE
            while any(is_alive(pid) for pid in pids) and time.monotonic() < end:
                time.sleep(0.005)
            self._ended()

    def _ended(self) -> None:
        self.process = None
        if self._guard:
            self._guard.kill()
            self._guard.wait()
            assert self._guard.stdin
            self._guard.stdin.close()
            self._guard = None

    def restart(self) -> Self:
        """Stop and start."""
        self.stop()
        return self.start()

    def freeze(self) -> None:
        """Hold it with all that works for it: connections stay open, and nothing is answered."""
        assert self.process
        signal_family(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process
        signal_family(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and remove what it stored."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *problem: object) -> None:
        self.close()


def is_alive(pid: int) -> bool:
    """Whether a process is still there. One that has ended and waits for its parent to notice is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
