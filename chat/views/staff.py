"""The staff's live board, and the signs that this process is alive and ready."""

import asyncio

from asgiref.sync import sync_to_async
from django.db import Error as StorageError
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from chat import dashboard, runner
from chat.views.doors import door

DATABASE_SECONDS = 2.0


@door("GET", staff=True, page=True)
async def live(request: HttpRequest) -> HttpResponseBase:
    """The board; its figures come over /ws/dashboard/."""
    return await sync_to_async(render)(request, "dashboard/live.html", {"minutes": dashboard.TTFT_MINUTES})


async def healthz(request: HttpRequest) -> HttpResponse:
    """Alive, and nothing else."""
    return HttpResponse("ok\n", content_type="text/plain")


async def readyz(request: HttpRequest) -> HttpResponse:
    """Whether new work is welcome here: 200, or 503 while the process leaves or its database does not answer.

    A lost Redis does not count: everything goes on without it.
    """
    problem = "" if runner.is_running() else "leaving"
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            await sync_to_async(look)()
    except (StorageError, TimeoutError):
        problem = problem or "no database"
    return HttpResponse(f"{problem or 'ready'}\n", content_type="text/plain", status=503 if problem else 200)


def look() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
