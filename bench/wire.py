"""HTTP/1.1 and server-sent events as bytes, and the steps a scripted response is made of."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from bench.script import Gate


class Cut(enum.Enum):
    """Drops the connection: FIN, as a process that ends does, or RST, as a machine that came back does."""

    FIN = "fin"
    RST = "rst"


# bytes are written; a number waits until so many seconds after the request came; Gate waits for a test.
Step = bytes | float | Gate | Cut
Steps = Iterator[Step]

FOREVER = math.inf  # as a step: says nothing more, until the client leaves
LAST_CHUNK = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def head(status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """Status line and headers. The caller decides how the body is delimited."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{fields}\r\n".encode()


def whole(status: int, body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    """A complete response with its length. Underscores in header names stand for hyphens."""
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    return head(status, {"Content-Type": kind, "Content-Length": str(len(body)), **extra}) + body


def as_json(value: Any) -> bytes:
    """Compact JSON; characters stay as they are, except surrogates, which UTF-8 cannot carry."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def event(value: Any) -> bytes:
    """One server-sent event that carries JSON."""
    return b"data: %b\n\n" % as_json(value)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def framed(steps: Iterable[Step]) -> Steps:
    """Each piece of a body as a chunk; the other steps as they are."""
    for step in steps:
        yield chunk(step) if isinstance(step, bytes) else step


def error(message: str, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    """An error body in the shape of the OpenAI API."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
