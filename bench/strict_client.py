"""A client that reads a provider's stream as it should be read: the measure that the fault table is held against.

It uses the official SDK for the request and its errors, and trusts it with nothing after that: an answer is good only
if a finish reason was seen, and every delta is looked at before it is believed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import openai

MAX_EVENT = 8_000_000  # bytes
MAX_TEXT = 6_000_000  # characters
REASONS = {"length": "length", "content_filter": "content_filter"}


class BrokenError(Exception):
    """This is no answer."""


def ask(url: str, model: str, patience: float = 0.5, longest: float = 5.0) -> tuple[str, str, str]:
    """Ask once, repeat once if the SDK thinks it wise, and return (ending, visible text, why).

    The ending is stop, length, content_filter or error. `patience` seconds without a token, or `longest` seconds in
    all, are an error.
    """
    client = openai.OpenAI(base_url=url, api_key="bench", max_retries=1, timeout=patience)
    answer = Answer(patience, longest)
    try:
        with client.chat.completions.with_streaming_response.create(
            model=model, messages=[{"role": "user", "content": "Hello"}], stream=True
        ) as response:
            answer = Answer(patience, longest)  # from the headers on: a repeated request has waited before
            for name, data in events(response.iter_bytes()):
                if answer.take(name, data):
                    break
    except Exception as problem:  # whatever the SDK, the transport or a parser raises, the answer is over
        if not answer.ending:
            return "error", answer.text, f"{type(problem).__name__}: {problem}"
    finally:
        client.close()
    return answer.ending or "error", answer.text, "" if answer.ending else "no finish reason"


def events(chunks: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    """Event name and data, for every event, and for every chunk that completes none: ("", "")."""
    name, data, rest = "", list[str](), b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_EVENT:
            raise BrokenError("an event without end")
        for raw in lines:
            field, _, value = raw.removesuffix(b"\r").decode().partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value
            elif field == "error":
                raise BrokenError("an error line")
            elif field == "" and not value and (data or name):
                yield name, "\n".join(data)
                name, data = "", []
        yield "", ""


class Answer:
    """What has been understood so far."""

    def __init__(self, patience: float, longest: float) -> None:
        self.patience = patience
        self.heard = time.monotonic()
        self.deadline = self.heard + longest
        self.said: list[str] = []
        self.length = 0
        self.ending = ""

    @property
    def text(self) -> str:
        """The visible text: surrogate pairs joined, lone ones replaced, without NUL."""
        joined = "".join(self.said).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return joined.replace("\0", "")

    def take(self, name: str, data: str) -> bool:
        """Understand one event; True when the answer is over."""
        now = time.monotonic()
        if now - self.heard > self.patience or now > self.deadline:
            raise BrokenError("no token in time")
        if name == "error":
            raise BrokenError(f"an error event: {data}")
        if not data:
            return False
        if data == "[DONE]":
            return True
        self.read(json.loads(data))
        if self.length > MAX_TEXT:
            self.ending = "length"
        return bool(self.ending)

    def read(self, chunk: Any) -> None:
        """Understand one chunk. What is missing or null is ignored, what has the wrong type is an error."""
        if not isinstance(chunk, dict) or chunk.get("error"):
            raise BrokenError(f"not a chunk: {str(chunk)[:200]}")
        for choice in of_type(list, chunk.get("choices")):
            if choice is not None and not of_type(dict, choice).get("index"):
                self.read_choice(choice)

    def read_choice(self, choice: dict[str, Any]) -> None:
        """Understand a choice. The first finish reason counts, and nothing after it."""
        content = of_type(str, of_type(dict, choice.get("delta")).get("content"))
        if content:
            self.heard = time.monotonic()
            self.said.append(content)
            self.length += len(content)
        if reason := of_type(str, choice.get("finish_reason")):
            self.ending = REASONS.get(reason, "stop")


def of_type(kind: type, value: Any) -> Any:
    """The value, or an empty one in place of null; BrokenError for any other type."""
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise BrokenError(f"{kind.__name__} expected: {str(value)[:200]}")
    return value
