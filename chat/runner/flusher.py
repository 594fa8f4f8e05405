"""The one flusher of a process: it moves the news of all its runs to the log together, every flush interval.

A first delta goes at once. What the log does not take is offered again and again; meanwhile the rows acknowledge.
"""

import asyncio
import logging

from django.conf import settings

from chat.replay import Fate, LogUnavailable, log
from chat.runner.draft import Parcel
from chat.runner.run import Run

logger = logging.getLogger(__name__)

LOG_RETRY_SECONDS = 0.2


class Flusher:
    """Made on a running loop; works while somebody awaits `forever`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        self._now: set[Run] = set()
        self._soon: set[Run] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[Run, list[asyncio.Future[None]]] = {}
        self._log_is_away = False

    def touch(self, run: Run, *, now: bool) -> None:
        """This run has news: for the next flush, or for one at once."""
        if now:
            self._now.add(run)
            self._bell.set()
            return
        self._soon.add(run)
        self._ring_in(settings.CHAT_FLUSH_MS / 1000)

    async def flush(self, run: Run) -> None:
        """Returns when the log has acknowledged what this run has written so far, or could not be reached."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(run, []).append(done)
        self.touch(run, now=True)
        await done

    async def forever(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            runs, self._now = self._now, set()
            self._soon -= runs
            try:
                await self._flush(runs)
            except Exception:
                logger.exception("a flush failed; the next one goes on")

    def _ring_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._now |= self._soon
        self._soon.clear()
        self._bell.set()

    async def _flush(self, runs: set[Run]) -> None:
        waiting = [future for run in runs for future in self._waiting.pop(run, ())]
        try:
            parcels = {run: parcel for run in runs if not run.mute and (parcel := run.draft.due())}
            if parcels:
                await self._append(parcels)
        finally:
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def _append(self, parcels: dict[Run, Parcel]) -> None:
        """Offer the parcels to the log, and tell the runs what became of them."""
        try:
            fates = await log().append([entry for parcel in parcels.values() for entry in parcel.entries])
        except Exception as error:
            self._note(away=True, why=error)
            for run in parcels:
                run.draft.late()
            self._soon |= parcels.keys()
            self._ring_in(LOG_RETRY_SECONDS)
            return
        self._note(away=False)
        for run, parcel in parcels.items():
            fate = fates.get(run.job.answer)
            if fate is None:
                run.draft.acknowledge(parcel)
            elif fate is Fate.LOST:
                run.draft.lose_log(parcel)
            elif parcel.fence == run.draft.fence:
                run.lose()

    def _note(self, *, away: bool, why: Exception | None = None) -> None:
        """Say once that the log is away, and once that it is back."""
        if away and not isinstance(why, LogUnavailable):
            logger.error("the log broke its contract", exc_info=why)
        elif away and not self._log_is_away:
            logger.warning("the log cannot be reached: %s; the database acknowledges meanwhile", why)
        elif self._log_is_away and not away:
            logger.warning("the log can be reached again")
        self._log_is_away = away
