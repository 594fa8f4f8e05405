"""What belongs to a person beside conversations: idempotency keys and bearer tokens."""

import hashlib
import secrets
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import models

from chat.models.messages import Message


class Submission(models.Model):
    """An idempotency key that a user sent, and the answer it opened. Kept as long as the user is."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64)
    answer = models.ForeignKey(Message, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "key"], name="one_submission_per_key")]

    def __str__(self) -> str:
        return self.key


class ApiToken(models.Model):
    """A personal bearer token for programs. Only its SHA-256 is stored; the token itself is shown once."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=60, blank=True)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.name or 'token'} of {self.user}"

    @staticmethod
    def hash(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()

    @classmethod
    def create_for(cls, user: AbstractBaseUser, name: str = "") -> str:
        """Make a token for the user and return it; it cannot be read again."""
        token = f"parley_{secrets.token_urlsafe(32)}"
        cls.objects.create(user=user, name=name, digest=cls.hash(token))
        return token
