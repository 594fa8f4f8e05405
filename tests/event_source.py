"""Reads event streams as the HTML standard says (section 9.2.6), so that nothing of ours is tested against itself."""

from dataclasses import dataclass


@dataclass
class Message:
    """One event as a browser would dispatch it."""

    type: str
    data: str
    last_event_id: str


def lines_of(text: str) -> list[str]:
    """Lines end at LF, CR or CRLF, and at nothing else that Python would call a line's end."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read(stream: bytes) -> list[Message]:
    """The messages of a whole stream."""
    messages, last_id = [], ""
    kind, data = "", []
    for line in lines_of(stream.decode().removeprefix("\ufeff")):
        if not line:
            if data:
                messages.append(Message(kind or "message", "\n".join(data), last_id))
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value
    return messages
