"""The patient: web processes that share PostgreSQL and Redis, or one with the log in memory, and a fake provider."""

from __future__ import annotations

import os
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row

from bench.parley import KEPT, MAKE_USERS
from bench.service import Service
from bench.services import Postgres, Redis
from chaos.programs import ROOT, SEEDS, Provider, Web, model_name, wait_ready

ACCIDENTS = ("Traceback", " ERROR ", " CRITICAL ", "never retrieved", "Warning: ")
USERS = 64  # so that nobody has more answers open than the shipped limit allows


class Lab:
    """The stores that all clusters of one run share, and a migrated database with users to copy."""

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(48)
        self.tokens: list[str] = []
        self.template = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.postgres = stack.enter_context(Postgres(durable=True))
            self.template = self.postgres.new_database()
            self.tokens = self.prepare({"DATABASE_URL": self.template})
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stack.close()

    def prepare(self, store: dict[str, str]) -> list[str]:
        """Migrate a database and make its users; returns their tokens."""
        env = {name: os.environ[name] for name in KEPT if name in os.environ} | {"SECRET_KEY": self.key} | store
        env.setdefault("CHAT_DATA_DIR", str(self.postgres.directory.parent / f"parley-chaos-{os.getpid()}"))
        said = ""
        for arguments in (["migrate", "-v0"], ["shell", "-v0", "-c", MAKE_USERS.format(count=USERS)]):
            command = [sys.executable, "manage.py", *arguments]
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"manage.py {arguments[0]} failed:\n{done.stderr[-3000:]}")
            said = done.stdout
        return said.split()[-USERS:]


class Cluster:
    """Web processes and what they need.

    `shared` ones have PostgreSQL and a Redis of their own; else there is one process, with SQLite and the log in memory.
    """

    def __init__(
        self,
        lab: Lab,
        speeches: Sequence[str],
        *,
        shared: bool = True,
        count: int = 3,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.lab = lab
        self.shared = shared
        self.started_at = time.monotonic()
        models = [model_name(speech, seed) for speech in speeches for seed in range(SEEDS)]
        self.provider = Provider(models)
        self.redis = Redis(append_only=True) if shared else None
        self.settings = {"SECRET_KEY": lab.key, "OPENAI_API_KEY": "bench", "LOG_LEVEL": "INFO"} | dict(settings or {})
        self.count = count if shared else 1
        self.webs: list[Web] = []
        self.tokens = lab.tokens
        self.extra: list[Service] = []  # what a scenario has put in front, such as a proxy

    def __enter__(self) -> Self:
        try:
            self.provider.start()
            store = self._shared_stores() if self.shared else {}
            for _ in range(self.count):
                self.webs.append(Web(self.settings | {"OPENAI_BASE_URL": self.provider.url} | store))
            if not self.shared:
                self._own_store(self.webs[0])
            for web in self.webs:
                web.launch()
            for web in self.webs:
                wait_ready(web)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *problem: object) -> None:
        for service in (*self.extra, *self.webs, self.provider, self.redis):
            if service:
                service.close()

    def _shared_stores(self) -> dict[str, str]:
        assert self.redis
        self.redis.start()
        self.url = self.lab.postgres.new_database(self.lab.template)
        return {"DATABASE_URL": self.url, "REDIS_URL": self.redis.url}

    def _own_store(self, web: Web) -> None:
        data = Path(web.settings["CHAT_DATA_DIR"])
        self.url = f"sqlite:///{data / 'db.sqlite3'}"
        web.settings["DATABASE_URL"] = self.url
        self.tokens = self.lab.prepare({"DATABASE_URL": self.url, "CHAT_DATA_DIR": str(data)})

    @property
    def doors(self) -> list[str]:
        return [web.door for web in self.webs]

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of the database as they are now; `?` stands for a value."""
        if not self.shared:
            path = self.url.removeprefix("sqlite:///")
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as connection:
                connection.row_factory = sqlite3.Row
                return [dict(row) for row in connection.execute(query, values)]
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row, connect_timeout=20) as server:
            return list(server.execute(query.replace("?", "%s").encode(), values))

    def accidents(self) -> list[str]:
        """What the web processes noted that nobody had foreseen."""
        lines = [line for web in self.webs for line in web.log.read_text(errors="replace").splitlines()]
        return [line for line in lines if any(word in line for word in ACCIDENTS)]
