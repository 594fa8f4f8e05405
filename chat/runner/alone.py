"""The log in memory is for exactly one process, which holds a lock."""

import fcntl
import hashlib
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from chat.replay import log

_lock: IO[str] | None = None


class AlreadyRunning(ImproperlyConfigured):
    """A second process with the log in memory was started on the same database."""


def be_alone() -> None:
    """Be the only process on this database, if its log is in memory. Raises AlreadyRunning for the second one."""
    global _lock
    if log().shared:
        return
    database = settings.DATABASES["default"]
    name = hashlib.sha256(repr([database.get(key) for key in ("NAME", "HOST", "PORT")]).encode()).hexdigest()[:12]
    path = Path(settings.CHAT_DATA_DIR) / f"server-{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    _lock = path.open("w")
    try:
        fcntl.flock(_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise AlreadyRunning(
            "Another Parley server is running on this database, and the log in memory allows only one. Stop that one first."
        ) from error
