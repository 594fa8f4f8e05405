"""Who follows what on this process, and whether they still may: one list, one batched look every two seconds.

Streams and sockets register here while they are open. The look keeps them present (so that nobody's answer is abandoned),
tells them when their right to read has ended (signed out, password changed, deactivated, answer deleted), and completes
logs whose row has ended without their hearing of it. There is room for so many: `admit` comes before `enter`.
"""

import asyncio
import contextvars
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from time import monotonic
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.utils import timezone

from chat.database import in_database
from chat.models import ApiToken, Message, Status
from chat.presence import BEAT_SECONDS, Beat, answer_place, presence, user_place
from chat.replay import Entry, LogUnavailable, log

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
# An admitted reader that has not entered after so many seconds has been lost on the way, and does not count any more.
ENTRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Credential:
    """What a door was opened with. It holds while the session or token exists and the password stays the same."""

    user: int
    auth_hash: str = field(repr=False)
    session: str = field(default="", repr=False)
    token: str = field(default="", repr=False)  # its digest

    @classmethod
    def of(cls, user: AbstractBaseUser, *, session: str | None = None, token: str = "") -> "Credential":
        """Of a user who has just been authenticated by a session key or by a token's digest."""
        return cls(user.pk, user.get_session_auth_hash(), session or "", token)


@dataclass(eq=False, slots=True)
class Reader:
    """An open stream (it follows an answer) or socket (it is a page).

    When its right to read ends, `revoked` turns true and `on_revoked` is called, once. While the answer waits for its
    turn at a provider, `queue_position` says how many turns that is away; `orphaned` that its writer is gone.
    """

    credential: Credential
    answer: UUID | None = None
    page: str = ""
    conversation: str = ""  # that the page shows
    member: str = field(default_factory=lambda: secrets.token_hex(8))
    opened_at: float = field(default_factory=monotonic)
    queue_position: int | None = None
    orphaned: bool = False
    revoked: bool = False
    on_revoked: Callable[[], None] | None = None
    counted: bool = False  # among those that take room

    @property
    def place(self) -> str:
        return answer_place(self.answer) if self.answer else user_place(self.credential.user)

    def beat(self) -> Beat:
        """This reader's sign of life."""
        info = {"user": self.credential.user, "page": self.page, "conversation": self.conversation}
        return Beat(self.place, self.member, info)


class Crowded(Exception):
    """There is no room for one more reader of its kind: of this user's, or of anybody's in this process."""

    def __init__(self, *, of_user: bool) -> None:
        super().__init__()
        self.of_user = of_user


_readers: set[Reader] = set()
_expected: set[Reader] = set()  # admitted, and not entered yet
_crowd: Counter[tuple[str, int | None]] = Counter()  # by kind of page, for each user and (None) for all of them
_tasks: list[asyncio.Task[None]] = []


def admit(reader: Reader) -> None:
    """Count the reader from now on, until it leaves. For the loop's thread.

    Raises Crowded where CHAT_MAX_USER_STREAMS or CHAT_MAX_STREAMS are reached; streams and sockets are counted apart.
    """
    late = monotonic() - ENTRY_SECONDS
    for lost in [one for one in _expected if one.opened_at < late]:
        _count(lost, False)
    if _crowd[reader.page, reader.credential.user] >= settings.CHAT_MAX_USER_STREAMS:
        raise Crowded(of_user=True)
    if _crowd[reader.page, None] >= settings.CHAT_MAX_STREAMS:
        raise Crowded(of_user=False)
    _expected.add(reader)
    _count(reader, True)


def _count(reader: Reader, counts: bool) -> None:
    """Whether this reader takes room. Saying the same again does nothing."""
    if not counts:
        _expected.discard(reader)
    if reader.counted == counts:
        return
    reader.counted = counts
    for whose in (reader.credential.user, None):
        _crowd[reader.page, whose] += 1 if counts else -1
        if not _crowd[reader.page, whose]:
            del _crowd[reader.page, whose]


async def enter(reader: Reader) -> None:
    """From now on the reader counts as present and is looked after."""
    _expected.discard(reader)
    _count(reader, True)
    _readers.add(reader)
    await _beat([reader])


async def leave(reader: Reader) -> None:
    """The reader is gone, or was admitted in vain; calling it again does nothing."""
    _count(reader, False)
    if reader in _readers:
        _readers.discard(reader)
        try:
            await presence().leave(reader.place, reader.member)
        except OSError:
            logger.warning("presence could not be told of a leaving reader; its beat will run out")


def leave_soon(loop: asyncio.AbstractEventLoop, reader: Reader) -> None:
    """`leave` from any thread, or from a place that cannot wait."""
    loop.call_soon_threadsafe(lambda: _keep(loop.create_task(leave(reader), context=contextvars.Context())))


_leaving: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    _leaving.add(task)
    task.add_done_callback(_leaving.discard)


def still_valid(credentials: Iterable[Credential]) -> set[Credential]:
    """Those of the credentials that still hold, by three queries for any number of them."""
    asked = set(credentials)
    users = get_user_model()._default_manager.filter(pk__in={c.user for c in asked}, is_active=True)
    hashes = {user.pk: user.get_session_auth_hash() for user in users}
    store = import_module(settings.SESSION_ENGINE).SessionStore.get_model_class()
    sessions = {c.session for c in asked if c.session}
    alive = set(store.objects.filter(pk__in=sessions).values_list("pk", flat=True)) if sessions else set()
    tokens = {c.token for c in asked if c.token}
    known = set(ApiToken.objects.filter(digest__in=tokens).values_list("digest", flat=True)) if tokens else set()
    return {c for c in asked if hashes.get(c.user) == c.auth_hash and (c.session in alive or c.token in known)}


def user_of(credential: Credential) -> AbstractBaseUser | None:
    """The user as the database has them now; None if the credential does not hold any more."""
    if credential not in still_valid([credential]):
        return None
    return get_user_model()._default_manager.filter(pk=credential.user).first()


async def start() -> None:
    """Begin to look after readers."""
    for work in (_look_forever(), _beat_forever()):
        _tasks.append(asyncio.create_task(work, context=contextvars.Context()))


async def close() -> None:
    """Stop looking."""
    for task in _tasks:
        task.cancel()
    await asyncio.gather(*_tasks, return_exceptions=True)
    _tasks.clear()


async def _look_forever() -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            if readers := list(_readers):
                await _look(readers)
        except Exception:
            logger.exception("looking after readers failed, trying again")


async def _beat_forever() -> None:
    """Apart from the look, which waits for the database: nobody is absent because that hangs."""
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        await _beat(list(_readers))


async def _beat(readers: list[Reader]) -> None:
    try:
        await presence().beat([reader.beat() for reader in readers])
    except OSError:
        logger.warning("presence cannot be reached; nobody counts as absent meanwhile")


async def _look(readers: list[Reader]) -> None:
    """One look: rights first, then answers that ended unheard."""
    followed = {reader.answer for reader in readers if reader.answer}
    valid, rows = await in_database(_ask_rows, {reader.credential for reader in readers}, followed)
    for reader in readers:
        row = rows.get(reader.answer) if reader.answer else None
        if reader.credential not in valid or (reader.answer and row is None):
            revoke(reader)
        elif row:
            reader.queue_position = row.queue_position
            reader.orphaned = row.lease_until is not None and row.lease_until < timezone.now()
    for row in rows.values():
        if row.status != Status.OPEN:
            await _complete(row)


def revoke(reader: Reader) -> None:
    """The reader may not read any more."""
    if not reader.revoked:
        reader.revoked = True
        if reader.on_revoked:
            reader.on_revoked()


def _ask_rows(credentials: set[Credential], followed: set[UUID]) -> tuple[set[Credential], dict[UUID, Message]]:
    rows = Message.objects.filter(pk__in=followed).defer("text", "reasoning", "html")
    return still_valid(credentials), {row.pk: row for row in rows}


async def _complete(row: Message) -> None:
    """Tell the log how the row ended, in case nobody has."""
    event = row.final_event()
    if event:
        with suppress(LogUnavailable):
            await log().conclude(Entry(row.pk, row.final_position, event))
