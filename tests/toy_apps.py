"""Small applications and services, one process each, for the tests of our server and handler.

`python tests/toy_apps.py <service> [server options]` serves them all; the path chooses the application.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from django.conf import settings
from django.db import connection
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from chatproject.server import main, reactor

KILOBYTE = 1024
FLOOD = 64 * 1024 * KILOBYTE

facts: dict[str, Any] = {"sent": 0, "streams": 0, "closed": 0, "state": "serving", "threads_started": 0}
draining = asyncio.Event()
released = asyncio.Event()
go_on = threading.Event()


def count_thread_starts() -> None:
    start = threading.Thread.start

    def counting_start(thread: threading.Thread) -> None:
        facts["threads_started"] += 1
        start(thread)

    threading.Thread.start = counting_start  # type: ignore[method-assign]


def proc_status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field + ":")))


def open_databases() -> int:
    files = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            files += descriptor.readlink().name == "toy.sqlite3"
    return files


def known_connections() -> int:
    """How many connections daphne keeps a record of; -1 when it no longer cleans up."""
    calls = [call.func for call in reactor.getDelayedCalls()]
    checks = [call for call in calls if getattr(call, "__name__", "") == "application_checker"]
    return len(checks[0].__self__.connections) if checks else -1


def unsent(transport: Any) -> int:
    return len(transport.dataBuffer) - transport.offset + transport._tempDataLen


# ASGI applications


async def tell_facts(scope: Any, receive: Any, send: Any) -> None:
    measured = {
        "peak_kilobytes": proc_status("VmHWM"),
        "threads": proc_status("Threads"),
        "databases": open_databases(),
        "connections": known_connections(),
        "unsent": max((unsent(writer) for writer in reactor.getWriters()), default=0),
    }
    await respond(send, json.dumps(facts | measured).encode())


async def respond(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def flood(scope: Any, receive: Any, send: Any) -> None:
    """Sends 64 MB as fast as it is taken."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    piece = b"x" * 64 * KILOBYTE
    while facts["sent"] < FLOOD:
        facts["sent"] += len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"!"})


async def watched_flood(scope: Any, receive: Any, send: Any) -> None:
    """A flood that is over when its reader has gone."""
    flooding = asyncio.create_task(flood(scope, receive, send))
    await receive()  # the request
    await receive()  # the disconnect
    flooding.cancel()
    facts["state"] = "reader gone"


async def one_piece(scope: Any, receive: Any, send: Any) -> None:
    """Sends 8 MB in a single message."""
    await respond(send, b"x" * 8 * 1024 * KILOBYTE)
    facts["state"] = "one piece sent"


async def ticks(scope: Any, receive: Any, send: Any) -> None:
    """A numbered line every 10 ms, and a goodbye when the service drains."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    facts["streams"] += 1
    number = 0
    while not draining.is_set():
        await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
        number += 1
        await asyncio.sleep(0.01)
    facts["streams"] -= 1
    await send({"type": "http.response.body", "body": b"goodbye\n"})


async def for_ever(scope: Any, receive: Any, send: Any) -> None:
    """A stream that takes no notice of the drain."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello\n", "more_body": True})
    await asyncio.Event().wait()


async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half of", "more_body": True})
    raise RuntimeError("broke off")


async def stuck(scope: Any, receive: Any, send: Any) -> None:
    """Leaves a thread behind that never ends."""
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    await respond(send, b"stuck")


async def release(scope: Any, receive: Any, send: Any) -> None:
    released.set()
    go_on.set()
    await respond(send, facts["state"].encode(), 503 if draining.is_set() else 200)


async def echo_root(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, repr((scope["root_path"], scope["path"])).encode())


async def socket_flood(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    facts["state"] = "flooding"
    flooding = asyncio.create_task(socket_messages(send))
    message = await receive()
    while message["type"] != "websocket.disconnect":
        message = await receive()
    flooding.cancel()
    facts["state"] = "socket gone"


async def socket_messages(send: Any) -> None:
    while facts["sent"] < FLOOD:
        facts["sent"] += 8 * KILOBYTE
        await send({"type": "websocket.send", "text": "x" * 8 * KILOBYTE})


async def socket_echo_root(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": repr((scope["root_path"], scope["path"]))})
    await receive()


# A Django project


class Beats:
    """A body that counts how many are open, and lasts until its reader leaves or `/release` is asked for."""

    def __init__(self) -> None:
        self.started = False
        facts["streams"] += 1

    def __aiter__(self) -> "Beats":
        return self

    async def __anext__(self) -> bytes:
        if not self.started:
            self.started = True
            return b"beat\n"
        await released.wait()
        raise StopAsyncIteration

    def close(self) -> None:
        facts["streams"] -= 1
        facts["closed"] += 1


def query() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])


def stream_view(request: Any) -> StreamingHttpResponse:
    query()
    return StreamingHttpResponse(Beats())


def hesitant_view(request: Any) -> HttpResponse:
    query()
    facts["state"] = "hesitating"
    go_on.wait()
    return HttpResponse("late")


def failing_stream_view(request: Any) -> StreamingHttpResponse:
    async def body() -> Any:
        yield b"half of"
        raise RuntimeError("broke off")

    return StreamingHttpResponse(body())


def query_view(request: Any) -> JsonResponse:
    return JsonResponse({"answer": query()})


async def async_view(request: Any) -> HttpResponse:
    return HttpResponse(b"async")


def length_view(request: Any) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


def file_view(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"piece one, ", b"piece two"]))


urlpatterns = [
    path("stream", stream_view),
    path("hesitant", hesitant_view),
    path("failing-stream", failing_stream_view),
    path("query", query_view),
    path("async", async_view),
    path("length", length_view),
    path("file", file_view),
]


def django_application() -> Any:
    directory = os.environ["TOY_DIRECTORY"]
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{directory}/toy.sqlite3"}
    settings.configure(
        ROOT_URLCONF=__name__, DATABASES={"default": database}, ALLOWED_HOSTS=["*"], MIDDLEWARE=[],
        DATA_UPLOAD_MAX_MEMORY_SIZE=None, **json.loads(os.environ.get("TOY_SETTINGS", "{}")),
    )  # fmt: skip
    from chatproject.handler import get_asgi_application  # not before there are settings

    return get_asgi_application()


async def liar(scope: Any, receive: Any, send: Any) -> None:
    """Django, told that one byte will come."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    await django(dict(scope, path="/length", headers=[*headers, (b"content-length", b"1")]), receive, send)


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """Django, with a body that never ends. Tells how many megabytes of it were read."""
    megabytes = 0

    async def receive_more() -> dict[str, Any]:
        nonlocal megabytes
        megabytes += 1
        return {"type": "http.request", "body": bytes(1024 * KILOBYTE), "more_body": True}

    status = 0

    async def send_status(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    await django(dict(scope, path="/length"), receive_more, send_status)
    await respond(send, f"{status} after {megabytes} MB".encode())


APPLICATIONS = {
    "/facts": tell_facts, "/flood": flood, "/watched-flood": watched_flood, "/one-piece": one_piece,
    "/ticks": ticks, "/for-ever": for_ever, "/breaks-off": breaks_off, "/release": release,
    "/stuck": stuck, "/root": echo_root, "/liar": liar, "/endless": endless,
    "/socket-flood": socket_flood, "/socket-root": socket_echo_root,
}  # fmt: skip


async def application(scope: Any, receive: Any, send: Any) -> None:
    await APPLICATIONS.get(scope["path"], django)(scope, receive, send)


# Services


class Steady:
    """Starts and drains at once."""

    async def start(self) -> None:
        print("service started", flush=True)

    async def drain(self) -> None:
        facts["state"] = "draining"
        draining.set()
        print("service drained", flush=True)


class Polite(Steady):
    """Drains until every `/ticks` reader has had its goodbye."""

    async def drain(self) -> None:
        facts["state"] = "draining"
        draining.set()
        while facts["streams"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        print("service drained", flush=True)


class Patient(Steady):
    """Drains until `/release` is asked for."""

    async def drain(self) -> None:
        facts["state"] = "draining"
        draining.set()
        await released.wait()
        print("service drained", flush=True)


class Broken(Steady):
    async def start(self) -> None:
        raise RuntimeError("another process has the log")


class BrokenDrain(Steady):
    async def drain(self) -> None:
        raise RuntimeError("no way to say goodbye")


class Slow(Steady):
    """Says when it began to start and when it was done."""

    async def start(self) -> None:
        print("service starting", flush=True)
        await asyncio.sleep(0.2)
        print("service started at", time.monotonic(), flush=True)


SERVICES = {"steady": Steady, "polite": Polite, "patient": Patient, "broken": Broken}
SERVICES |= {"broken-drain": BrokenDrain, "slow": Slow}

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs us aside has it ignored
    count_thread_starts()
    django = django_application()
    options = json.loads(os.environ.get("TOY_OPTIONS", "{}"))
    main(sys.argv[2:], application, service=SERVICES[sys.argv[1]](), **options)
