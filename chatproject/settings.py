"""Settings, all from the environment, with safe defaults. README.md has the table of them; tests keep the two in step."""

import contextlib
import math
import os
import secrets
import socket
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
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


def secret_key(directory: Path) -> str:
    """SECRET_KEY, or one that is made once and kept in the data directory, readable by its owner only."""
    if given := env.str("SECRET_KEY", ""):
        return str(given)
    path = directory / "secret_key"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        made = directory / f"secret_key.{os.getpid()}"
        made.touch(mode=0o600)
        made.write_text(secrets.token_urlsafe(48))
        with contextlib.suppress(FileExistsError):  # whoever comes first wins
            os.link(made, path)
        made.unlink()
    return path.read_text()


# The server

CHAT_DATA_DIR = Path(env.str("CHAT_DATA_DIR", str(BASE_DIR / "var")))
SECRET_KEY = secret_key(CHAT_DATA_DIR)
DEBUG = switch("DEBUG", False)
ALLOWED_HOSTS = [host.strip() for host in env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])]
CSRF_TRUSTED_ORIGINS = [origin.strip() for origin in env.list("TRUSTED_ORIGINS", default=[])]
CHAT_HTTPS = switch("CHAT_HTTPS", False)
CHAT_WORKER = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
CHAT_DRAIN_SECONDS = number("CHAT_DRAIN_SECONDS", 8)

ROOT_URLCONF = "chatproject.urls"
ASGI_APPLICATION = "chatproject.asgi.application"

INSTALLED_APPS = [
    "chat",  # before daphne: its runserver serves with our server class
    "daphne",
    "channels",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "csp",
]

MIDDLEWARE = [
    "chat.middleware.Security",
    "chat.middleware.StaticFiles",
    "chat.middleware.ContentSecurityPolicy",
    "chat.middleware.Sessions",
    "chat.middleware.Common",
    "chat.middleware.Csrf",
    "chat.middleware.Authentication",
    "chat.middleware.bearer_tokens",
    "chat.middleware.Messages",
    "chat.middleware.ClickJacking",
    "django_htmx.middleware.HtmxMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "chat.middleware.page_context",
            ],
        },
    },
]

# Storage

DATABASES: dict[str, Any] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{CHAT_DATA_DIR / 'db.sqlite3'}"),
}
if "ENGINE" not in DATABASES["default"]:
    raise ImproperlyConfigured(
        "DATABASE_URL must be like postgres://user:password@host/name or sqlite:////path/to/file."
    )
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    CHAT_DATA_DIR.mkdir(parents=True, exist_ok=True)
    # A thread keeps its connection: the last one to close would write the whole journal back, for every request.
    DATABASES["default"]["CONN_MAX_AGE"] = None
    DATABASES["default"]["OPTIONS"] = {
        # Writers queue instead of failing with "database is locked".
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    # More than the threads that work at once: those of chatproject.handler, and one for what is no request.
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {"min_size": 1, "max_size": whole("DATABASE_POOL", 20)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
CHAT_LOG = "chat.replay.memory.MemoryLog"
CHAT_PRESENCE = "chat.presence.MemoryPresence"

STATIC_URL = "static/"
STATIC_ROOT = CHAT_DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage",
    },
}

# People

MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
CHAT_SIGNUP = switch("CHAT_SIGNUP", True)

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
TIME_ZONE = env.str("TIME_ZONE", "UTC")
USE_TZ = True

# Security

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = CHAT_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if CHAT_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = CHAT_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if CHAT_HTTPS else None
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
X_FRAME_OPTIONS = "DENY"
# Django looks for its own middleware by name; chat.middleware has all three. chat.W003 looks after CHAT_HTTPS.
SILENCED_SYSTEM_CHECKS = ["security.W001", "security.W002", "security.W003"]
CSRF_FAILURE_VIEW = "chat.views.problems.csrf_failure"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "worker-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

# Models

OPENAI_API_KEY = env.str("OPENAI_API_KEY", "")
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", "").strip()
if OPENAI_BASE_URL and not OPENAI_BASE_URL.startswith(("http://", "https://")):
    raise ImproperlyConfigured(f"OPENAI_BASE_URL must begin with http:// or https://, not {OPENAI_BASE_URL!r}.")
CHAT_PROVIDERS = {}
if OPENAI_API_KEY or OPENAI_BASE_URL:
    CHAT_PROVIDERS["openai"] = "chat.providers.openai.OpenAIProvider"
    OPENAI_BASE_URL = OPENAI_BASE_URL or "https://api.openai.com/v1"
CHAT_DEMO = switch("CHAT_DEMO", not CHAT_PROVIDERS)
if CHAT_DEMO:
    CHAT_PROVIDERS["demo"] = "chat.providers.demo.DemoProvider"
CHAT_CONTEXT_TOKENS = whole("CHAT_CONTEXT_TOKENS", 8192)
CHAT_MODELS = sizes("CHAT_MODELS", CHAT_CONTEXT_TOKENS)
CHAT_SYSTEM_PROMPT = env.str("CHAT_SYSTEM_PROMPT", "")
CHAT_MAX_TOKENS = whole("CHAT_MAX_TOKENS", 0)

# Answers: how long each part may take, how often it is written, how much is too much

CHAT_CONNECT_SECONDS = number("CHAT_CONNECT_SECONDS", 5)
CHAT_FIRST_TOKEN_SECONDS = number("CHAT_FIRST_TOKEN_SECONDS", 30)
CHAT_GAP_SECONDS = number("CHAT_GAP_SECONDS", 60)
CHAT_ANSWER_SECONDS = number("CHAT_ANSWER_SECONDS", 600)
CHAT_ABANDON_AFTER = (
    None if env.str("CHAT_ABANDON_AFTER", "").strip().lower() == "never" else number("CHAT_ABANDON_AFTER", 120)
)
CHAT_FLUSH_MS = number("CHAT_FLUSH_MS", 40)
CHAT_CHECKPOINT_SECONDS = number("CHAT_CHECKPOINT_SECONDS", 1)
CHAT_LEASE_SECONDS = number("CHAT_LEASE_SECONDS", 10)
CHAT_SILENT_SECONDS = number("CHAT_SILENT_SECONDS", 5)
CHAT_PING_SECONDS = number("CHAT_PING_SECONDS", 15)
CHAT_MAX_MESSAGE_CHARS = whole("CHAT_MAX_MESSAGE_CHARS", 100_000)
CHAT_MAX_ANSWER_CHARS = whole("CHAT_MAX_ANSWER_CHARS", 400_000)
CHAT_MAX_OPEN_ANSWERS = whole("CHAT_MAX_OPEN_ANSWERS", 5)
CHAT_MAX_BODY_BYTES = whole("CHAT_MAX_BODY_BYTES", 1 << 20)
DATA_UPLOAD_MAX_MEMORY_SIZE = CHAT_MAX_BODY_BYTES

LOG_LEVEL = env.str("LOG_LEVEL", "WARNING").upper()
if LOG_LEVEL not in ("DEBUG", "INFO", "WARNING", "ERROR"):
    raise ImproperlyConfigured(f"LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {LOG_LEVEL!r}.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
}
