"""A real Parley for tests: the server in a process of its own, and clients that speak HTTP, SSE and WebSocket with it."""

import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parent.parent
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Parley:
    """A server process on a data directory of its own. Restarting keeps directory and port."""

    def __init__(
        self, data: Path, env: dict[str, str], people: dict[str, Any], command: list[str] | None = None
    ) -> None:
        self.data = data
        self.port = free_port()
        self.base = f"127.0.0.1:{self.port}"
        self.people = people
        self.command = command or [sys.executable, "-m", "chatproject.server", "--port", str(self.port)]
        self.env = clean_env(data) | env
        self.log = data / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Parley":
        """Serve; returns when it answers."""
        with self.log.open("ab") as log:
            command = [part.replace("{port}", str(self.port)) for part in self.command]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log)
        until(self.answers, f"the server answers; its log: {self.log}")
        return self

    def answers(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended:\n{self.log.read_text()}")
        try:
            return self.client().get("/healthz").status == 200
        except OSError:
            return False

    def end(self, sign: signal.Signals = signal.SIGTERM, patience: float = PATIENCE) -> int:
        """Send a signal and wait for the exit status."""
        assert self.process
        self.process.send_signal(sign)
        return self.process.wait(patience)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def client(self, name: str = "", *, token: bool = False, **extra: str) -> Client:
        """Somebody who is signed in: alice, bob, staff (may see the board), boss (superuser), or nobody."""
        person = self.people.get(name, {})
        headers = {key.replace("_", "-"): value for key, value in extra.items()}
        if token:
            return Client(self.base, token=person["token"], extra=headers)
        return Client(self.base, session=person.get("session", ""), extra=headers)

    def sign_up(self, name: str) -> Client:
        """A new account, signed in; its password is PASSWORD."""
        return self.enter("/signup/", username=name, password1=PASSWORD, password2=PASSWORD)

    def sign_in(self, name: str, password: str = "") -> Client:
        """One more session of somebody who signed up, as on a second device."""
        return self.enter("/login/", username=name, password=password or PASSWORD)

    def enter(self, path: str, **form: str) -> Client:
        response = self.client().post(path, form)
        assert response.status == 302, response.text
        return Client(self.base, session=response.cookies["sessionid"].partition("=")[2].partition(";")[0])

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of the database, as they are now. Uuids are written as hex without dashes."""
        connection = sqlite3.connect(f"file:{self.data / 'db.sqlite3'}?mode=ro", uri=True, timeout=20)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(query, values)]
        finally:
            connection.close()

    def answer(self, answer: str) -> dict[str, Any]:
        """The row of an answer."""
        return self.rows("select * from chat_message where id = ?", answer.replace("-", ""))[0]

    def calls(self, answer: str) -> list[dict[str, Any]]:
        """The ledger rows of an answer, oldest first."""
        return self.rows("select * from chat_modelcall where answer_id = ? order by id", answer.replace("-", ""))

    def ended(self, answer: str) -> dict[str, Any]:
        """The row of an answer, once it has ended."""
        return until(lambda: (row := self.answer(answer))["status"] != "open" and row, f"answer {answer} ends")

    def manage(self, *args: str) -> str:
        """Output of a management command on this server's database."""
        command = [sys.executable, "manage.py", *args]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=True)
        return done.stdout

    def shell(self, code: str) -> str:
        """Run Python with this server's rows, in a process of its own: how operators change what has no page."""
        return self.manage("shell", "-v0", "-c", code)

    def threads(self) -> int:
        """How many threads the server has."""
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("Threads:")[1].split()[0])

    def connections(self) -> int:
        """How many times the server has its database open."""
        assert self.process
        count = 0
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since the list was made
                count += link.readlink().name == "db.sqlite3"
        return count


def clean_env(data: Path) -> dict[str, str]:
    """The environment of a server: nothing of the caller's but where programs are."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"CHAT_DATA_DIR": str(data), "PYTHONWARNINGS": "default", "LOG_LEVEL": "INFO"}


SEED = """
import json
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from chat.models import ApiToken
people = {}
for name in ("alice", "bob", "staff", "boss", "gone"):
    user = get_user_model().objects.create(username=name, is_staff=name in ("staff", "boss"), is_superuser=name == "boss")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    people[name] = {"id": user.pk, "session": session.session_key, "token": ApiToken.create_for(user)}
get_user_model().objects.filter(username="gone").update(is_active=False)
print(json.dumps(people))
"""


def prepare(data: Path) -> dict[str, Any]:
    """Make a data directory with a migrated database, people and static files; returns the people."""
    env = clean_env(data)
    for args in (["migrate", "-v0"], ["collectstatic", "--no-input", "-v0"]):
        subprocess.run([sys.executable, "manage.py", *args], cwd=ROOT, env=env, check=True)
    seed = [sys.executable, "manage.py", "shell", "-v0", "-c", SEED]
    done = subprocess.run(seed, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    people: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return people


def copy_of(prepared: Path, data: Path) -> Path:
    """A data directory of its own; static files, which nobody writes, are shared."""
    data.mkdir(parents=True)
    for name in ("db.sqlite3", "secret_key"):
        shutil.copy(prepared / name, data / name)
    (data / "static").symlink_to(prepared / "static")
    return data
