"""Users as the page makes them: they send again what may be lost, come back where they were cut, and note all they see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.history import Click, Post, Reading, Seen, Visit
from chaos.wire import Exchange, Frames, fetch, request

SILENCE_SECONDS = 40.0  # the server says something every 15 s
POST_SECONDS = 40.0
RETRY_STATUSES = (0, 502, 503, 504)
LONGEST_WAIT = 4.0  # seconds between two tries


@dataclass
class User:
    """Somebody with a bearer token, who reaches the service at any of these doors."""

    token: str
    doors: Sequence[str]
    rng: random.Random = field(default_factory=random.Random)

    def headers(self, accept: str, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Accept": accept, **more}

    def door(self, avoid: str = "") -> str:
        """Any door but that one, which has just refused: as a proxy would choose."""
        return self.rng.choice([door for door in self.doors if door != avoid] or self.doors)

    async def ask(self, click: Click, patience: float = 60.0) -> bool:
        """Send the question, again and again until it is acknowledged or refused. True when it is acknowledged."""
        end, tries = time.monotonic() + patience, 0
        while time.monotonic() < end:
            refused = click.posts[-1].door if click.posts else ""
            post = await self.post(click, self.door(refused))
            if post.status not in RETRY_STATUSES:
                return click.acknowledged
            await self.pause(tries)
            tries += 1
        return click.acknowledged

    async def post(self, click: Click, door: str) -> Post:
        """One try to send the question; it is noted whatever becomes of it."""
        sent, status, reply = time.monotonic(), 0, b""
        headers = self.headers("application/json", **{"Content-Type": "application/json"})
        headers["Idempotency-Key"] = click.question
        body = json.dumps({"text": click.question, "model": click.model}).encode()
        with contextlib.suppress(OSError, TimeoutError):  # whether it arrived is not known: status 0 says so
            status, reply = await fetch(door, "POST", click.path, headers, body, POST_SECONDS)
        told = json.loads(reply) if 200 <= status < 300 else {}
        click.conversation = told.get("conversation", click.conversation)
        post = Post(door, sent, time.monotonic(), status, told.get("answer", ""))
        click.posts.append(post)
        return post

    async def stop(self, answer: str, door: str, within: float = 30.0) -> tuple[int, dict[str, Any]]:
        """Ask for the end of an answer; status and receipt."""
        status, reply = await fetch(
            door, "POST", f"/answers/{answer}/stop", self.headers("application/json"), b"", within
        )
        return status, json.loads(reply)

    async def read(self, click: Click, name: str = "reader", patience: float = 120.0) -> Reading:
        """Follow the answer of a click to its end, over as many connections as it takes."""
        reader = Reader(self, click.answer, Reading(name))
        click.readings.append(reader.reading)
        await reader.read(time.monotonic() + patience)
        return reader.reading

    async def pause(self, tries: int) -> None:
        """A jittered wait that grows from try to try."""
        await asyncio.sleep(min(LONGEST_WAIT, 0.25 * 2**tries) * self.rng.uniform(0.7, 1.3))


class Reader:
    """Reads one answer as the page does. `watch` is told of every event, and cuts the connection by returning True."""

    def __init__(self, user: User, answer: str, reading: Reading, watch: Callable[[Seen], bool] | None = None) -> None:
        self.user = user
        self.answer = answer
        self.reading = reading
        self.watch = watch
        self.exchange: Exchange | None = None
        self._tries = 0

    async def read(self, end: float) -> None:
        """Come back until the answer has ended for this reader, or the time is over."""
        self._tries = 0
        refused = ""
        while not self.is_over() and time.monotonic() < end:
            visit = await self.visit(self.user.door(refused), self.reading.last_id, end)
            refused = "" if visit.status == 200 else visit.door
            if self.is_over() or visit.status not in (*RETRY_STATUSES, 200):
                return
            if visit.status == 200:
                self._tries = 0
            await self.user.pause(self._tries)
            self._tries += 1

    def is_over(self) -> bool:
        """The final event and `close` were seen, or there is nothing after it."""
        visit = self.reading.visits[-1] if self.reading.visits else None
        if visit is None or self.reading.final is None:
            return bool(visit and visit.status == 204)
        return visit.status == 204 or bool(visit.events and visit.events[-1].name == "close")

    async def visit(self, door: str, after: str, end: float) -> Visit:
        """One connection, from the position to its end. It is noted whatever becomes of it."""
        visit = Visit(door, after, time.monotonic())
        self.reading.visits.append(visit)
        headers = self.user.headers("text/event-stream") | ({"Last-Event-ID": after} if after else {})
        frames = Frames(lambda name, id_, data: self._see(visit, Seen(time.monotonic(), name, id_, data)))
        try:
            async with request(door, "GET", f"/answers/{self.answer}/events", headers, take=frames.feed) as exchange:
                self.exchange = exchange
                async with asyncio.timeout(min(SILENCE_SECONDS, max(0.1, end - time.monotonic()))):
                    visit.status = (await exchange.head).status
                visit.ending = await self._until_over(exchange, end)
        except (OSError, TimeoutError):
            visit.ending = "cut"
        visit.ended_at, self.exchange = time.monotonic(), None
        return visit

    def _see(self, visit: Visit, seen: Seen) -> None:
        self._tries = 0
        visit.events.append(seen)
        if self.watch and self.watch(seen):
            self.cut()

    def cut(self) -> None:
        """Break the connection that is open, if one is; the reader comes back."""
        if self.exchange:
            self.reading.visits[-1].ending = "left"
            self.exchange.leave()

    async def _until_over(self, exchange: Exchange, end: float) -> str:
        """How the body ended."""
        loop = asyncio.get_running_loop()
        while not exchange.over.done():
            quiet = SILENCE_SECONDS - (loop.time() - exchange.heard_at)
            if quiet <= 0:
                return "silent"
            if time.monotonic() >= end:
                return "left"
            await asyncio.wait([exchange.over], timeout=min(quiet, max(0.01, end - time.monotonic())))
        return self.reading.visits[-1].ending or ("end" if exchange.over.result() else "cut")
