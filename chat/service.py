"""The life of a server process: what begins before it listens, and how it leaves.

`chatproject.server` calls these under daphne, the lifespan application under other servers; never `AppConfig.ready()`, which
runs in every command.
"""

import asyncio
import fcntl
import hashlib
import logging
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from chat import providers, readers, runner

logger = logging.getLogger(__name__)

# The server does not wait longer for a provider's list of models; it goes on being read meanwhile.
MODELS_SECONDS = 2.0

_lock: IO[str] | None = None
_reading: asyncio.Task[dict[str, str]] | None = None


class AlreadyRunning(ImproperlyConfigured):
    """A second process with the log in memory was started on the same database."""


async def start() -> None:
    """Take the lock, learn the models, begin to look after readers and to write answers. Raises AlreadyRunning."""
    global _reading
    hold_lock()
    _reading = asyncio.create_task(providers.refresh())
    await asyncio.wait([_reading], timeout=MODELS_SECONDS)
    await readers.start()
    await runner.start()


async def drain() -> None:
    """Let readers go, finish or interrupt what is being written, and close connections."""
    if runner.is_draining():
        return
    logger.info("draining: open answers get %s seconds", settings.CHAT_DRAIN_SECONDS)
    await runner.drain()
    await readers.close()
    await providers.close()


def hold_lock() -> None:
    """The log in memory is for exactly one process: refuse to be the second one on this database."""
    global _lock
    if settings.CHAT_LOG != "chat.replay.memory.MemoryLog":
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
