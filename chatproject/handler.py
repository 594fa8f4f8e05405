"""Django's ASGI handler for streams: an open stream holds no thread and no database connection.

Django keeps one thread for a whole request, and with it the database connection of whatever ran there. Here
both belong to the making of the response alone, and are borrowed from a few that all requests share. Sending it, which may
take an hour, belongs to nobody.
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import IO, Any

import django
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.core.exceptions import RequestAborted, RequestDataTooBig
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.urls import set_script_prefix

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

THREADS = 16  # that make responses
SPARE_AFTER = 0.25  # seconds that a request waits for one of them
MAX_BODY_BYTES = 1024 * 1024  # unless settings.CHAT_MAX_BODY_BYTES says otherwise
# Most clients read the answer only after they have sent all, so a refused body is read on, and dropped.
PATIENCE_BYTES = 16 * 1024 * 1024


def get_asgi_application() -> "Handler":
    """Sets Django up and returns the application for HTTP."""
    django.setup(set_prefix=False)
    return Handler()


class Workshop(ThreadPoolExecutor):
    """One thread, with the database connections that it has opened."""

    def __init__(self) -> None:
        super().__init__(1, "workshop")
        self.used = False

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.used = True
        return super().submit(*args, **kwargs)

    def tidy(self) -> None:
        """Close what settings do not let a thread keep (CONN_MAX_AGE), after everything that was asked of it before."""
        if self.used:
            super().submit(close_old_connections)
            self.used = False


class Handler(ASGIHandler):
    """Adds to Django's promises: no thread and no connection is held while a body is sent, and a request body
    over the limit is answered with 413 and not kept.

    A body that reads the database while it is sent does so in a `ThreadSensitiveContext` of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        # For signals, closers and files. A few threads serve all requests: a thread for each would cost more
        # than the work, and Django's choice, the process-wide thread, may be waiting for the database.
        self.errands = ThreadPoolExecutor(4, "errands")
        # Last in, first out: a quiet server keeps to one or two warm ones.
        self.workshops: asyncio.LifoQueue[Workshop] = asyncio.LifoQueue()
        for _ in range(THREADS):
            self.workshops.put_nowait(Workshop())

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"This application speaks HTTP, not {scope['type']}.")
        await self.handle(scope, receive, send)

    async def handle(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        set_script_prefix(get_script_prefix(scope))
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        except RequestDataTooBig as error:
            logger.warning("Refused a request to %s: %s", scope["path"], error)
            await self.send_response(await self.errand(too_large, scope, str(error)), send)
            return
        with body:
            await self.errand(request_started.send, sender=type(self), scope=scope)
            request, refusal = self.create_request(scope, body)
            made = [refusal] if refusal else []
            try:
                await unless_client_leaves(receive, self.answer(request, made, send))
            finally:
                finish = partial(request_finished.send, sender=type(self))
                await self.errand(made[0].close if made else finish)

    async def answer(self, request: HttpRequest | None, made: list[HttpResponseBase], send: Send) -> None:
        """Makes the response, unless it is made already, and sends it. The caller closes it in every case."""
        if request is not None:
            made.append(await self.run_get_response(request))
        await self.send_response(made[0], send)

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Makes the response in a workshop, which is free for the next request on return."""
        workshop = await self.borrow()
        try:
            async with ThreadSensitiveContext(executor=workshop):
                response = await super().run_get_response(request)
        finally:
            self.give_back(workshop)
        if isinstance(response, StreamingHttpResponse) and not response.is_async:
            response.streaming_content = self.in_pieces(iter(response))
        return response

    async def borrow(self) -> Workshop:
        """A free workshop. Requests that wait for something else may hold all of them, so then a spare one is opened."""
        try:
            async with asyncio.timeout(SPARE_AFTER):
                return await self.workshops.get()
        except TimeoutError:
            return Workshop()

    def give_back(self, workshop: Workshop) -> None:
        if self.workshops.qsize() < THREADS:
            workshop.tidy()
            self.workshops.put_nowait(workshop)
        else:
            workshop.submit(connections.close_all)
            workshop.shutdown(wait=False)

    async def in_pieces(self, content: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Reads a file piece by piece. Django would hold all of it in memory, and warn."""
        while (piece := await self.errand(next, content, None)) is not None:
            yield piece

    async def errand(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await sync_to_async(function, thread_sensitive=False, executor=self.errands)(*args, **kwargs)

    async def read_body(self, receive: Receive) -> IO[bytes]:
        """Returns the body as a file. Beyond the limit it is counted, not kept, whatever its headers say."""
        limit = getattr(settings, "CHAT_MAX_BODY_BYTES", MAX_BODY_BYTES)
        body = tempfile.SpooledTemporaryFile(settings.FILE_UPLOAD_MAX_MEMORY_SIZE)  # noqa: SIM115
        received, more = 0, True
        while more and received <= max(limit, PATIENCE_BYTES):
            message = await receive()
            if message["type"] == "http.disconnect":
                body.close()
                raise RequestAborted
            more = message.get("more_body", False)
            received += len(message.get("body", b""))
            if received <= limit:
                body.write(message.get("body", b""))
        if received > limit:
            body.close()
            limit = filesizeformat(limit)
            raise RequestDataTooBig(f"This is too large: at most {limit} can be sent at once.")
        body.seek(0)
        return body


def too_large(scope: dict[str, Any], message: str) -> HttpResponse:
    """The refusal of a body, in the form that its sender reads: a fragment for the page, JSON for a program."""
    values = {"code": "too_large", "message": message}
    if (b"hx-request", b"true") not in scope["headers"]:
        return JsonResponse(values, status=413)
    headers = {"HX-Retarget": "#problem", "HX-Reswap": "innerHTML"}
    return HttpResponse(render_to_string("chat/_problem.html", values), status=413, headers=headers)


async def unless_client_leaves(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Awaits the work. If the client leaves first, the work is cancelled, and has ended on return."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(client_leaves(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait((working, leaving))
    if not working.cancelled():
        working.result()


async def client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
