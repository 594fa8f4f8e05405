"""Settings, all from the environment, with safe defaults. README.md has the table of them; tests keep the two in step."""

import contextlib
import os
import re
import secrets
import socket
from pathlib import Path
from typing import Any

from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from chat.redis_client import SocketParser
from chatproject.environment import env, number, sizes, switch, whole

BASE_DIR = Path(__file__).resolve().parent.parent


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
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True  # those of before a restart of the database are not used
    DATABASES["default"]["OPTIONS"] = {
        # A host that has vanished is noticed.
        "connect_timeout": 5,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        # A process that froze inside a transaction must not keep others from its rows for ever.
        "options": "-c idle_in_transaction_session_timeout=10s -c lock_timeout=5s",
    } | DATABASES["default"].get("OPTIONS", {})
    DATABASE_POOL = whole("DATABASE_POOL", 20)
    DATABASES["default"]["OPTIONS"]["pool"] = {
        # Ready before they are needed: to open one takes longer than what it is opened for.
        "min_size": min(8, DATABASE_POOL),
        # More than the threads that work at once: those of chatproject.handler, and one for what is no request.
        "max_size": DATABASE_POOL,
        "timeout": 5,  # seconds that a request waits for a connection
        # Seconds until connecting is given up; the next request begins anew. One attempt would try ever more seldom.
        "reconnect_timeout": 2,
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# What processes share: in Redis, or in the memory of the only one.
REDIS_URL = env.str("REDIS_URL", "").strip()
if REDIS_URL and not re.fullmatch(r"(rediss?://[^/\s]|unix://[^/\s]*/[^/\s])\S*", REDIS_URL):
    raise ImproperlyConfigured(
        "REDIS_URL must be like redis://host:6379/0, rediss://user:password@host/0 or unix:///path/to/socket."
    )
REDIS_PREFIX = env.str("REDIS_PREFIX", "parley")
if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", REDIS_PREFIX):
    raise ImproperlyConfigured("REDIS_PREFIX must be 1 to 64 letters, digits and any of - _ . : without spaces.")
CHANNEL_LAYERS: dict[str, Any]
if REDIS_URL:
    CHAT_LOG = "chat.replay.redis.RedisLog"
    CHAT_PRESENCE = "chat.presence.redis.RedisPresence"
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            # Channels of Redis are the same in all its databases: only the prefix keeps installations apart.
            "CONFIG": {
                "hosts": [{"address": REDIS_URL, "socket_timeout": None, "protocol": 2, "parser_class": SocketParser}],
                "prefix": f"{REDIS_PREFIX}:layer:",
            },
        }
    }
else:
    CHAT_LOG = "chat.replay.memory.MemoryLog"
    CHAT_PRESENCE = "chat.presence.memory.MemoryPresence"
    CHANNEL_LAYERS = {
        # A process has one channel for all its listeners.
        "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}
    }
# With a shared log a process that is asked to stop may go on writing, while others serve its readers.
CHAT_DRAIN_SECONDS = number("CHAT_DRAIN_SECONDS", 60 if REDIS_URL else 8)
WEB_CONCURRENCY = whole("WEB_CONCURRENCY", 1)

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
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz)$"]
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
CHAT_MAX_STREAMS = whole("CHAT_MAX_STREAMS", 5000)
CHAT_MAX_USER_STREAMS = whole("CHAT_MAX_USER_STREAMS", 50)
CHAT_RUN_SLOTS = whole("CHAT_RUN_SLOTS", 1000)
CHAT_MAX_BODY_BYTES = whole("CHAT_MAX_BODY_BYTES", 1 << 20)
DATA_UPLOAD_MAX_MEMORY_SIZE = CHAT_MAX_BODY_BYTES

LOG_LEVEL = env.str("LOG_LEVEL", "WARNING").upper()
if LOG_LEVEL not in ("DEBUG", "INFO", "WARNING", "ERROR"):
    raise ImproperlyConfigured(f"LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {LOG_LEVEL!r}.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "filters": {"one line": {"()": "chat.redis_client.OneLine"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"channels_redis.pubsub": {"filters": ["one line"]}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
}
