"""Nudges: losable pings on channel-layer groups. Whoever sends one leaves a durable twin (a row) as well."""

import asyncio
import contextvars
import logging
import random
from collections.abc import AsyncGenerator
from typing import Any

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

RUNNERS = "runners"  # every process that writes answers
# A nudge is worth so much waiting, and no more: answers wait for it.
SEND_SECONDS = 1.0
JOIN_SECONDS = 2.0
# Layers forget members, after a day or when their process was frozen; groups are joined again this often.
REJOIN_SECONDS = 60.0
# A listener that is so many nudges behind gets no more of them until it catches up.
BACKLOG = 100


def user_group(user_id: Any) -> str:
    """The group of all pages that a user has open, on any process."""
    return f"user.{user_id}"


async def nudge(group: str, kind: str, **data: Any) -> None:
    """Send one nudge, in a bounded time. Never raises: a nudge that is lost is made good by its twin."""
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await get_channel_layer().group_send(group, {"type": "nudge", "group": group, "kind": kind, "data": data})
    except Exception as error:
        logger.warning("nudge %s to %s was lost: %s", kind, group, error or type(error).__name__)


async def listen(group: str) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """The nudges of a group as (kind, data). Goes on by itself after the layer was broken; close it when done."""
    nudges: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(BACKLOG)
    _ear.enter(group, nudges)
    try:
        while True:
            yield await nudges.get()
    finally:
        _ear.leave(group, nudges)


class Ear:
    """All that this process hears: one channel, which is in every group that anybody here listens to.

    Joining is retried for ever. So a socket can be opened while the layer is broken, and hears again when it is not.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Queue[tuple[str, dict[str, Any]]]]] = {}
        self._joined: set[str] = set()
        self._changed = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    def enter(self, group: str, nudges: asyncio.Queue[tuple[str, dict[str, Any]]]) -> None:
        if self._work is None or self._work.done():
            self._changed, self._joined = asyncio.Event(), set()
            self._work = asyncio.get_running_loop().create_task(self._listen(), context=contextvars.Context())
        self._listeners.setdefault(group, set()).add(nudges)
        self._changed.set()

    def leave(self, group: str, nudges: asyncio.Queue[tuple[str, dict[str, Any]]]) -> None:
        self._listeners[group].discard(nudges)
        if not self._listeners[group]:
            del self._listeners[group]
            self._changed.set()

    async def _listen(self) -> None:
        layer = get_channel_layer()
        channel = await self._persist(layer.new_channel)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive(layer, channel))
            tasks.create_task(self._keep_joined(layer, channel))

    async def _receive(self, layer: Any, channel: str) -> None:
        while True:
            # Not with a time-out: a layer takes one that stops receiving for gone.
            message = await self._persist(layer.receive, channel, seconds=None)
            for nudges in self._listeners.get(message.get("group"), ()):
                if not nudges.full():
                    nudges.put_nowait((message["kind"], message["data"]))

    async def _keep_joined(self, layer: Any, channel: str) -> None:
        while True:
            self._changed.clear()
            wanted = set(self._listeners)
            for group in wanted - self._joined:
                await self._persist(layer.group_add, group, channel)
                self._joined.add(group)
            for group in self._joined - wanted:
                await self._persist(layer.group_discard, group, channel)
                self._joined.discard(group)
            try:
                async with asyncio.timeout(REJOIN_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                self._joined.clear()

    async def _persist(self, verb: Any, *args: Any, seconds: float | None = JOIN_SECONDS) -> Any:
        """Try until it works."""
        while True:
            try:
                async with asyncio.timeout(seconds):
                    return await verb(*args)
            except Exception as error:
                logger.warning("nudges cannot be heard, trying again: %s", error or type(error).__name__)
                await asyncio.sleep(random.uniform(0.3, 1))


_ear = Ear()
