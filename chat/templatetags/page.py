"""What the templates need beyond Django: the import map, icons, and a few ways to write numbers and dates."""

import json
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

register = template.Library()

LIBRARIES = {"marked": "vendor/marked.esm.js", "idiomorph": "vendor/idiomorph.esm.min.js"}
FOLDERS = {"chat": "chat/js", "dashboard": "dashboard"}  # prefix of the bare name -> folder in static/


def _modules() -> dict[str, str]:
    """Bare module name -> path in static/; "chat/stream.js" -> "chat/js/stream.js"."""
    found = dict(LIBRARIES)
    for root in map(Path, settings.STATICFILES_DIRS):
        for prefix, folder in FOLDERS.items():
            found |= {f"{prefix}/{file.name}": f"{folder}/{file.name}" for file in sorted((root / folder).glob("*.js"))}
    return found


@lru_cache(maxsize=1)
def _kept() -> dict[str, str]:
    return _modules()


def _urls() -> dict[str, str]:
    modules = _modules() if settings.DEBUG else _kept()
    return {name: static(path) for name, path in modules.items()}


@register.simple_tag(takes_context=True)
def import_map(context: template.Context) -> SafeString:
    """The page's one import map: bare names to hashed URLs. It is the only inline script, so it carries the CSP nonce."""
    text = json.dumps({"imports": _urls()}).replace("<", "\\u003c")
    nonce = getattr(context.get("request"), "csp_nonce", "")
    return format_html('<script type="importmap" nonce="{}">{}</script>', nonce, mark_safe(text))  # noqa: S308 - own JSON


@register.simple_tag
def preload_modules(*prefixes: str, later: str = "") -> SafeString:
    """modulepreload links, so that the browser fetches the graph at once instead of level by level; `later` is left out."""
    urls = [(url,) for name, url in _urls().items() if name.startswith(prefixes) and name != later]
    return format_html_join("\n", '<link rel="modulepreload" href="{}">', urls)


@register.simple_tag
def icon(name: str) -> SafeString:
    return format_html(
        '<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static("chat/icons.svg"), name
    )


@register.filter
def seconds(ms: float | None) -> str:
    """380 -> "0.38 s", 4100 -> "4.1 s", 75000 -> "1 min 15 s"."""
    if ms is None:
        return ""
    if ms >= 60_000:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": ms // 60_000, "seconds": ms % 60_000 // 1000}
    digits = 2 if ms < 1000 else 1 if ms < 10_000 else 0
    return _("%(seconds)s s") % {"seconds": f"{ms / 1000:.{digits}f}"}


@register.filter
def by_day(conversations: Iterable[Any]) -> list[tuple[str, list[Any]]]:
    """Group conversations, newest first, as the sidebar shows them."""
    today = timezone.localdate()
    groups: dict[str, list[Any]] = {}
    for conversation in conversations:
        age = today - timezone.localtime(conversation.updated_at).date()
        if age <= timedelta(0):
            label = _("Today")
        elif age <= timedelta(days=1):
            label = _("Yesterday")
        elif age <= timedelta(days=7):
            label = _("Previous 7 days")
        else:
            label = _("Older")
        groups.setdefault(label, []).append(conversation)
    return list(groups.items())
