"""What a page or a program is shown of messages."""

from collections.abc import Iterable
from typing import Any

from chat import markdown
from chat.models import Message, Role
from chat.providers import Model, catalogue


def render_final(message: Message) -> Message:
    """The message with its `final_html`: rendered at the first request after the end, then kept in the row."""
    if message.role == Role.ASSISTANT and not message.is_open:
        if message.html_version != markdown.VERSION:
            message.html = markdown.render(message.text)
            message.html_version = markdown.VERSION
            Message.objects.filter(pk=message.pk).exclude(status="open").update(
                html=message.html, html_version=markdown.VERSION
            )
        message.final_html = markdown.trusted(message.html)  # type: ignore[attr-defined]
    return message


def render_all(messages: Iterable[Message]) -> list[Message]:
    """`render_final` for each of them."""
    return [render_final(message) for message in messages]


def models_on_offer() -> list[Model]:
    """The models a person can choose from."""
    return list(catalogue().values())


def state(message: Message) -> dict[str, Any]:
    """Where an answer stands, for programs and for pages whose stream was closed on them."""
    return {
        "answer": str(message.pk),
        "conversation": str(message.conversation_id),
        "status": message.status,
        "last_id": message.final_id or message.text_id,
    }
