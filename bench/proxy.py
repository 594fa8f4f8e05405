"""What the proxies of bench.proxies have in common: a program, and the configuration in deploy/ with other addresses."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.certificate import Certificate
from bench.service import Service, free_port

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"


def program(name: str) -> str | None:
    """Where a proxy is; its package may have put it where only root's PATH looks."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")


def replaced(text: str, changes: dict[str, str]) -> str:
    """The text with each pattern replaced wherever it occurs; ValueError for one that does not, as after an edit."""
    for pattern, value in changes.items():
        text, count = re.subn(pattern, lambda _, value=value: value, text, flags=re.MULTILINE)  # type: ignore[misc]
        if not count:
            raise ValueError(f"the shipped configuration has no {pattern!r} any more")
    return text


class Proxy(Service):
    """A proxy before these processes (`host:port`). `static` is the directory that collectstatic wrote.

    It starts as soon as the processes' addresses are known; they need not listen yet.
    """

    shipped: str
    # Whether it alone finds another process, for any request that one refused and for POSTs with a key that one is leaving.
    repeats = True

    def __init__(self, processes: Sequence[str], static: Path, certificate: Certificate | None = None) -> None:
        super().__init__()
        self.processes = list(processes)
        self.static = static
        self.certificate = certificate
        self.redirect_port = free_port()  # where the shipped file says port 80
        self.file = self.directory / self.shipped
        self.write(self.configuration())

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the program is on this machine."""
        return program(cls.name) is not None

    @property
    def program(self) -> str:
        found = program(self.name)
        if found is None:
            raise RuntimeError(f"{self.name} was not found. Install the system's package of that name.")
        return found

    def version(self) -> str:
        """What the program says about itself, in its first line."""
        flag = "version" if self.name == "caddy" else "-v"
        said = subprocess.run([self.program, flag], capture_output=True, text=True, check=True)
        return (said.stdout + said.stderr).splitlines()[0]

    @property
    def base(self) -> str:
        """Host and port, as people type them."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{self.base}"

    def configuration(self) -> str:
        """The shipped configuration for these addresses."""
        raise NotImplementedError

    def write(self, text: str) -> None:
        """Take this configuration at the next start."""
        self.file.write_text(text)

    def check(self) -> str:
        """What the program itself says about the configuration; RuntimeError if it does not accept it."""
        command = self.check_command()
        done = subprocess.run(command, cwd=self.directory, env=self.env(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def check_command(self) -> list[str]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        try:
            for port in (self.port, self.redirect_port):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True
