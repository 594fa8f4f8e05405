"""All runs of a process: they begin here, are watched four times a second, and are saved every checkpoint interval."""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from chat.database import in_database
from chat.presence import BEAT_SECONDS, EXPIRY_SECONDS, answer_place, presence, user_place
from chat.replay import log
from chat.runner import claims, rows
from chat.runner.flusher import Flusher
from chat.runner.jobs import Job
from chat.runner.recovery import Recovery
from chat.runner.run import Run
from chat.runner.slots import Slots

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.25
STRAYS_SECONDS = 60.0


class Runs:
    """Made on a running loop. Holds every run of this process, and their tasks."""

    def __init__(self) -> None:
        self._by_answer: dict[UUID, Run] = {}
        self._places: dict[UUID, int] = {}  # in the queues, as the rows have them
        self._unknown: set[UUID] = set()  # answers that this process holds and does not write
        self._saved_at = self._steady_since = monotonic()
        self._blind_until = 0.0
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: dict[str, Slots] = {}
        self._flusher = Flusher()
        self._recovery = Recovery(self.start)
        checkpoint = settings.CHAT_CHECKPOINT_SECONDS
        rhythms = [(WATCH_SECONDS, self._watch), (checkpoint, self._save), (checkpoint, self._recover)]
        if log().shared:
            rhythms.append((STRAYS_SECONDS, self._close_strays))
        self._loops = [self._detach(self._every(seconds, work)) for seconds, work in rhythms]
        self._loops.append(self._detach(self._flusher.forever()))

    def start(self, job: Job) -> None:
        """Begin a run. Its provider is asked as soon as the loop is free and it has room."""
        slots = self._slots.setdefault(job.provider.name, Slots(settings.CHAT_RUN_SLOTS))
        run = self._by_answer[job.answer] = Run(job, self._flusher, slots)
        run.task = self._detach(self._live(run))

    def start_soon(self, job: Job) -> None:
        """`start` from any thread."""
        self._loop.call_soon_threadsafe(self.start, job)

    def stop(self, answer: UUID, by: str) -> None:
        """Stop a run; answers that other processes write are ignored."""
        if run := self._by_answer.get(answer):
            run.stop(by)

    async def settle(self, seconds: float) -> bool:
        """Wait until no run is left. False if some are when the time is over."""
        end = monotonic() + seconds
        while (tasks := [run.task for run in self._by_answer.values() if run.task]) and monotonic() < end:
            await asyncio.wait(tasks, timeout=end - monotonic())
        return not tasks

    def interrupt(self, message: str) -> None:
        """End all runs that are left as interrupted."""
        for run in list(self._by_answer.values()):
            run.fail("interrupted", message)

    async def close(self) -> None:
        """End the loops. Runs that are still alive are left as they are: their leases run out."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    # The rhythms

    async def _watch(self) -> None:
        """Deadlines, and answers that nobody is there to read."""
        writing = [run for run in self._by_answer.values() if not run.stopping]
        now = monotonic()
        for run in writing:
            run.check_deadlines(now)
        if settings.CHAT_ABANDON_AFTER is not None and writing:
            places = {place for run in writing for place in company(run)}
            try:
                living = await presence().living(places)
            except OSError:
                self._blind_until = now + 2 * BEAT_SECONDS  # a store that comes back empty is told first who is there
                return
            if now < self._blind_until:
                return  # who cannot be asked for counts as present
            for run in writing:
                leave_alone(run, any(place in living for place in company(run)), now, settings.CHAT_ABANDON_AFTER)

    async def _save(self) -> None:
        """Save what changed, renew leases, obey rows that were told to stop, drop runs whose row was lost."""
        runs = dict(self._by_answer)
        changed = [news for run in runs.values() if not run.stopping and (news := run.draft.snapshot())]
        mine: dict[UUID, tuple[int, str]] = {}
        try:
            mine = await in_database(rows.checkpoint, settings.CHAT_WORKER, changed, self._moved())
        finally:
            for news in changed:
                self._saved(runs[news.answer], news, mine)
        self._be_steady()
        for answer, run in runs.items():
            if run.stopping:
                continue
            fence, stop_by = mine.get(answer, (0, ""))
            if fence != run.draft.fence:
                run.lose()
            elif stop_by:
                run.stop(stop_by)
        await self._adopt(set(mine))

    def _saved(self, run: Run, news: rows.Checkpoint, mine: dict[UUID, tuple[int, str]]) -> None:
        if mine.get(news.answer, (0, ""))[0] != news.new_fence:
            run.draft.not_saved()
            return
        run.draft.saved(news)
        if news.new_fence != news.fence:
            self._flusher.touch(run, now=True)

    def _moved(self) -> dict[UUID, int | None]:
        """Whose place in a queue has changed since the last time."""
        places = {answer: place for slots in self._slots.values() for place, answer in enumerate(slots.order(), 1)}
        before, self._places = self._places, places
        gone = dict.fromkeys(before.keys() - places.keys())
        return gone | {answer: place for answer, place in places.items() if before.get(answer) != place}

    async def _adopt(self, held: set[UUID]) -> None:
        """An answer that this process holds at two looks, and does not write, has lost its run to an accident."""
        unknown = held - self._by_answer.keys() - self._recovery.held.keys()
        for answer in unknown & self._unknown:
            await self._recovery.take_over(answer, Q(lease_owner=settings.CHAT_WORKER))
        self._unknown = unknown

    def _be_steady(self) -> None:
        """Note since when this process has renewed its leases without a pause."""
        now = monotonic()
        if now - self._saved_at > settings.CHAT_LEASE_SECONDS / 2:
            self._steady_since = now
        self._saved_at = now

    def _is_steady(self) -> bool:
        """Whether this process has renewed its leases for a whole lease without a pause.

        After an outage that gives the owners of all other answers the time to renew theirs.
        """
        lease = settings.CHAT_LEASE_SECONDS
        return self._saved_at - self._steady_since >= lease and monotonic() - self._saved_at < lease / 2

    async def _recover(self) -> None:
        """Take over answers of processes that are gone, and finish what was taken over."""
        if log().shared:
            await self._recovery.sweep(self._is_steady)
        await self._recovery.finish_all()

    async def _close_strays(self) -> None:
        if closed := await in_database(claims.close_strays, claims.stray_age()):
            logger.warning("%d model calls were left open by processes that are gone; they are closed now", closed)

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
            self._by_answer.pop(run.job.answer, None)

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
