"""Reading values of the environment: what cannot be one is refused in a sentence, never guessed. For settings.py alone."""

import math

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()


def number(name: str, default: float) -> float:
    """A number of seconds or the like."""
    try:
        value = float(env.str(name, str(default)))
        if not math.isfinite(value):
            raise ValueError(value)
        return value
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a number, such as {default:g}.") from None


def whole(name: str, default: int) -> int:
    """A whole number."""
    try:
        return int(env.str(name, str(default)))
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, such as {default}.") from None


def switch(name: str, default: bool) -> bool:
    """Yes or no; anything else is refused rather than guessed."""
    said = env.str(name, "yes" if default else "no").strip().lower()
    if said in ("1", "true", "yes", "on"):
        return True
    if said in ("0", "false", "no", "off", ""):
        return False
    raise ImproperlyConfigured(f"{name} must be yes or no, not {said!r}.")


def sizes(name: str, default_size: int) -> dict[str, int]:
    """A list of models, `name` or `name=context size`, separated by commas."""
    models: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in env.str(name, "").split(","))):
        model, _, size = item.partition("=")
        if size and not size.strip().isdigit():
            raise ImproperlyConfigured(f"{name}: the context size in {item!r} must be a whole number of tokens.")
        models[model.strip()] = int(size) if size else default_size
    if "" in models or 0 in models.values():
        raise ImproperlyConfigured(f"{name}: every model needs a name, and a context of more than 0 tokens.")
    return models
