"""The database from async code that serves no request: one unit of work, off the loop, with its connection closed.

Django closes connections when a request ends. Runs, sockets and streams are not requests, so they come through here.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

P = ParamSpec("P")
R = TypeVar("R")


def hold_open() -> BaseDatabaseWrapper | None:
    """For SQLite, a connection to keep for as long as the process lives; nothing is ever asked through it.

    Whoever closes the last connection to a database writes its whole journal back and deletes it. Without this one,
    that would be the end of nearly every request.
    """
    if connection.vendor != "sqlite":
        return None
    held = connection.copy()
    held.ensure_connection()
    return held


async def in_database(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a sync function in the thread that owns database work, and close its connections when it returns.

    A cancelled caller does not stop the work: it goes on in its thread and commits. Units run one after another in the
    order in which they were asked for.
    """

    def unit() -> R:
        try:
            return work(*args, **kwargs)
        finally:
            connections.close_all()

    return await sync_to_async(unit)()
