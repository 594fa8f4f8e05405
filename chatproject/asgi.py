"""The application: HTTP through Django, WebSockets through channels, and the life of the process for servers that tell it."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproject.settings")

from chatproject.handler import get_asgi_application

http_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402

from chat import service  # noqa: E402
from chat.routing import websocket_application  # noqa: E402


async def lifespan_application(scope: Any, receive: Any, send: Any) -> None:
    """Start and drain under servers that know the lifespan protocol; daphne does not, see chatproject/server.py."""
    while True:
        message = await receive()
        kind = message["type"].removeprefix("lifespan.")
        try:
            await (service.start() if kind == "startup" else service.drain())
        except Exception as error:
            await send({"type": f"lifespan.{kind}.failed", "message": str(error)})
            return
        await send({"type": f"lifespan.{kind}.complete"})
        if kind == "shutdown":
            return


application = ProtocolTypeRouter(
    {
        "http": http_application,
        "websocket": websocket_application,
        "lifespan": lifespan_application,
    }
)
