"""Every WebSocket address, and the check of where a socket comes from.

The Origin header is a socket's defence against other sites: browsers send it and scripts cannot change it.
"""

from typing import Any
from urllib.parse import urlsplit

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import validate_host
from django.urls import path, re_path

from chat.consumers import ChatConsumer, DashboardConsumer

websocket_urlpatterns = [
    path("ws/chat/", ChatConsumer.as_asgi()),
    path("ws/dashboard/", DashboardConsumer.as_asgi()),
]

nowhere = re_path(r"", WebsocketDenier.as_asgi())


class SameOrigin:
    """Lets in sockets whose Origin is exactly this site or one of CSRF_TRUSTED_ORIGINS; denies all others, with 403."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        headers = {name: value.decode("latin1") for name, value in scope["headers"]}
        allowed = origin_allowed(headers.get(b"origin", ""), headers.get(b"host", ""), is_secure(scope, headers))
        application = self.application if allowed else WebsocketDenier()
        return await application(scope, receive, send)


def is_secure(scope: dict[str, Any], headers: dict[bytes, str]) -> bool:
    """Whether the browser speaks TLS, with us or with a trusted proxy before us."""
    if settings.SECURE_PROXY_SSL_HEADER:
        name, value = settings.SECURE_PROXY_SSL_HEADER
        return headers.get(name.removeprefix("HTTP_").replace("_", "-").lower().encode()) == value
    return scope.get("scheme") in ("wss", "https")


def origin_allowed(origin: str, host: str, secure: bool) -> bool:
    """Scheme, host and port must be this site's own, and the host one that it serves; or the whole origin is trusted."""
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    name = urlsplit(f"//{host}").hostname or ""
    served = validate_host(f"[{name}]" if ":" in name else name, settings.ALLOWED_HOSTS)
    return served and origin == f"{'https' if secure else 'http'}://{host}"


websocket_application = SameOrigin(AuthMiddlewareStack(URLRouter([*websocket_urlpatterns, nowhere])))
