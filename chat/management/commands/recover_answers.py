"""End answers that no server writes any more, while no server runs that would do it."""

import asyncio
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db.models import Q

from chat import runner
from chat.database import in_database
from chat.models import Message
from chat.replay import log
from chat.runner import be_alone, out_of_time


class Command(BaseCommand):
    help = (
        "Ends every answer whose writer is gone as interrupted, with the text that was acknowledged. "
        "Servers do this by themselves within seconds; this is for when none runs, or when the log is gone for good."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--without-log",
            action="store_true",
            help="do not ask the log, which is gone: at most the last second of each answer is lost with it",
        )

    def handle(self, *args: Any, without_log: bool, **options: Any) -> None:
        be_alone()
        ended, left = asyncio.run(self.recover(without_log))
        self.stdout.write(f"Ended: {ended}.")
        if left:
            self.stdout.write(f"Still open: {left}, since the log cannot be asked. Try again, or use --without-log.")

    async def recover(self, without_log: bool) -> tuple[int, int]:
        """How many were ended, and how many are left."""
        held = Q()
        if log().shared:
            held = await self.not_renewed()
        try:
            return await runner.recover(held, without_log=without_log)
        finally:
            await log().close()

    async def not_renewed(self) -> Q:
        """Answers whose owners have had a whole lease to show themselves, also after an outage of the database."""
        before = await in_database(self.leases)
        if not before:
            return Q(pk__in=[])
        self.stdout.write(
            f"Open: {len(before)}. Waiting for {settings.CHAT_LEASE_SECONDS:g} s whether servers write them."
        )
        await asyncio.sleep(settings.CHAT_LEASE_SECONDS + 1)
        after = await in_database(self.leases)
        return out_of_time() & Q(pk__in=[pk for pk, lease in after.items() if before.get(pk) == lease])

    @staticmethod
    def leases() -> dict[Any, Any]:
        return dict(Message.objects.open().values_list("pk", "lease_until"))
