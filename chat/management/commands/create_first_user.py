"""Make the first user of a fresh installation, once, with a random password that is shown once."""

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Makes the administrator `admin` with a random password, if there is no user yet, and prints the login."

    def handle(self, *args: Any, **options: Any) -> None:
        users: Any = get_user_model()._default_manager
        if users.exists():
            return
        password = "-".join(secrets.token_hex(2) for _ in range(4))
        users.create_superuser("admin", password=password)
        self.stdout.write(f"\n  First login   admin\n  Password      {password}\n")
        self.stdout.write("  It is shown only now. Lost it? .venv/bin/python manage.py changepassword admin\n\n")
