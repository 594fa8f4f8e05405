"""Make a personal bearer token: manage.py create_token USERNAME [--name NAME]."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from chat.models import ApiToken


class Command(BaseCommand):
    help = "Makes a bearer token with which a program can ask as this user. It is printed once and stored as a hash."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", default="", help="what it is for, to recognise it in the admin")

    def handle(self, *args: Any, **options: Any) -> None:
        users = get_user_model()._default_manager
        user = users.filter(username=options["username"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user {options['username']!r}. manage.py createsuperuser makes one.")
        self.stdout.write(ApiToken.create_for(user, options["name"]))
