"""The ledger: what was asked of providers, and what it cost."""

from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chat.models.messages import Message, Status


class ModelCall(models.Model):
    """One request to a provider, opened before it is sent and closed whatever happens."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    answer = models.ForeignKey(Message, models.SET_NULL, null=True, related_name="calls")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="model_calls")
    provider = models.CharField(max_length=40)
    model = models.CharField(max_length=200)
    outcome = models.CharField(max_length=12, choices=Status, default=Status.OPEN)
    error_code = models.CharField(max_length=40, blank=True)
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(null=True, blank=True)
    estimated = models.BooleanField(default=False)

    class Meta:
        ordering = ("-opened_at",)
        indexes: ClassVar = [models.Index(fields=["-opened_at"])]

    def __str__(self) -> str:
        return f"{self.model} {self.pk}"

    @classmethod
    def close(cls, call: UUID, outcome: str, **fields: Any) -> None:
        """Close an open call; one that is closed stays as it is."""
        cls.objects.filter(pk=call, outcome=Status.OPEN).update(outcome=outcome, closed_at=Now(), **fields)
