"""What can be loaded: Parley and the provider itself, each asked in its own way and read into the same shape."""

from __future__ import annotations

import http.client
import json
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

from bench.http_client import Client, Response
from bench.script import Script


@dataclass
class Stream:
    """What one reader saw. Times are time.monotonic()."""

    prompt: str
    sent_at: float = 0.0
    first_at: float | None = None
    tokens: list[float] = field(default_factory=list, repr=False)  # when each provider delta had arrived
    text: str = field(default="", repr=False)
    ending: str = ""
    problem: str = ""  # why this stream does not count

    @property
    def ttft(self) -> float:
        """Seconds from sending the question to the first token."""
        assert self.first_at is not None
        return self.first_at - self.sent_at


class Target(ABC):
    """Something that answers a question with a stream."""

    def __init__(self, url: str, model: str) -> None:
        self.url = url
        self.model = model
        self.script = Script.of(model)

    @abstractmethod
    async def ask(self, client: Client, number: int, prompt: str) -> tuple[float, Response]:
        """Ask as user `number`; returns when the question was sent, and the finished stream."""

    @abstractmethod
    def read(self, seen: Stream, response: Response) -> None:
        """Fill in tokens, text and ending. Called when the load is over."""


class Direct(Target):
    """The provider itself: the load that both sides share."""

    async def ask(self, client: Client, number: int, prompt: str) -> tuple[float, Response]:
        body = {"model": self.model, "stream": True, "messages": [{"role": "user", "content": prompt}]}
        headers = {"Authorization": "Bearer bench", "Content-Type": "application/json"}
        response = await client.request("POST", "/v1/chat/completions", headers, json.dumps(body).encode())
        return response.sent_at, response

    def read(self, seen: Stream, response: Response) -> None:
        said = []
        for at, _, data in events(response.timed_body()):
            if data == "[DONE]":
                break
            for choice in json.loads(data)["choices"]:
                if content := choice["delta"].get("content"):
                    said.append(content)
                    seen.tokens.append(at)
                seen.ending = choice["finish_reason"] or seen.ending
        seen.text = "".join(said)


class ThroughParley(Target):
    """Parley, as programs use it. `logins` are the headers that prove who asks, used in turn.

    One step: the POST answers with the stream. Two steps, as a page does: the POST answers with links, and a GET
    over the same connection follows the stream.
    """

    def __init__(self, url: str, model: str, logins: Sequence[dict[str, str]], two_steps: bool = False) -> None:
        super().__init__(url, model)
        self.logins = logins
        self.two_steps = two_steps

    async def ask(self, client: Client, number: int, prompt: str) -> tuple[float, Response]:
        login = self.logins[number % len(self.logins)]
        accept = "application/json" if self.two_steps else "text/event-stream"
        headers = {
            **login, "Accept": accept, "Idempotency-Key": str(uuid.uuid4()),
            "Content-Type": "application/x-www-form-urlencoded",
        }  # fmt: skip
        body = urlencode({"text": prompt, "model": self.model}).encode()
        response = await client.request("POST", "/conversations", headers, body)
        sent_at = response.sent_at
        if self.two_steps and response.status in (200, 201):
            events_url = json.loads(response.body)["events"]
            response = await client.request("GET", events_url, {**login, "Accept": "text/event-stream"})
        return sent_at, response

    def read(self, seen: Stream, response: Response) -> None:
        said: list[str] = []
        for at, name, data in events(response.timed_body()):
            value = json.loads(data)
            if name == "started":
                said.clear()
                seen.tokens.clear()
            elif name == "token":
                said.append(value["text"])
                seen.tokens += [at] * value["n"]
            elif name == "done":
                seen.ending = value["reason"]
            elif name == "error":
                seen.problem = f"error event: {value['code']}"
        seen.text = "".join(said)


def events(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, str, str]]:
    """Arrival, name and data of each server-sent event that has data."""
    name, data, rest = "", "", b""
    for at, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            key, _, value = line.rstrip(b"\r").decode().partition(":")
            if key == "event":
                name = value.strip()
            elif key == "data":
                data += value.removeprefix(" ")
            elif not key and not value and (name or data):
                if data:
                    yield at, name, data
                name = data = ""


def bearer(token: str) -> dict[str, str]:
    """The headers of a program with a personal token."""
    return {"Authorization": f"Bearer {token}"}


def log_in(url: str, username: str, password: str) -> dict[str, str]:
    """Log in through the form, as a browser does, and return the headers of that session."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    cookies = SimpleCookie()

    def go(verb: str, body: str | None = None) -> tuple[int, str]:
        headers = {"Cookie": "; ".join(f"{name}={part.value}" for name, part in cookies.items())}
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": url.rstrip("/")}
        connection.request(verb, "/login/", body, headers)
        response = connection.getresponse()
        for line in response.headers.get_all("Set-Cookie") or []:
            cookies.load(line)
        return response.status, response.read().decode()

    try:
        _, page = go("GET")
        field = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        form = {"csrfmiddlewaretoken": field[1] if field else "", "username": username, "password": password}
        status, _ = go("POST", urlencode(form))
    finally:
        connection.close()
    if status != 302:
        raise RuntimeError(f"{username} could not log in: status {status}")
    cookie = "; ".join(f"{name}={part.value}" for name, part in cookies.items())
    return {"Cookie": cookie, "X-CSRFToken": cookies["csrftoken"].value, "Origin": url.rstrip("/")}
