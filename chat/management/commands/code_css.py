"""Print the stylesheet of highlighted code: manage.py code_css > static/chat/code.css."""

from typing import Any

from django.core.management.base import BaseCommand

from chat.markdown import code_css


class Command(BaseCommand):
    help = "Prints the stylesheet of highlighted code, made from Pygments' styles."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(code_css())
