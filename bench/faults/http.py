"""Faults of the response as a whole: statuses, wrong bodies, a first try that fails."""

from __future__ import annotations

import zlib
from http import HTTPStatus

from bench.answer import Job, body, completed, streamed
from bench.faults.base import BREAKS, FAILS, STOPS, Fault, Play, until
from bench.script import Script
from bench.wire import FOREVER, LAST_CHUNK, Cut, Steps, as_json, error, framed, head, whole

STATUSES = (400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504)
PAGE = b"<!doctype html><html><head><title>Gateway</title></head><body><h1>In the way</h1></body></html>"
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def refuse(job: Job, status: int, **headers: str) -> Steps:
    """An error status with the JSON body of the OpenAI API."""
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    text = as_json(error(f"scripted {status} {HTTPStatus(status).phrase}", kind, f"scripted_{status}"))
    yield whole(status, text, X_Request_Id=f"req-{job.call.id}", **headers)


def status(code: int, **headers: str) -> Play:
    """Always this status."""
    return lambda job: refuse(job, code, **headers)


def answers(code: int, text: bytes, kind: str) -> Play:
    """Always this response."""
    return lambda job: iter([whole(code, text, kind)])


def patiently(code: int) -> Play:
    """An error status that names the seconds to wait."""
    return lambda job: refuse(job, code, Retry_After=f"{job.script.retry_after:g}")


def once(first: Play) -> Play:
    """Fails `fails` times for the same model name and messages, then answers well."""
    return lambda job: first(job) if job.call.attempt <= job.script.fails else streamed(job)


def cut(how: Cut) -> Play:
    """No byte at all, then the end of the connection."""
    return lambda job: iter([job.script.ttft, how])


def gzipped(job: Job) -> Steps:
    """Every event flushed on its own, so the stream stays live."""
    press = zlib.compressobj(wbits=31)
    yield job.head(Content_Encoding="gzip")
    yield from framed(_press(press, body(job)))
    yield from framed([press.flush()])
    yield LAST_CHUNK


def _press(press: zlib._Compress, steps: Steps) -> Steps:
    for step in steps:
        yield press.compress(step) + press.flush(zlib.Z_SYNC_FLUSH) if isinstance(step, bytes) else step


def until_close(job: Job) -> Steps:
    """The old way: no length, no chunks, the end of the connection ends the body."""
    yield head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
    yield from body(job)
    yield Cut.FIN


def until_close_early(job: Job) -> Steps:
    """The same, cut: nothing in HTTP tells the client that something is missing."""
    yield head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
    yield from until(job, iter([Cut.FIN]))


def as_type(kind: str) -> Play:
    """A healthy stream under another content type."""

    def play(job: Job) -> Steps:
        yield job.head(Content_Type=kind)
        yield from framed(body(job))
        yield LAST_CHUNK

    return play


def _statuses() -> list[Fault]:
    table = []
    for code in STATUSES:
        title = f"{code} {HTTPStatus(code).phrase}"
        page, nothing = answers(code, PAGE, "text/html"), answers(code, b"", "text/plain")
        table += [
            Fault(f"status-{code}", f"{title} with the JSON error body of the API.", status(code), FAILS, True),
            Fault(f"status-{code}-html", f"{title} with a web page, as a proxy sends it.", page, FAILS, True),
            Fault(f"status-{code}-empty", f"{title} without a body.", nothing, FAILS, True),
        ]
    return table


def _first_tries() -> list[Fault]:
    ways = [(code, status(code), f"{code} {HTTPStatus(code).phrase}") for code in (408, 429, 500, 502, 503, 504)]
    says = "{} for the first `fails` tries, then a good answer."
    return [Fault(f"{code}-once", says.format(title), once(play), STOPS, True) for code, play, title in ways]


_LATE = "Fri, 31 Dec 2100 23:59:59 GMT"


def unstreamed(job: Job) -> Steps:
    """A completion in one piece although a stream was asked for."""
    yield whole(200, as_json(completed(job)))


def all_or_nothing(script: Script, shown: str) -> bool:
    """Reading the JSON is as honest as refusing it."""
    return shown in ("", script.whole)


TABLE: list[Fault] = [
    *_statuses(),
    Fault("status-204", "204 No Content: a success with nothing in it.",
          lambda job: iter([head(204)]), FAILS),
    Fault("429-retry-after", "429 with Retry-After of `retry_after` seconds.", patiently(429), FAILS, True),
    Fault("429-retry-far", "429 with Retry-After of an hour.", status(429, Retry_After="3600"), FAILS, True),
    Fault("429-retry-date", "429 with Retry-After as a date far away.",
          status(429, Retry_After=_LATE), FAILS, True),
    Fault("429-retry-junk", "429 with Retry-After nobody can read.",
          status(429, Retry_After="soon"), FAILS, True),
    Fault("503-retry-after", "503 with Retry-After of `retry_after` seconds.", patiently(503), FAILS, True),
    *_first_tries(),
    Fault("429-retry-once", "429 with Retry-After first, then a good answer.",
          once(patiently(429)), STOPS, True),
    Fault("cut-once", "Closes without a byte the first time, then answers well.",
          once(cut(Cut.FIN)), STOPS, True),
    Fault("html-200", "200 with a web page, as a captive portal sends it.",
          answers(200, PAGE, "text/html"), FAILS),
    Fault("html-200-as-stream", "200 with a web page that claims to be an event stream.",
          answers(200, PAGE, "text/event-stream"), FAILS),
    Fault("json-200", "200 with a completion that is not a stream.", unstreamed,
          (("error", all_or_nothing), ("stop", all_or_nothing))),
    Fault("json-error-200", "200 with a JSON error and no stream.",
          answers(200, as_json(error("scripted error with 200", "server_error")), "application/json"), FAILS),
    Fault("empty-200", "200 with no body at all.", answers(200, b"", "text/event-stream"), FAILS),
    Fault("login-302", "Redirects to a log-in page, as a proxy in front does.",
          lambda job: iter([whole(302, b"", "text/plain", Location="/login")]), FAILS),
    Fault("redirect-loop", "307 to itself, for ever.",
          lambda job: iter([whole(307, b"", "text/plain", Location="/v1/chat/completions")]), FAILS),
    Fault("not-http", "Greets like a mail server.",
          lambda job: iter([b"220 mail ready\r\n", Cut.FIN]), FAILS),
    Fault("huge-header", "A header line of 200 kB.",
          lambda job: iter([head(200, {"X-Huge": "x" * 200_000, "Content-Length": "0"})]), FAILS),
    Fault("silent-headers", "Takes the request and never sends a byte.", lambda job: iter([FOREVER]), FAILS),
    Fault("cut-before-headers", "Closes (FIN) before the status line.", cut(Cut.FIN), FAILS, True),
    Fault("cut-before-headers-rst", "Resets (RST) before the status line.", cut(Cut.RST), FAILS, True),
    Fault("until-close", "A good answer without length or chunks, ended by closing.", until_close, STOPS),
    Fault("until-close-cut", "The same, closed too early: only the finish reason is missing.",
          until_close_early, BREAKS),
    Fault("gzip", "A good answer, compressed, every event flushed.", gzipped, STOPS),
    Fault("type-octet-stream", "A good stream called application/octet-stream.",
          as_type("application/octet-stream"), STOPS + FAILS),
    Fault("type-charset", "A good stream with an odd charset parameter.",
          as_type("text/event-stream;charset=UTF8"), STOPS),
]  # fmt: skip
