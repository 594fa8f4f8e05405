"""Who is here: heartbeats of members at places, alive until they leave or have not been heard for 15 s.

A place is a user (`user.<id>`, its members are open pages) or an answer (`answer.<uuid>`, its members are readers).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from time import monotonic
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string

EXPIRY_SECONDS = 15.0
BEAT_SECONDS = 5.0


def user_place(user_id: Any) -> str:
    """Where a user's open pages are present."""
    return f"user.{user_id}"


def answer_place(answer: UUID) -> str:
    """Where the readers of an answer are present."""
    return f"answer.{answer}"


@dataclass(frozen=True, slots=True)
class Beat:
    """One sign of life of a member at a place; `info` is small and JSON-ready."""

    place: str
    member: str
    info: Mapping[str, Any] = field(default_factory=dict)


class Presence(ABC):
    """A store of heartbeats, shared by every process that counts the same people."""

    @abstractmethod
    async def beat(self, beats: Sequence[Beat]) -> None:
        """These members are alive now."""

    @abstractmethod
    async def leave(self, place: str, member: str) -> None:
        """This member has left; unknown ones are ignored."""

    @abstractmethod
    async def living(self, places: Iterable[str]) -> set[str]:
        """Those of the places where anybody is. Raises OSError when the store cannot be asked."""

    @abstractmethod
    async def members(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """Everybody: place -> member -> info."""


class MemoryPresence(Presence):
    """The store of a single process."""

    def __init__(self, expiry: float = EXPIRY_SECONDS) -> None:
        self._expiry = expiry
        self._places: dict[str, dict[str, tuple[float, Mapping[str, Any]]]] = {}

    async def beat(self, beats: Sequence[Beat]) -> None:
        now = monotonic()
        for beat in beats:
            self._places.setdefault(beat.place, {})[beat.member] = (now, beat.info)

    async def leave(self, place: str, member: str) -> None:
        members = self._places.get(place, {})
        members.pop(member, None)
        if not members:
            self._places.pop(place, None)

    async def living(self, places: Iterable[str]) -> set[str]:
        return {place for place in places if self._alive(place)}

    async def members(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        return {place: alive for place in list(self._places) if (alive := self._alive(place))}

    def _alive(self, place: str) -> dict[str, Mapping[str, Any]]:
        """The living members of a place; the others are forgotten on the way."""
        members = self._places.get(place, {})
        limit = monotonic() - self._expiry
        for member in [member for member, (at, _) in members.items() if at < limit]:
            del members[member]
        if not members:
            self._places.pop(place, None)
        return {member: info for member, (_, info) in members.items()}


@cache
def presence() -> Presence:
    """The store of this process, of the kind that settings.CHAT_PRESENCE names."""
    made: Presence = import_string(settings.CHAT_PRESENCE)()
    return made
