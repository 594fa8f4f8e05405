"""What a run has written: what is acknowledged, and what is still on its way to the log.

Usually the log acknowledges, and the row follows it. While the log does not take what is written, the row acknowledges: it is
saved with the whole text under the next fence, and when the log answers again it gets `started` and the whole text.
"""

from dataclasses import dataclass
from time import monotonic

from chat.events import Event, Position, Reasoning, Token
from chat.replay import Entry
from chat.runner.coalesce import Coalescer
from chat.runner.jobs import Job
from chat.runner.rows import Checkpoint

# How long the log may take before the row acknowledges in its place, in seconds.
LOG_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """Entries on their way to the log, numbered under this fence."""

    fence: int
    entries: list[Entry]


class Draft:
    """Everything that one run has written, in order."""

    def __init__(self, job: Job) -> None:
        self.fence = job.fence
        self.position = Position(job.fence, 0)  # of the newest event that has a number
        self.ttft_ms: int | None = None  # when the first delta was acknowledged
        self._job = job
        self._news = Coalescer()
        self._pending: list[Entry] = []  # numbered, and not acknowledged
        self._restated = 0  # how many of them repeat what is acknowledged
        self._late_since: float | None = None  # when the log first failed to take them
        self._adrift = False  # the log has lost what goes before them
        self._moving = False  # the row is being saved under the next fence
        self._text: list[str] = []  # acknowledged
        self._reasoning: list[str] = []
        self._deltas = 0
        self._text_id = self._saved_id = self.position

    def write(self, event: Event) -> None:
        """Add one event."""
        self._news.add(event)

    # Towards the log

    def due(self) -> Parcel | None:
        """What the log should take now. The same entries again until they are acknowledged or the fence changes.

        Nothing while the row is moving to the next fence: what only the log of the old one had could be missed there.
        """
        if self._adrift or self._moving:
            return None
        self._number()
        return Parcel(self.fence, list(self._pending)) if self._pending else None

    def acknowledge(self, parcel: Parcel) -> None:
        """The log has this parcel: it may be stored and counted."""
        if parcel.fence != self.fence:
            return  # the row was quicker; all of it is on its way again, under the new fence
        self._keep(len(parcel.entries), in_log=True)
        self._late_since = None

    def late(self) -> None:
        """The log did not take the parcel now."""
        self._late_since = self._late_since or monotonic()

    def lose_log(self, parcel: Parcel) -> None:
        """The log has lost what goes before the parcel."""
        self._adrift = self._adrift or parcel.fence == self.fence

    @property
    def all_taken(self) -> bool:
        """Whether the log has acknowledged everything."""
        return not (self._pending or self._adrift)

    # Towards the row

    def snapshot(self) -> Checkpoint | None:
        """What the row should say, if that is news."""
        fresh = len(self._pending) > self._restated
        if self._adrift or (fresh and self._late_since and monotonic() - self._late_since >= LOG_PATIENCE):
            self._moving = True
            return self._ahead()
        return self._in_step() if self._text_id != self._saved_id else None

    def not_saved(self) -> None:
        """It is not known whether the row says what the snapshot said."""
        self._moving = False

    def whole(self) -> Checkpoint:
        """What the row should say at the end: everything that was written."""
        self._moving = not self.all_taken
        return self._ahead() if self._moving else self._in_step()

    def saved(self, checkpoint: Checkpoint) -> None:
        """The row says this. If it is ahead of the log, all of it goes to the log once more, under the new fence."""
        if checkpoint.new_fence == checkpoint.fence:
            self._saved_id = checkpoint.text_id
            return
        count = sum(entry.position <= checkpoint.up_to for entry in self._pending)
        self._keep(count, in_log=False)
        head: list[Event] = [self._job.started]
        text, reasoning = self._joined()
        if reasoning:
            head.append(Reasoning(reasoning, 0 if text else self._deltas))
        if text:
            head.append(Token(text, self._deltas))
        rest = [entry.event for entry in self._pending[self._restated :]]
        self.fence = checkpoint.new_fence
        self.position = self._text_id = self._saved_id = checkpoint.text_id
        self._pending, self._restated = [], len(head)
        self._adrift = self._moving = False
        for event in (*head, *rest):
            self._append(event)

    # Within

    def _number(self) -> None:
        for event in self._news.take():
            self._append(event)

    def _append(self, event: Event) -> None:
        self.position = self.position.next()
        self._pending.append(Entry(self._job.answer, self.position, event))

    def _keep(self, count: int, *, in_log: bool) -> None:
        """The first so many of what is pending are acknowledged."""
        for place, entry in enumerate(self._pending[:count]):
            event = entry.event
            if not isinstance(event, Token | Reasoning):
                continue
            if in_log:
                self._text_id = entry.position
            if place >= self._restated:
                (self._text if isinstance(event, Token) else self._reasoning).append(event.text)
                self._deltas += event.n
                if event.n and self.ttft_ms is None:
                    self.ttft_ms = round((monotonic() - self._job.asked) * 1000)
        del self._pending[:count]
        self._restated = max(0, self._restated - count)

    def _joined(self) -> tuple[str, str]:
        self._text, self._reasoning = ["".join(self._text)], ["".join(self._reasoning)]
        return self._text[0], self._reasoning[0]

    def _in_step(self) -> Checkpoint:
        text, reasoning = self._joined()
        return Checkpoint(
            self._job.answer, self.fence, self.fence, text, reasoning, self._text_id, self._deltas, self.ttft_ms
        )

    def _ahead(self) -> Checkpoint:
        """With what the log has not acknowledged, under the next fence."""
        self._number()
        text, reasoning = self._joined()
        deltas = self._deltas
        for entry in self._pending[self._restated :]:
            event = entry.event
            if isinstance(event, Token):
                text, deltas = text + event.text, deltas + event.n
            elif isinstance(event, Reasoning):
                reasoning, deltas = reasoning + event.text, deltas + event.n
        fence = self.fence + 1
        return Checkpoint(
            self._job.answer,
            self.fence,
            fence,
            text,
            reasoning,
            Position(fence, 0),
            deltas,
            self.ttft_ms,
            self.position,
        )
