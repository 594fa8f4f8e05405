"""The database from async code that serves no request: one unit of work, off the loop.

Django tidies connections up when a request ends. Runs, sockets and streams are not requests, so they come through here.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections

P = ParamSpec("P")
R = TypeVar("R")


async def in_database(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a sync function in the thread that owns database work, and tidy up its connections when it returns.

    Units run one after another in the order in which they were asked for. Cancelling the caller drops a unit that has not
    begun; one that has goes on in its thread and commits.
    """

    def unit() -> R:
        try:
            return work(*args, **kwargs)
        finally:
            close_old_connections()

    return await sync_to_async(unit)()
