"""Nudges: losable pings on channel-layer groups. Whoever sends one leaves a durable twin (a row) as well."""

import asyncio
import logging
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

RUNNERS = "runners"  # every process that writes answers
# Groups forget their members after a day; a listener joins again this often.
REJOIN_SECONDS = 600.0


def user_group(user_id: Any) -> str:
    """The group of all pages that a user has open, on any process."""
    return f"user.{user_id}"


async def nudge(group: str, kind: str, **data: Any) -> None:
    """Send one nudge. Never raises: a nudge that is lost is made good by its twin."""
    try:
        await get_channel_layer().group_send(group, {"type": "nudge", "kind": kind, "data": data})
    except Exception:
        logger.warning("nudge %s to %s was lost", kind, group, exc_info=True)


async def listen(group: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The nudges of a group as (kind, data), for a process rather than a socket. Survives a broken layer."""
    layer = get_channel_layer()
    channel = await layer.new_channel()
    joined_at = -REJOIN_SECONDS
    while True:
        try:
            if monotonic() - joined_at >= REJOIN_SECONDS:
                await layer.group_add(group, channel)
                joined_at = monotonic()
            async with asyncio.timeout(REJOIN_SECONDS):
                message = await layer.receive(channel)
        except TimeoutError:
            continue
        except Exception:
            logger.warning("listening to %s failed, trying again", group, exc_info=True)
            await asyncio.sleep(1)
            continue
        yield message["kind"], message["data"]
