"""Following an answer: the log joined with the row, as the frames of one event stream."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from time import monotonic, time
from uuid import UUID

from django.conf import settings

from chat import readers, runner, sse
from chat.database import in_database
from chat.events import START, Close, Event, Ping, Position, Reasoning, Reconnect, Started, Status, Token, Usage
from chat.models import Message
from chat.readers import Reader
from chat.replay import Entry, log

# How long one look into the log waits: bounds the delay of everything that is not an event of the log.
SLICE_SECONDS = 1.0


class Stream:
    """One reader's event stream, from a position to the end: an async iterator of bytes, for StreamingHttpResponse.

    Holds no thread and no connection. Joins the log at the first `__anext__`, since a response that is never sent is never
    iterated either. `close` may be called from any thread, any number of times, and is the only clean-up there is.
    """

    def __init__(self, reader: Reader, after: Position) -> None:
        self._reader = reader
        self._after = after
        self._loop: asyncio.AbstractEventLoop | None = None
        self._frames: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._frames is None:
            self._loop = asyncio.get_running_loop()
            await readers.enter(self._reader)
            self._frames = Following(self._reader, self._after).frames()
        return await anext(self._frames)

    def close(self) -> None:
        """Stop counting as a reader."""
        if self._loop and not self._loop.is_closed():
            readers.leave_soon(self._loop, self._reader)


class Following:
    """The state of one follower: where it is, and since when nothing has come."""

    def __init__(self, reader: Reader, after: Position) -> None:
        assert reader.answer
        self._reader = reader
        self._answer: UUID = reader.answer
        self._position = after
        self._shown: Message | None = None  # the row as it was last replayed, while the log cannot go on from it
        self._pinged = self._told = monotonic()
        self._heard_at = time()
        self._writing = False

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
            if piece := piece + self._signs_of_life():
                yield piece
        yield sse.frame(Close())

    async def _next(self) -> tuple[bytes, bool]:
        """What has come since the last time, and whether that is the end."""
        found = await log().follow(self._answer, self._position, SLICE_SECONDS)
        if found.joined:
            return self._from_log(found.entries)
        if self._position != START and self._shown is None:
            self._position = START  # stale, future or unknown: the whole answer again
            return b"", False
        if self._shown is not None:
            await asyncio.sleep(SLICE_SECONDS)
        row = await in_database(Message.objects.filter(pk=self._answer).first)
        return self._from_row(row) if row else (b"", True)

    def _from_log(self, entries: Sequence[Entry]) -> tuple[bytes, bool]:
        if not entries:
            return b"", False
        last = entries[-1]
        self._position, self._shown, self._heard_at = last.position, None, last.at
        for entry in entries:
            if isinstance(entry.event, Started | Token | Reasoning):
                self._writing = not isinstance(entry.event, Started)
        return b"".join(entry.frame for entry in entries), last.event.final

    def _from_row(self, row: Message) -> tuple[bytes, bool]:
        """The answer as its row has it, or what the row has grown by since it was last shown.

        Afterwards the reader stands at the row's `text_id`, from where the log goes on if it can.
        """
        events: list[tuple[Event, Position | None]] = []
        shown = self._shown
        if shown is None or shown.fence != row.fence or shown.attempt != row.attempt:
            shown = Message()
            events.append((Started(str(row.pk), row.attempt, row.model), Position(row.fence, 0)))
        if reasoning := row.reasoning[len(shown.reasoning) :]:
            events.append((Reasoning(reasoning), None))
        if text := row.text[len(shown.text) :]:
            events.append((Token(text), None))
        if events:
            self._heard_at, self._writing = time(), bool(row.text)
        self._shown, self._position = row, Position.parse(row.text_id)
        final = row.final_event()
        if final and row.completion_tokens is not None:
            events.append((Usage(row.prompt_tokens or 0, row.completion_tokens, row.estimated), None))
        if final:
            events.append((final, row.final_position))
        return b"".join(sse.frame(event, position) for event, position in events), final is not None

    def _signs_of_life(self) -> bytes:
        """A ping every 15 s; a status every 5 s in which nothing came."""
        now, piece = monotonic(), b""
        silent = time() - self._heard_at
        if silent >= settings.CHAT_SILENT_SECONDS and now - self._told >= settings.CHAT_SILENT_SECONDS:
            self._told = now
            piece += sse.frame(Status("silent" if self._writing else "waiting", round(silent)))
        if now - self._pinged >= settings.CHAT_PING_SECONDS:
            self._pinged = now
            piece += sse.frame(Ping())
        return piece
