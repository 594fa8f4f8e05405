"""A real Parley for tests: the server in a process of its own. Its clients are in tests/client.py."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.service import free_port
from tests.client import (
    PASSWORD,
    PATIENCE,
    Client,
    EventStream,
    Frame,
    Response,
    close_code,
    hear,
    say,
    shown,
    until,
)
from tests.database import open_connections, rows

__all__ = [
    "PASSWORD",
    "PATIENCE",
    "ROOT",
    "Client",
    "EventStream",
    "Frame",
    "Parley",
    "Response",
    "clean_env",
    "close_code",
    "free_port",
    "hear",
    "say",
    "shown",
    "until",
]

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0  # until a server that does not answer has failed to start, also on a machine with much else to do


class Parley:
    """A server process with a data directory of its own. Restarting keeps directory and port."""

    def __init__(
        self, data: Path, env: dict[str, str], people: dict[str, Any], command: list[str] | None = None
    ) -> None:
        self.data = data
        self.port = free_port()
        self.base = f"127.0.0.1:{self.port}"
        self.people = people
        self.command = command or [sys.executable, "-m", "chatproject.server", "--port", str(self.port)]
        self.env = clean_env(data) | {"PGAPPNAME": f"parley-{self.port}"} | env
        self.log = data / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start the process without waiting until it serves."""
        with self.log.open("ab") as log:
            command = [part.replace("{port}", str(self.port)) for part in self.command]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log)

    def start(self) -> "Parley":
        """Serve; returns when it answers."""
        self.launch()
        return self.ready()

    def ready(self) -> "Parley":
        """Return when it answers."""
        until(self.answers, f"the server answers; its log: {self.log}", 3 * PATIENCE)
        return self

    def answers(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended:\n{self.log.read_text()}")
        try:
            return self.client().get("/healthz").status == 200
        except OSError:
            return False

    @property
    def is_up(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def end(self, sign: signal.Signals = signal.SIGTERM, patience: float = PATIENCE) -> int:
        """Send a signal and wait for the exit status."""
        assert self.process
        self.process.send_signal(sign)
        return self.process.wait(patience)

    def kill(self) -> None:
        """End it at once. Nothing happens if it is down."""
        if self.process and self.is_up:
            self.process.kill()
            self.process.wait()

    close = kill

    def freeze(self) -> None:
        """Hold the process: its connections stay open, and nothing moves."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

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

    @property
    def database(self) -> str | Path:
        """The SQLite file, or the URL of a PostgreSQL."""
        url = self.env.get("DATABASE_URL", "")
        return url if url.startswith("postgres") else self.data / "db.sqlite3"

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of the database, as they are now. Uuids are written as hex without dashes."""
        return rows(self.database, query, values)

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
        if isinstance(self.database, str):
            return open_connections(self.database, self.env["PGAPPNAME"])
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
