"""The app, and the system checks that refuse a bad combination of settings with a sentence that says what to do."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Caution


class ChatConfig(AppConfig):
    name = "chat"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(check_settings)
        register(check_deployment, Tags.security, deploy=True)


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """What can never work."""
    found: list[CheckMessage] = []
    if len(settings.SECRET_KEY) < 32:
        found.append(Error("SECRET_KEY is too short.", hint="Set SECRET_KEY to 50 random characters.", id="chat.E001"))
    for name in POSITIVE:
        if getattr(settings, name) <= 0:
            found.append(
                Error(f"{name} must be greater than 0.", hint=f"Leave {name} out for its default.", id="chat.E002")
            )
    for name in NOT_NEGATIVE:
        if getattr(settings, name) < 0:
            found.append(Error(f"{name} is negative.", hint=f"Leave {name} out for its default.", id="chat.E006"))
    if settings.CHAT_LEASE_SECONDS < 3 * settings.CHAT_CHECKPOINT_SECONDS:
        found.append(
            Error(
                "Leases would run out between two checkpoints.",
                hint="Set CHAT_LEASE_SECONDS to at least three times CHAT_CHECKPOINT_SECONDS.",
                id="chat.E003",
            )
        )
    if settings.CHAT_MAX_BODY_BYTES > LARGEST_BODY:
        hint = f"Set CHAT_MAX_BODY_BYTES to at most {LARGEST_BODY}."
        found.append(Error("CHAT_MAX_BODY_BYTES is more than the server keeps of a body.", hint=hint, id="chat.E005"))
    if settings.CHAT_ABANDON_AFTER is not None and settings.CHAT_ABANDON_AFTER < 0:
        hint = 'Set CHAT_ABANDON_AFTER to seconds, 0 for at once, or "never".'
        found.append(Error("CHAT_ABANDON_AFTER is negative.", hint=hint, id="chat.E004"))
    if settings.WEB_CONCURRENCY > 1 and not settings.REDIS_URL:
        hint = "Set REDIS_URL, or leave WEB_CONCURRENCY out."
        found.append(Error("The log in memory is for one process, not for several.", hint=hint, id="chat.E007"))
    return found


LARGEST_BODY = 15 << 20  # chatproject.server cuts bodies a little above this

POSITIVE = (
    "CHAT_FLUSH_MS",
    "CHAT_CHECKPOINT_SECONDS",
    "CHAT_LEASE_SECONDS",
    "CHAT_CONNECT_SECONDS",
    "CHAT_SILENT_SECONDS",
    "CHAT_PING_SECONDS",
    "CHAT_FIRST_TOKEN_SECONDS",
    "CHAT_GAP_SECONDS",
    "CHAT_ANSWER_SECONDS",
    "CHAT_CONTEXT_TOKENS",
    "CHAT_MAX_MESSAGE_CHARS",
    "CHAT_MAX_BODY_BYTES",
    "CHAT_MAX_ANSWER_CHARS",
    "CHAT_MAX_OPEN_ANSWERS",
    "CHAT_MAX_STREAMS",
    "CHAT_MAX_USER_STREAMS",
    "CHAT_RUN_SLOTS",
)
NOT_NEGATIVE = ("CHAT_DRAIN_SECONDS", "CHAT_MAX_TOKENS")


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """What is wrong on a server that others reach."""
    found: list[CheckMessage] = []
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            Caution("ALLOWED_HOSTS allows every host.", hint="Name the hosts that people use.", id="chat.W001")
        )
    if any("*" in origin for origin in settings.CSRF_TRUSTED_ORIGINS):
        found.append(
            Caution(
                "TRUSTED_ORIGINS has a wildcard.",
                hint="Name full origins, such as https://chat.example.org.",
                id="chat.W002",
            )
        )
    if not settings.CHAT_HTTPS:
        hint = "Let a proxy speak TLS with people, and set CHAT_HTTPS=yes."
        found.append(Caution("Sessions and messages travel unencrypted.", hint=hint, id="chat.W003"))
    return found
