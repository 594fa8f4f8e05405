"""The rows: conversations, their messages, the ledger of model calls, submissions, and bearer tokens."""

from chat.models.ledger import ModelCall
from chat.models.messages import Conversation, Message, Role, Status, lease_end, status_after
from chat.models.people import ApiToken, Submission

__all__ = [
    "ApiToken",
    "Conversation",
    "Message",
    "ModelCall",
    "Role",
    "Status",
    "Submission",
    "lease_end",
    "status_after",
]
