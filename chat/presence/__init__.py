"""Who is here. `presence()` is this process's one store of it, of the kind that settings.CHAT_PRESENCE names."""

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from chat.presence.base import BEAT_SECONDS, EXPIRY_SECONDS, Beat, Presence, answer_place, user_place

__all__ = ["BEAT_SECONDS", "EXPIRY_SECONDS", "Beat", "Presence", "answer_place", "presence", "user_place"]


@cache
def presence() -> Presence:
    """The store of this process, made at its first use."""
    made: Presence = import_string(settings.CHAT_PRESENCE)()
    return made
