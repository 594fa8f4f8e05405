"""Following an answer: the log joined with the row, as the frames of one event stream."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from time import monotonic, time
from uuid import UUID

from django.conf import settings
from django.db import Error as StorageError

from chat import readers, runner, sse
from chat.answers.looking import row_of
from chat.events import START, Close, Event, Ping, Position, Reasoning, Reconnect, Started, Status, Token, Usage
from chat.models import Message
from chat.readers import Reader
from chat.replay import Entry, LogUnavailable, log

# How long one look into the log waits: bounds the delay of everything that is not an event of the log.
SLICE_SECONDS = 1.0
SHORTEST_PAUSE = 0.02


class Stream:
    """One admitted reader's event stream, from a position to the end: an async iterator of bytes, for StreamingHttpResponse.

    Made on the loop. Holds no thread and no connection. Joins the log at the first `__anext__`, since a response that is
    never sent is never iterated either. `close` may be called from any thread, any number of times, and is the only
    clean-up there is.
    """

    def __init__(self, reader: Reader, after: Position) -> None:
        self._reader = reader
        self._after = after
        self._loop = asyncio.get_running_loop()
        self._frames: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._frames is None:
            await readers.enter(self._reader)
            self._frames = Following(self._reader, self._after).frames()
        return await anext(self._frames)

    def close(self) -> None:
        """Stop counting as a reader."""
        if not self._loop.is_closed():
            readers.leave_soon(self._loop, self._reader)


@dataclass(slots=True)
class Shown:
    """What a reader has in its bubble: of which attempt, and how many characters."""

    attempt: int
    text: int = 0
    reasoning: int = 0
    heard: bool = False  # whether the model has said any of it


class Following:
    """The state of one follower: where it is, what it shows as far as that is known, and since when nothing has come."""

    def __init__(self, reader: Reader, after: Position) -> None:
        assert reader.answer
        self._reader = reader
        self._answer: UUID = reader.answer
        self._position = after
        self._shown: Shown | None = None  # known from a `started` on
        self._recovering = False  # the log cannot be asked, or cannot go on from here
        self._pause = 0.0  # before the next look at the row
        self._pinged = self._told = monotonic()
        self._told_place: int | None = None
        self._heard_at = time()

    async def frames(self) -> AsyncIterator[bytes]:
        """All bytes of the stream, in as few pieces as there are wake-ups."""
        yield sse.RETRY
        over = False
        while not over:
            if self._reader.revoked:
                break
            if runner.is_draining():
                yield sse.frame(Reconnect())
                return
            piece, over = await self._next()
            if not over:
                piece += self._signs_of_life()
            if piece:
                yield piece
        yield sse.frame(Close())

    async def _next(self) -> tuple[bytes, bool]:
        """What has come since the last time, and whether that is the end."""
        try:
            found = await log().follow(self._answer, self._position, SLICE_SECONDS)
        except LogUnavailable:
            return await self._from_row(away=True)
        if found.joined:
            self._recovering, self._pause = False, 0.0
            return self._from_log(found.entries)
        if self._position != START and self._shown is None:
            self._position = START  # stale, future or unknown: the whole answer again
            return b"", False
        return await self._from_row()

    def _from_log(self, entries: Sequence[Entry]) -> tuple[bytes, bool]:
        for entry in entries:
            event = entry.event
            if isinstance(event, Started):
                self._shown = Shown(event.attempt)
            elif self._shown and isinstance(event, Token):
                self._shown.text += len(event.text)
                self._shown.heard |= event.n > 0
            elif self._shown and isinstance(event, Reasoning):
                self._shown.reasoning += len(event.text)
                self._shown.heard = True
        if not entries:
            return b"", False
        self._position, self._heard_at = entries[-1].position, entries[-1].at
        return b"".join(entry.frame for entry in entries), entries[-1].event.final

    async def _from_row(self, *, away: bool = False) -> tuple[bytes, bool]:
        """The answer as its row has it, or what the row has grown by since; in the end looked at once a second.

        Once it shows all that the row has, the reader stands at the row's `text_id`, from where the log goes on if it can.
        """
        await asyncio.sleep(self._pause)
        self._pause = min(SLICE_SECONDS, max(SHORTEST_PAUSE, 2 * self._pause))
        try:
            row = await row_of(self._answer)
        except StorageError:
            return b"", False
        if row is None:
            return b"", True
        events: list[tuple[Event, Position | None]] = []
        if row.is_open and not self._recovering and (away or self._position != START):
            events.append((Status("recovering", 0), None))
        self._recovering = True
        events += self._growth(row)
        if final := row.final_event():
            if row.completion_tokens is not None:
                events.append((Usage(row.prompt_tokens or 0, row.completion_tokens, row.estimated), None))
            events.append((final, row.final_position))
        return b"".join(sse.frame(event, position) for event, position in events), final is not None

    def _growth(self, row: Message) -> list[tuple[Event, Position | None]]:
        """What the row has and the reader does not show, with the position where the reader stands when it shows that."""
        events: list[tuple[Event, Position | None]] = []
        if self._shown is None or self._shown.attempt != row.attempt:
            self._shown = Shown(row.attempt)
            events.append((Started(str(row.pk), row.attempt, row.model), Position(row.fence, 0)))
        shown = self._shown
        shown.heard |= len(row.text) > row.kept or bool(row.reasoning)
        covers = len(row.text) >= shown.text and len(row.reasoning) >= shown.reasoning
        position = row.text_position if covers else None
        if reasoning := row.reasoning[shown.reasoning :]:
            events.append((Reasoning(reasoning), None))
        if text := row.text[shown.text :]:
            events.append((Token(text), None))
        if events:
            self._heard_at = time()
        if reasoning or text:
            events[-1] = (events[-1][0], position)
        if position:
            shown.text, shown.reasoning, self._position = len(row.text), len(row.reasoning), position
        return events

    def _signs_of_life(self) -> bytes:
        """A ping every 15 s; a status every 5 s in which nothing came, and whenever its place in the queue has changed."""
        now, piece = monotonic(), b""
        silent = time() - self._heard_at
        place, moved = self._place()
        if moved or (silent >= settings.CHAT_SILENT_SECONDS and now - self._told >= settings.CHAT_SILENT_SECONDS):
            self._told, self._told_place = now, place
            piece += sse.frame(Status(self._state(place), round(silent), place))
        if now - self._pinged >= settings.CHAT_PING_SECONDS:
            self._pinged = now
            piece += sse.frame(Ping())
        return piece

    def _place(self) -> tuple[int | None, bool]:
        """Its place in the queue, and whether that is news. None once the model has begun: rows are a moment late."""
        if self._shown and self._shown.heard:
            return None, False
        place = self._reader.queue_position
        return place, place != self._told_place

    def _state(self, place: int | None) -> str:
        """Why nothing comes."""
        if place:
            return "queued"
        if self._recovering or self._reader.orphaned:
            return "recovering"
        wrote = self._shown.heard if self._shown else self._position != START
        return "silent" if wrote else "waiting"
