"""What staff see live: each panel is one function that returns JSON-ready values. No message text, ever."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from time import time
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone

from chat.database import in_database
from chat.models import Message
from chat.presence import answer_place, presence, user_place

logger = logging.getLogger(__name__)

TTFT_MINUTES = 15

Members = Mapping[str, Mapping[str, Mapping[str, Any]]]


async def snapshot() -> dict[str, Any]:
    """All panels at one moment."""
    members: Members = {}
    try:
        members = await presence().members()
    except OSError:
        logger.warning("presence cannot be reached; the board shows nobody meanwhile")
    panels = await in_database(read_rows, members)
    return {"type": "snapshot", "at": round(time() * 1000), **panels}


def read_rows(members: Members) -> dict[str, Any]:
    """The panels that need the database, in a handful of queries."""
    return {"online": people(members), "answers": open_answers(members), "ttft": first_tokens()}


def people(members: Members) -> list[dict[str, Any]]:
    """Who has pages open, and how many."""
    tabs = {place: list(pages.values()) for place, pages in members.items() if place.startswith("user.")}
    by_place = {user_place(user.pk): user for user in users({int(place[5:]) for place in tabs})}
    rows = [
        {
            "user": by_place[place].get_username(),
            "tabs": len(pages),
            "pages": sorted({str(page["page"]) for page in pages}),
        }
        for place, pages in tabs.items()
        if place in by_place
    ]
    return sorted(rows, key=lambda row: str(row["user"]))


def users(ids: set[int]) -> list[Any]:
    return list(get_user_model()._default_manager.filter(pk__in=ids))


def open_answers(members: Members) -> list[dict[str, Any]]:
    """Every answer that is being written, oldest first."""
    now = timezone.now()
    rows = (
        Message.objects.open().select_related("conversation__owner").defer("text", "reasoning", "html", "error_message")
    )
    return [open_answer(row, now, len(members.get(answer_place(row.pk), ()))) for row in rows]


def open_answer(row: Message, now: Any, viewers: int) -> dict[str, Any]:
    """One row of the board."""
    age_ms = round((now - row.created_at) / timedelta(milliseconds=1))
    tokens = row.completion_tokens or 0
    writing_ms = age_ms - row.ttft_ms if row.ttft_ms is not None else 0
    return {
        "answer": str(row.pk),
        "user": row.conversation.owner.get_username(),
        "model": row.model,
        "state": "stopping" if row.stop_by else "streaming" if tokens else "waiting",
        "started_at": round(row.created_at.timestamp() * 1000),
        "age_ms": age_ms,
        "ttft_ms": row.ttft_ms,
        "tokens": tokens,
        "tok_s": round(tokens * 1000 / writing_ms, 1) if tokens and writing_ms > 0 else None,
        "viewers": viewers,
    }


def first_tokens() -> dict[str, Any]:
    """Time to first token of the last minutes: the median and the 95th percentile, in ms (nearest rank)."""
    since = timezone.now() - timedelta(minutes=TTFT_MINUTES)
    rows = Message.objects.filter(created_at__gte=since, ttft_ms__isnull=False)
    times = list(rows.order_by("ttft_ms").values_list("ttft_ms", flat=True))
    return {
        "p50": percentile(times, 50),
        "p95": percentile(times, 95),
        "count": len(times),
        "minutes": TTFT_MINUTES,
    }


def percentile(ordered: list[int], percent: int) -> int | None:
    """The nearest-rank percentile of ordered values: the smallest value that covers so many percent of them."""
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else None
