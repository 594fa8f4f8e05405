"""The wire format of Server-Sent Events, as the HTML standard defines it (section 9.2)."""

import json

from chat.events import Event, Position, dump

# The browser waits this long before it comes back by itself. Sent once, first.
RETRY = b"retry: 1000\n\n"

HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx
    "Content-Encoding": "identity",  # a compressing middleware holds the first events back
}


def frame(event: Event, position: Position | None = None) -> bytes:
    """One event as bytes. The data is one line of JSON, so no text can break out of its frame."""
    data = json.dumps(dump(event), ensure_ascii=False, separators=(",", ":"))
    line = f"id: {position}\n" if position else ""
    return f"{line}event: {event.name}\ndata: {data}\n\n".encode()
