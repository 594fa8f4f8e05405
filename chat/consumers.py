"""The WebSocket doors: what a page says while it reads, and the staff's live board.

A consumer handles one message at a time, so handlers return at once and longer work is a task. Rights are read again for each
action. Presence and the end of a session are looked after by chat.readers.
"""

import asyncio
import contextvars
import json
import logging
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any
from uuid import UUID

from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ObjectDoesNotExist
from django.db import OperationalError

from chat import answers, dashboard, groups, readers
from chat.answers import Refused
from chat.database import in_database
from chat.models import Message
from chat.readers import Credential, Crowded, Reader

logger = logging.getLogger(__name__)

SIGNED_OUT, NOT_STAFF, TOO_MANY, FULL = 4401, 4403, 4429, 4503
MAX_ACTIONS = 8


class Door(AsyncWebsocketConsumer):
    """A signed-in socket that takes JSON objects with a `type` and answers errors without closing."""

    page = ""
    scope: dict[str, Any]
    # None of the layer's own: a socket would need it to be opened. Nudges come through groups.listen.
    channel_layer_alias = "none"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader: Reader | None = None
        self.tasks: set[asyncio.Task[None]] = set()  # actions; a stop goes on even if its page has gone
        self.watching: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The life of the socket. However it ends, with or without `disconnect`, nobody is left behind as present."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.watching:
                self.watching.cancel()
            if self.reader:
                readers.leave_soon(asyncio.get_running_loop(), self.reader)

    async def connect(self) -> None:
        user, session = self.scope.get("user"), self.scope.get("session")
        await self.accept()
        if not isinstance(user, AbstractBaseUser) or session is None:
            await self.close(SIGNED_OUT)
            return
        # From here on only ids and hashes are kept: the user and the session are big, and grow stale.
        reader = Reader(Credential.of(user, session=session.session_key), page=self.page)
        try:
            readers.admit(reader)
        except Crowded as crowded:
            await self.close(TOO_MANY if crowded.of_user else FULL)
            return
        self.reader, reader.on_revoked = reader, self.turn_out
        self.scope = {"type": "websocket", "path": self.scope["path"]}
        await readers.enter(reader)
        await self.opened()

    def turn_out(self) -> None:
        """The right to be here has ended."""
        self.spawn(self.close(SIGNED_OUT))

    async def opened(self) -> None:
        """Called once the socket is let in."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            message = json.loads(text_data or "")
            kind = message["type"]
        except (ValueError, TypeError, KeyError, RecursionError):
            await self.refuse("malformed", "Send a JSON object with a type.")
            return
        action = getattr(self, f"do_{kind}", None) if isinstance(kind, str) and kind.isidentifier() else None
        if action is None:
            await self.refuse("unknown_type", "This socket does not know that type of message.")
        elif len(self.tasks) > MAX_ACTIONS:
            await self.refuse("too_many", "Too many actions at once. Wait for the receipts.")
        else:
            self.spawn(self.perform(action, message))

    async def perform(self, action: Any, message: dict[str, Any]) -> None:
        """One action: rights first, then the verb; a refusal is a frame."""
        user = await self.admitted()
        if user is None:
            return
        try:
            await action(user, message)
        except Refused as refused:
            await self.refuse(refused.code, refused.message, message)
        except OperationalError:
            await self.refuse("database", "The database is busy. Please try again in a moment.", message)
        except (ObjectDoesNotExist, ValueError):
            await self.refuse("not_found", "There is nothing here, or it is not yours.", message)

    async def admitted(self) -> Any:
        """The user, read anew; None, and a closed socket, when they may not be here any more."""
        assert self.reader
        user = await in_database(readers.user_of, self.reader.credential)
        if user is None:
            await self.close(SIGNED_OUT)
        return user

    async def say(self, message: dict[str, Any]) -> None:
        await self.send(json.dumps(message, ensure_ascii=False, separators=(",", ":")))

    async def refuse(self, code: str, message: str, about: dict[str, Any] | None = None) -> None:
        answer = (about or {}).get("answer")
        extra = {"answer": answer} if isinstance(answer, str) and answer.isascii() and len(answer) <= 40 else {}
        await self.say({"type": "error", "code": code, "message": message, **extra})

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Go on with work beside this handler."""
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a socket action failed", exc_info=error)


def id_in(message: dict[str, Any], name: str) -> UUID | None:
    """The id that a message names; None, which finds nothing, for a message without one. Raises ValueError for junk."""
    value = message.get(name)
    return UUID(value) if isinstance(value, str) else None


class ChatConsumer(Door):
    """/ws/chat/: cancel with a receipt, presence, and pushes to the user's pages."""

    page = "chat"

    async def opened(self) -> None:
        self.watching = self.spawn(self.hear_forever())

    async def do_cancel(self, user: Any, message: dict[str, Any]) -> None:
        """Stop one of the user's answers; the receipt follows when its upstream is closed."""
        row = await in_database(Message.objects.of(user).answers().get, pk=id_in(message, "answer"))
        receipt = await answers.stop(row.pk, by="user")
        await self.say(receipt.data())

    async def do_watch(self, user: Any, message: dict[str, Any]) -> None:
        """The page shows this conversation, or none: part of its presence."""
        assert self.reader
        if message.get("conversation") is None:
            self.reader.conversation = ""
            return
        shown = await in_database(user.conversations.get, pk=id_in(message, "conversation"))
        self.reader.conversation = str(shown.pk)

    async def hear_forever(self) -> None:
        """Nudges to this user's pages go out as they are."""
        assert self.reader
        async with aclosing(groups.listen(groups.user_group(self.reader.credential.user))) as nudges:
            async for kind, data in nudges:
                await self.say({"type": kind, **data})


class DashboardConsumer(Door):
    """/ws/dashboard/: a snapshot on connect, then one a second while something changes. Staff only."""

    page = "board"

    async def opened(self) -> None:
        self.watching = self.spawn(self.show_forever())

    async def admitted(self) -> Any:
        user = await super().admitted()
        if user is None or user.is_staff:
            return user
        await self.close(NOT_STAFF)
        return None

    async def show_forever(self) -> None:
        """Send what has changed; what could not be sent in time is replaced, never queued."""
        shown: dict[str, Any] = {}
        while True:
            try:
                if await self.admitted() is None:
                    return
                fresh = await BOARD.read()
            except OperationalError:
                logger.warning("the board cannot be read now, trying again")
                await asyncio.sleep(1)
                continue
            if {**fresh, "at": 0} != {**shown, "at": 0} or fresh["at"] - shown.get("at", 0) > 3000:
                shown = fresh
                await self.say(fresh)
            await asyncio.sleep(1)

    async def do_cancel(self, user: Any, message: dict[str, Any]) -> None:
        """Stop anybody's answer; its reader is told that an administrator did."""
        row = await in_database(Message.objects.answers().get, pk=id_in(message, "answer"))
        receipt = await answers.stop(row.pk, by="administrator")
        await self.say(receipt.data())


class Board:
    """The newest snapshot, shared by all boards of this process: read at most once in half a second."""

    def __init__(self) -> None:
        self._reading: asyncio.Task[dict[str, Any]] | None = None
        self._fresh_until = 0.0

    async def read(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        if self._reading is None or loop.time() > self._fresh_until:
            self._fresh_until = loop.time() + 0.5
            self._reading = loop.create_task(dashboard.snapshot(), context=contextvars.Context())
        return await asyncio.shield(self._reading)


BOARD = Board()
