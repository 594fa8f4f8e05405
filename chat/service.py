"""The life of a server process: what begins before it listens, and how it leaves.

`chatproject.server` calls these under daphne, the lifespan application under other servers; never `AppConfig.ready()`, which
runs in every command.
"""

import asyncio
import logging

from django.conf import settings

from chat import providers, readers, runner
from chat.presence import presence
from chat.replay import log

logger = logging.getLogger(__name__)

# The server does not wait longer for a provider's list of models; it goes on being read meanwhile.
MODELS_SECONDS = 2.0

_reading: asyncio.Task[dict[str, str]] | None = None


async def start() -> None:
    """Take the lock, learn the models, begin to look after readers and to write answers. Raises AlreadyRunning."""
    global _reading
    runner.be_alone()
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
    await presence().close()
    await log().close()
