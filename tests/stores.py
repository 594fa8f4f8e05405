"""Where the servers of tests keep what they know: SQLite and memory, or PostgreSQL and Redis; and who the people are.

Making a database takes seconds, so each kind is made once, and copied for every server.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from bench.services import Postgres, Redis
from tests.parley import ROOT, clean_env

PREPARE = """
import json
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from chat.models import ApiToken
call_command("migrate", verbosity=0)
call_command("collectstatic", interactive=False, verbosity=0)
people = {}
for name in ("alice", "bob", "staff", "boss", "gone"):
    user = get_user_model().objects.create(username=name, is_staff=name in ("staff", "boss"), is_superuser=name == "boss")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    people[name] = {"id": user.pk, "session": session.session_key, "token": ApiToken.create_for(user)}
get_user_model().objects.filter(username="gone").update(is_active=False)
print(json.dumps(people))
"""


class Stores(Protocol):
    """One kind of stores. `people` are in every copy: what each signs in with."""

    people: dict[str, Any]

    def fresh(self, data: Path) -> dict[str, str]:
        """Make this data directory and stores to go with it; returns the settings that lead to them."""

    def drop(self, env: dict[str, str]) -> None:
        """Remove the stores of these settings again, when no server uses them."""


class OwnStores:
    """SQLite and the log in memory: what a server has that is told nothing."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.people = prepare(place, {})

    def fresh(self, data: Path) -> dict[str, str]:
        share(self.place, data)
        shutil.copy(self.place / "db.sqlite3", data / "db.sqlite3")
        return {}

    def drop(self, env: dict[str, str]) -> None:
        """They are files of the test."""


class SharedStores:
    """PostgreSQL and Redis: what several servers can have in common."""

    def __init__(self, place: Path, postgres: Postgres, redis: Redis) -> None:
        self.place, self.postgres, self.redis = place, postgres, redis
        self.template = postgres.new_database()
        self.people = prepare(place, {"DATABASE_URL": self.template})

    def fresh(self, data: Path) -> dict[str, str]:
        share(self.place, data)
        return {
            "DATABASE_URL": self.postgres.new_database(self.template),
            "REDIS_URL": self.redis.url,
            "REDIS_PREFIX": f"test-{uuid4().hex[:12]}",
        }

    def drop(self, env: dict[str, str]) -> None:
        if self.postgres.process:  # a test may have ended its own
            self.postgres.drop_database(env["DATABASE_URL"])


def prepare(data: Path, stores: dict[str, str]) -> dict[str, Any]:
    """Make a data directory with static files, and a migrated database with people in it; returns the people."""
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", PREPARE]
    env = clean_env(data) | stores
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True, text=True)
    people: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return people


def share(prepared: Path, data: Path) -> None:
    """A data directory of its own with the same secret key; static files, which nobody writes, are the same ones."""
    data.mkdir(parents=True)
    shutil.copy(prepared / "secret_key", data / "secret_key")
    (data / "static").symlink_to(prepared / "static")
