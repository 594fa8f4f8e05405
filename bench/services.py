"""Real servers for tests and measurements: Redis and PostgreSQL, each on a free port in a temporary directory.

    with Redis() as redis, Postgres() as postgres:
        redis.url, postgres.new_database()      for REDIS_URL and DATABASE_URL
        redis.kill(); redis.start()             the port stays, and so does what the server had stored

They need no root, and end with the process that started them, even if that is killed.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench.programs import programs
from bench.service import Service

__all__ = ["Postgres", "Redis"]


class Redis(Service):
    """A Redis. It comes back empty, unless `append_only` keeps what it is told.

    Settings of redis.conf are keywords: Redis(maxmemory="10mb").
    """

    name = "redis"

    def __init__(self, *, append_only: bool = False, program: Path | None = None, **settings: str) -> None:
        self.program = program or programs("redis-server")[0]
        super().__init__()
        self.settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if append_only else "no",
        } | {name.replace("_", "-"): value for name, value in settings.items()}

    @property
    def url(self) -> str:
        """For REDIS_URL. Everybody shares the one server: keep apart by REDIS_PREFIX."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        named = [part for name, value in self.settings.items() for part in (f"--{name}", value)]
        return [str(self.program), *named]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith(b"+PONG")
        except OSError:
            return False


class Postgres(Service):
    """A PostgreSQL with the superuser `postgres` and no password.

    What was committed survives `kill`. With `durable` it would survive the machine's loss of power too, at the price of
    waiting for the disk, as on a real server.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": does not wait for clients to leave

    def __init__(self, *, durable: bool = False, program: Path | None = None, **settings: str) -> None:
        self.program = program or programs("postgres")[0]
        super().__init__()
        self._numbers = itertools.count(1)
        self.data = self.directory / "data"
        hurry = {} if durable else {"fsync": "off", "full_page_writes": "off"}
        self.settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "300",
            "timezone": "UTC",
        } | (hurry | settings)
        self._hand_over()

    def _hand_over(self) -> None:
        """PostgreSQL refuses to be run by root, so there the directory belongs to somebody else."""
        self.owner = unprivileged() if os.geteuid() == 0 else None
        if self.owner:
            os.chown(self.directory, self.owner.pw_uid, self.owner.pw_gid)
            if not self._may_run():  # it is somewhere in root's home, as a virtual environment may be
                self.program = copy_of_installation(self.program, self.directory / "copy")

    def _may_run(self) -> bool:
        try:
            subprocess.run([self.program, "--version"], cwd="/", check=True, capture_output=True, **self.user())
        except PermissionError:
            return False
        return True

    def user(self) -> dict[str, Any]:
        if not self.owner:
            return {}
        return {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": [self.owner.pw_gid]}

    def command(self) -> list[str]:
        named = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.program), "-D", str(self.data), *named]

    def launch(self) -> None:
        if not self.data.exists():
            self._initialise()
        super().launch()

    def _initialise(self) -> None:
        """Make the data directory. Nothing in it is worth waiting for the disk."""
        locale = "C.UTF-8" if sys.platform == "linux" else "C"
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", locale, "--no-sync"]
        made = subprocess.run(
            [self.program.with_name("initdb"), "-D", self.data, *options],
            cwd=self.directory,
            env=self.env(),
            capture_output=True,
            text=True,
            check=False,
            **self.user(),
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")

    def url(self, database: str) -> str:
        """For DATABASE_URL."""
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: sql.Composed) -> None:
        """Run a statement outside any transaction, as the superuser."""
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)

    def is_ready(self) -> bool:
        try:
            self.execute(sql.SQL("SELECT {}").format(1))
        except psycopg.OperationalError:
            return False
        return True

    def new_database(self, template: str = "template0") -> str:
        """The URL of a fresh database; a copy of the one that `template` names, or is the URL of. Nobody may be using that."""
        name = f"parley_{os.getpid()}_{next(self._numbers)}"
        source = template.rpartition("/")[2]
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self.execute(create.format(sql.Identifier(name), sql.Identifier(source)))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever is using it."""
        name = url.rpartition("/")[2]
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def copy_of_installation(program: Path, place: Path) -> Path:
    """Copy a PostgreSQL, and the libraries that pip puts beside its package; returns the copy of the program."""
    package = program.parent.parent.parent
    for source in (program.parent.parent, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, place / source.relative_to(package.parent), symlinks=True)
    return place / program.relative_to(package.parent)


def unprivileged() -> pwd.struct_passwd:
    """Somebody who is not root."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL cannot be run by root. Make a user called postgres, or run this as somebody else.")
