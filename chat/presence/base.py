"""The contract of presence: heartbeats of members at places, alive until they leave or have not been heard for 15 s.

A place is a user (`user.<id>`, its members are open pages) or an answer (`answer.<uuid>`, its members are readers).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

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
    """A store of heartbeats, shared by every process that counts the same people.

    Every verb raises OSError when the store cannot be asked; then it is not known who is here.
    """

    @abstractmethod
    async def beat(self, beats: Sequence[Beat]) -> None:
        """These members are alive now."""

    @abstractmethod
    async def leave(self, place: str, member: str) -> None:
        """This member has left; unknown ones are ignored."""

    @abstractmethod
    async def living(self, places: Iterable[str]) -> set[str]:
        """Those of the places where anybody is."""

    @abstractmethod
    async def members(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """Everybody: place -> member -> info."""

    async def close(self) -> None:  # noqa: B027 - a store without connections has nothing to close
        """Give back what the store holds. Nothing may be called afterwards."""
