"""The providers of this process and the catalogue of their models.

The catalogue is filled when the server starts and again on demand. A provider that cannot be asked keeps the models
it had; it never stops the server.
"""

import logging
from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from chat.providers.base import Model, Prompt, Provider, ProviderError, truncated

__all__ = ["Model", "Prompt", "Provider", "ProviderError", "catalogue", "close", "provider", "refresh", "truncated"]

logger = logging.getLogger(__name__)

_models: dict[str, list[Model]] = {}


@cache
def _providers() -> dict[str, Provider]:
    return {name: import_string(path)() for name, path in settings.CHAT_PROVIDERS.items()}


def provider(name: str) -> Provider:
    """The provider of this name. Raises KeyError if settings do not have it."""
    return _providers()[name]


def catalogue() -> dict[str, Model]:
    """Every model that can be asked now, by name, in the order of settings. The first provider wins a name."""
    found: dict[str, Model] = {}
    for name in settings.CHAT_PROVIDERS:
        for model in _models.get(name, ()):
            found.setdefault(model.name, model)
    return found


async def refresh() -> dict[str, str]:
    """Read the models of all providers anew. Returns what went wrong, by provider, in words for people."""
    problems = {}
    for name, source in _providers().items():
        try:
            _models[name] = await source.models()
        except ProviderError as error:
            logger.warning("the models of %s could not be read: %s", name, error.message)
            problems[name] = error.message
    return problems


async def close() -> None:
    """Close the connections of all providers."""
    for source in _providers().values():
        await source.close()
    _providers.cache_clear()
