"""A Parley of its own for one measurement: fresh data, users with tokens, and what its process costs."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
TICK = os.sysconf("SC_CLK_TCK")  # units of processor time a second
# What a measurement takes from the caller's environment; the rest, such as a developer's own settings, stays out.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")
MAKE_USERS = """
import sys
from django.contrib.auth import get_user_model
from django.core.management import call_command
users = get_user_model()._default_manager
for number in range({count}):
    user = users.create_user(f"bench{{number}}")
    call_command("create_token", user.get_username(), stdout=sys.stdout)
"""


@dataclass(frozen=True)
class Cost:
    """What a process holds and has used at one moment."""

    at: float  # time.monotonic()
    threads: int
    files: int  # open file descriptors, sockets included
    database: int  # descriptors of the SQLite file: one for each connection
    memory: int  # bytes resident
    cpu: float  # seconds of processor time so far


def cost_of(pid: int, database: Path | None = None) -> Cost:
    """Read it from /proc."""
    process = Path(f"/proc/{pid}")
    fields = dict(line.partition(":")[::2] for line in (process / "status").read_text().splitlines())
    times = (process / "stat").read_text().rpartition(")")[2].split()
    links = []
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):  # closed since it was listed
            links.append(descriptor.readlink())
    return Cost(
        at=time.monotonic(),
        threads=int(fields["Threads"]),
        files=len(links),
        database=links.count(database) if database else 0,
        memory=int(fields["VmRSS"].split()[0]) * 1024,
        cpu=(int(times[11]) + int(times[12])) / TICK,
    )


class Process:
    """A server process that says in one line when it is ready."""

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path | None = None) -> None:
        self.name = command[1] if command[0] == "-m" else command[0]
        with log.open("ab") if log else contextlib.nullcontext(None) as errors:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=dict(env), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.log = log

    def line(self) -> str:
        """The line; RuntimeError with what went wrong instead."""
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        if ready and (line := self.process.stdout.readline().strip()):
            return line
        self.stop()
        said = self.log.read_text()[-3000:] if self.log else ""
        raise RuntimeError(f"{self.name} did not start.\n{said}")

    def stop(self) -> None:
        """End it, by force if it does not leave within 15 s."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class Provider:
    """The fake provider in a process of its own; `url` ends in /v1."""

    def __init__(self, models: list[str]) -> None:
        command = ["-m", "bench.fake_provider", "--port", "0", "--models", ",".join(models)]
        self.process = Process(command, os.environ)
        self.url = self.process.line()

    def __enter__(self) -> Provider:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: object, trace: TracebackType | None) -> None:
        self.process.stop()


class Parley:
    """Parley with a database of its own and as many users, each with a token, as asked for.

    `extra` are environment variables for settings other than the default ones.
    """

    def __init__(self, provider: str, users: int, extra: Mapping[str, str] | None = None) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="parley-bench-")
        data = Path(self.directory.name).resolve()
        self.database = data / "db.sqlite3"
        self.env = {name: os.environ[name] for name in KEPT if name in os.environ} | {
            "CHAT_DATA_DIR": str(data),
            "DATABASE_URL": f"sqlite:///{self.database}",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "OPENAI_BASE_URL": provider,
            "OPENAI_API_KEY": "bench",
            "PORT": "0",
            **(extra or {}),
        }
        try:
            self.manage("migrate", "--verbosity", "0")
            said = self.manage("shell", "--verbosity", "0", "--command", MAKE_USERS.format(count=users))
            self.tokens = said.split()[-users:]
            self.process = Process(["-m", "chatproject.server"], self.env, data / "server.log")
            self.url = next(word for word in self.process.line().split() if word.startswith("http")).rstrip("/")
        except BaseException:
            self.directory.cleanup()
            raise

    def manage(self, *arguments: str) -> str:
        """Run a management command and return what it prints."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"manage.py {arguments[0]} failed.\n{done.stderr[-3000:]}")
        return done.stdout

    def cost(self) -> Cost:
        """What the server process holds and has used."""
        return cost_of(self.process.process.pid, self.database)

    def __enter__(self) -> Parley:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: object, trace: TracebackType | None) -> None:
        self.process.stop()
        self.directory.cleanup()
