"""Logs of answers. `log()` is this process's one log, of the kind that settings.CHAT_LOG names."""

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from chat.replay.base import Entry, Fate, Log, LogUnavailable, Slice

__all__ = ["Entry", "Fate", "Log", "LogUnavailable", "Slice", "log"]


@cache
def log() -> Log:
    """The log of this process, made at its first use."""
    made: Log = import_string(settings.CHAT_LOG)()
    return made
