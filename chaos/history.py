"""What the users of one answer did and saw, with the time of everything. Only clients write it, only the checker reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.script import Script

FINAL = ("done", "error")


@dataclass(frozen=True, slots=True)
class Seen:
    """One event as a reader got it. `at` is time.monotonic(); `id` is empty for an event without a position."""

    at: float
    name: str
    id: str
    data: dict[str, Any]


@dataclass
class Visit:
    """One connection of a reader, from where it asked to go on to how it ended."""

    door: str
    after: str
    opened_at: float
    status: int = 0  # 0: there was no response
    events: list[Seen] = field(default_factory=list, repr=False)
    ended_at: float = 0.0
    ending: str = ""  # end (a whole body), cut (a broken one), left (by the reader), silent (nothing for too long)


@dataclass
class Reading:
    """All that one reader saw of one answer, over any number of connections."""

    reader: str
    visits: list[Visit] = field(default_factory=list)
    restless: bool = False  # its own connection breaks now and then

    def events(self) -> Iterator[Seen]:
        """Every event of every visit, in the order in which they came."""
        for visit in self.visits:
            yield from visit.events

    @property
    def last_id(self) -> str:
        """Where the reader would go on."""
        return next((seen.id for visit in reversed(self.visits) for seen in reversed(visit.events) if seen.id), "")

    @property
    def final(self) -> Seen | None:
        """The event that ended the answer, if this reader has seen it."""
        return next((seen for seen in self.events() if seen.name in FINAL), None)

    @property
    def shown(self) -> str:
        """The visible text that stands on this reader's screen."""
        return self.shown_texts()[-1]

    def shown_texts(self) -> list[str]:
        """The text that stood there each time before it was emptied, and the one that stands there now."""
        texts: list[list[str]] = [[]]
        for seen in self.events():
            if seen.name == "started":
                texts.append([])
            elif seen.name == "token":
                texts[-1].append(str(seen.data["text"]))
        return ["".join(parts) for parts in texts]


@dataclass(frozen=True)
class Post:
    """One try to send the question."""

    door: str
    sent_at: float
    ended_at: float
    status: int  # 0: no whole response came
    answer: str = ""


@dataclass(eq=False)
class Click:
    """One click on Send: a question that no other click asks, every try to send it, and everybody who reads the answer."""

    question: str
    model: str
    path: str = "/conversations"
    posts: list[Post] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    excused: bool = False  # the process that wrote the answer was broken on purpose, so it may be interrupted
    may_end: frozenset[str] = frozenset({"done"})  # the statuses that are right when nothing was broken
    conversation: str = ""  # known once it is acknowledged

    @property
    def script(self) -> Script:
        """What the fake provider was asked to say."""
        return Script.of(self.model)

    @property
    def acknowledged(self) -> bool:
        """Whether the user was told that the question has arrived."""
        return any(200 <= post.status < 300 for post in self.posts)

    @property
    def answer(self) -> str:
        """The id of the answer, once it is known."""
        return next((post.answer for post in self.posts if post.answer), "")

    @property
    def opened_at(self) -> float:
        return self.posts[0].sent_at if self.posts else 0.0

    @property
    def finished_at(self) -> float:
        """When the last reader saw the end; 0 while one has not."""
        ends = [reading.final.at if reading.final else 0.0 for reading in self.readings]
        return max(ends) if ends and all(ends) else 0.0
