"""The one flusher of a process: it moves the news of all runs to the log together, and their state to the rows.

Three rhythms, each one loop for all runs: news go out every flush interval (a first delta at once), deadlines and
abandonment are checked four times a second, rows are saved and leases renewed every checkpoint interval.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any
from uuid import UUID

from django.conf import settings

from chat.database import in_database
from chat.presence import EXPIRY_SECONDS, answer_place, presence, user_place
from chat.replay import Entry, LogUnavailable, log
from chat.runner import rows
from chat.runner.run import Run
from chat.runner.talk import Job

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.25
LOG_RETRY_SECONDS = 0.2


class Flusher:
    """Made on a running loop. Holds every run of this process, and their tasks."""

    def __init__(self) -> None:
        self.runs: dict[UUID, Run] = {}
        self._orphans: set[UUID] = set()  # answers whose run broke before it could end them
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        self._now: set[Run] = set()
        self._soon: set[Run] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[Run, list[asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops = [
            self._detach(self._flush_forever()),
            self._detach(self._every(WATCH_SECONDS, self._watch)),
            self._detach(self._every(settings.CHAT_CHECKPOINT_SECONDS, self._save)),
        ]

    def start(self, job: Job) -> None:
        """Begin a run. Its provider is asked as soon as the loop is free."""
        run = self.runs[job.answer] = Run(job, self)
        run.task = self._detach(self._live(run))

    def start_soon(self, job: Job) -> None:
        """`start` from any thread."""
        self._loop.call_soon_threadsafe(self.start, job)

    def writing(self) -> list[asyncio.Task[None]]:
        """The tasks of all runs that are alive."""
        return [run.task for run in self.runs.values() if run.task]

    async def close(self) -> None:
        """End the loops. Runs that are still alive are left as they are: their leases run out."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    # For runs

    def touch(self, run: Run, *, now: bool) -> None:
        """This run has news: for the next flush, or for one at once."""
        if now:
            self._now.add(run)
            self._bell.set()
            return
        self._soon.add(run)
        if self._timer is None:
            self._timer = self._loop.call_later(settings.CHAT_FLUSH_MS / 1000, self._ring)

    async def flush(self, run: Run) -> None:
        """Returns when everything this run has written so far is acknowledged."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(run, []).append(done)
        self.touch(run, now=True)
        await done

    # The loops

    def _ring(self) -> None:
        self._timer = None
        self._now |= self._soon
        self._soon.clear()
        self._bell.set()

    async def _flush_forever(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            runs, self._now = self._now, set()
            self._soon -= runs
            try:
                await self._flush(runs)
            except Exception:
                logger.exception("a flush failed; the next one goes on")

    async def _flush(self, runs: set[Run]) -> None:
        """Take the news of these runs to the log, and wake those who wait for that."""
        waiting = [future for run in runs for future in self._waiting.pop(run, ())]
        try:
            news = {run: entries for run in runs if (entries := run.take())}
            if news:
                await self._append(news)
        finally:
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def _append(self, news: dict[Run, list[Entry]]) -> None:
        """Add to the log, for as long as it takes, and tell the runs what became of it."""
        entries = [entry for run_entries in news.values() for entry in run_entries]
        while True:
            try:
                refused = await log().append(entries)
                break
            except LogUnavailable:
                await asyncio.sleep(LOG_RETRY_SECONDS)
            except Exception:
                logger.exception("the log broke its contract, trying again")
                await asyncio.sleep(1)
        for run, run_entries in news.items():
            if run.job.answer in refused:
                run.lose()
            else:
                run.acknowledge(run_entries)

    async def _watch(self) -> None:
        """Deadlines, and answers that nobody is there to read."""
        writing = [run for run in self.runs.values() if not run.stopping]
        now = monotonic()
        for run in writing:
            run.check_deadlines(now)
        if settings.CHAT_ABANDON_AFTER is not None and writing:
            places = {place for run in writing for place in company(run)}
            try:
                living = await presence().living(places)
            except OSError:
                return  # who cannot be asked counts as present
            for run in writing:
                leave_alone(run, any(place in living for place in company(run)), now, settings.CHAT_ABANDON_AFTER)

    async def _save(self) -> None:
        """Save what changed, renew leases, obey rows that were told to stop, drop rows that were lost."""
        for answer in list(self._orphans):
            await in_database(rows.interrupt, answer)
            self._orphans.discard(answer)
        if not self.runs:
            return
        runs = dict(self.runs)
        changed = [news for run in runs.values() if not run.stopping and (news := run.checkpoint())]
        mine = await in_database(rows.checkpoint, settings.CHAT_WORKER, changed)
        for news in changed:
            runs[news.answer].saved(news)
        for answer, run in runs.items():
            if run.stopping:
                continue
            fence, stop_by = mine.get(answer, (0, ""))
            if fence != run.job.fence:
                run.lose()
            elif stop_by:
                run.stop(stop_by)

    async def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call `work` again and again; an outage of what it needs is logged and survived."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception:
                logger.exception("%s failed, trying again", work.__name__)

    async def _live(self, run: Run) -> None:
        try:
            await run.live()
        except Exception:
            logger.exception("the run of answer %s broke", run.job.answer)
        finally:
            self.runs.pop(run.job.answer, None)
            if not run.settled:
                self._orphans.add(run.job.answer)

    def _detach(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of its own context: in the caller's it would inherit a request's thread and connection."""
        task = self._loop.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def company(run: Run) -> tuple[str, str]:
    """Where somebody may be who will read this answer: its readers, or any open page of its owner."""
    return answer_place(run.job.answer), user_place(run.job.user)


def leave_alone(run: Run, present: bool, now: float, patience: float) -> None:
    """Stop a run whose readers have been away for as long as settings allow.

    An answer that nobody has come to read yet is given the time in which a page would have shown itself.
    """
    if present:
        run.alone_since, run.had_company = None, True
        return
    if run.alone_since is None:
        run.alone_since = now
    grace = patience if run.had_company else max(patience, EXPIRY_SECONDS)
    if now - run.alone_since >= grace:
        run.stop("abandoned")
