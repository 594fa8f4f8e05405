"""Clients that speak HTTP, Server-Sent Events and WebSocket with a real server."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

PATIENCE = 20.0  # seconds until something that should have happened has failed to
PASSWORD = "quiet-harbour-42"  # of everybody who signs up


def until(happened: Callable[[], Any], what: str = "", patience: float = PATIENCE) -> Any:
    """Wait until `happened()` is true and return it."""
    end = time.monotonic() + patience
    while not (result := happened()):
        if time.monotonic() > end:
            raise AssertionError(f"it did not happen within {patience} s: {what or happened}")
        time.sleep(0.01)
    return result


@dataclass
class Response:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: dict[str, str] = field(default_factory=dict)  # whole Set-Cookie lines by the cookie's name

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Frame:
    """One event as it came over SSE. `data` is decoded; `id` is empty for events without a position."""

    name: str
    data: Any
    id: str = ""


class EventStream:
    """An open event stream, read frame by frame. Closing it cuts the socket."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self.connection = connection
        self.response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.last_id = ""
        self.unread = b""  # came, but is no whole frame yet, or was not asked for

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Frames until the server ends the response. Raises http.client.IncompleteRead if it was cut instead."""
        while True:
            while b"\n\n" in self.unread:
                block, _, self.unread = self.unread.partition(b"\n\n")
                fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
                if "event" in fields:
                    self.last_id = fields.get("id", self.last_id)
                    yield Frame(fields["event"], json.loads(fields["data"]), fields.get("id", ""))
            if not (piece := self.response.read1()):
                return
            self.unread += piece

    def read(self, enough: Callable[[list[Frame]], object], patience: float = 2 * PATIENCE) -> list[Frame]:
        """Frames until they are enough. Pings alone do not keep it waiting for ever."""
        frames: list[Frame] = []
        end = time.monotonic() + patience
        while not enough(frames):
            frame = next(iter(self), None)
            assert frame, f"the stream ended: {frames[-3:]}"
            assert time.monotonic() < end, f"not enough within {patience} s: {frames[-3:]}"
            frames.append(frame)
        return frames

    def read_until(self, *names: str) -> list[Frame]:
        """Frames up to and including the first one of these names."""
        return self.read(lambda frames: frames and frames[-1].name in names)

    def read_tokens(self, count: int) -> list[Frame]:
        """Frames up to and including the one that completes this many tokens."""
        return self.read(lambda frames: sum(f.data["n"] for f in frames if f.name == "token") >= count)

    def close(self) -> None:
        if self.connection.sock:
            self.connection.sock.close()
        self.response.close()
        self.connection.close()


def shown(frames: list[Frame]) -> str:
    """The visible text of the frames: all tokens since the last `started`."""
    starts = [i for i, frame in enumerate(frames) if frame.name == "started"]
    return "".join(frame.data["text"] for frame in frames[starts[-1] if starts else 0 :] if frame.name == "token")


@dataclass
class Client:
    """Somebody who talks to a server: with a session cookie, a bearer token, or nobody at all."""

    base: str
    session: str = ""
    token: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    csrf: str = "c" * 32

    def headers(self) -> dict[str, str]:
        headers = dict(self.extra)
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        else:
            headers["Cookie"] = f"csrftoken={self.csrf}" + (f"; sessionid={self.session}" if self.session else "")
            headers["X-CSRFToken"] = self.csrf
        return headers

    def open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = PATIENCE
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request and return when the response's headers are there. A dict goes out as a form."""
        connection = http.client.HTTPConnection(self.base, timeout=timeout)
        all_headers = self.headers() | (headers or {})
        if isinstance(body, dict):
            body = urlencode(body)
            all_headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        connection.request(method, path, body, all_headers)
        return connection, connection.getresponse()

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """A whole request. Header names are written with underscores: `Last_Event_ID`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection, response = self.open(method, path, body, named)
        with closing(connection), response:
            named = {k.lower(): v for k, v in response.getheaders()}
            lines = response.headers.get_all("Set-Cookie") or []
            return Response(response.status, named, response.read(), {line.partition("=")[0]: line for line in lines})

    def get(self, path: str, **headers: str) -> Response:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Response:
        return self.request("POST", path, {} if body is None else body, **headers)

    def post_json(self, path: str, body: Any, **headers: str) -> Response:
        return self.post(path, json.dumps(body), Content_Type="application/json", Accept="application/json", **headers)

    def ask(self, text: str = "Hello", model: str = "fake", conversation: str = "", **headers: str) -> dict[str, Any]:
        """Ask, and return the JSON: answer, conversation, question, events."""
        path = f"/conversations/{conversation}/messages" if conversation else "/conversations"
        response = self.post(path, {"text": text, "model": model}, Accept="application/json", **headers)
        assert response.status in (200, 201), (response.status, response.text)
        return response.json()

    def events(self, answer: str, after: str = "", last_event_id: str = "", timeout: float = PATIENCE) -> EventStream:
        """Follow an answer."""
        path = f"/answers/{answer}/events" + (f"?{urlencode({'after': after})}" if after else "")
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        return EventStream(*self.open("GET", path, None, headers, timeout))

    def stream(self, text: str = "Hello", model: str = "fake", **headers: str) -> EventStream:
        """Ask in one step, and follow."""
        named = {name.replace("_", "-"): value for name, value in headers.items()} | {"Accept": "text/event-stream"}
        return EventStream(*self.open("POST", "/conversations", {"text": text, "model": model}, named))

    def read_to_end(self, answer: str) -> list[Frame]:
        """All frames of an answer, from the start to `close`."""
        with self.events(answer) as stream:
            return stream.read_until("close")

    def stop(self, answer: str) -> dict[str, Any]:
        """Stop an answer; returns the receipt."""
        response = self.post(f"/answers/{answer}/stop", Accept="application/json")
        assert response.status == 200, (response.status, response.text)
        return response.json()

    def state(self, answer: str) -> dict[str, Any]:
        return self.get(f"/answers/{answer}").json()

    @contextmanager
    def socket(self, path: str = "/ws/chat/", origin: str = "", **options: Any) -> Iterator[ClientConnection]:
        """An open WebSocket."""
        with connect(
            f"ws://{self.base}{path}",
            origin=origin or f"http://{self.base}",  # type: ignore[arg-type]
            additional_headers={"Cookie": self.headers().get("Cookie", "")},
            **options,
        ) as connection:
            yield connection


def say(connection: ClientConnection, **message: Any) -> None:
    """Send one JSON object over a WebSocket."""
    connection.send(json.dumps(message))


def hear(connection: ClientConnection, *kinds: str, patience: float = PATIENCE) -> dict[str, Any]:
    """The next message of one of these types; others are passed over."""
    end = time.monotonic() + patience
    while True:
        message = json.loads(connection.recv(timeout=max(0.0, end - time.monotonic())))
        if message["type"] in kinds:
            return message


def close_code(connection: ClientConnection, patience: float = PATIENCE) -> int:
    """Why the server closed the socket, once it has; messages before that are passed over."""
    end = time.monotonic() + patience
    while True:
        try:
            connection.recv(timeout=max(0.0, end - time.monotonic()))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
