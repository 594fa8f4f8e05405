"""Presence of a single process, in its memory."""

from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Any

from chat.presence.base import EXPIRY_SECONDS, Beat, Presence


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
