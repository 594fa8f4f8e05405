"""Every model call the fake provider saw: the truth that answers and bills are checked against."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass
class Call:
    """One request for a completion. Times are time.monotonic(), which all processes of one machine share.

    `finished` means the provider said all its script told it to, a scripted cut included; `aborted` means the
    client left before that, and `ended_at` is when the provider's socket noticed.
    """

    id: str
    model: str
    opened_at: float
    headers: dict[str, str] = field(repr=False)  # names in lower case, without Authorization
    authorized: bool = True  # the key was the expected one
    body: dict[str, Any] = field(default_factory=dict, repr=False)
    attempt: int = 1  # the how-manieth call with this model and these messages
    state: str = "open"  # open, finished, aborted
    first_sent_at: float | None = None  # first visible or reasoning delta handed to the socket
    ended_at: float | None = None
    tokens: int = 0  # visible deltas handed to the socket

    def sent(self) -> None:
        """Count one visible delta."""
        self.tokens += 1
        if self.first_sent_at is None:
            self.first_sent_at = time.monotonic()


class Ledger:
    """All calls in order of arrival. Safe to read from any thread; written by the provider's thread alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[Call] = []
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._number = 0

    def open(self, model: str, headers: dict[str, str], authorized: bool, body: dict[str, Any]) -> Call:
        """Enter a call. Attempts count calls with the same model name and messages since the last reset."""
        with self._changed:
            self._number += 1
            self._attempts[key := (model, repr(body.get("messages")))] += 1
            attempt = self._attempts[key]
            call = Call(f"call-{self._number}", model, time.monotonic(), headers, authorized, body, attempt)
            self._calls.append(call)
            self._changed.notify_all()
        return call

    def close(self, call: Call, state: str) -> None:
        """Note how a call ended. The first ending counts."""
        with self._changed:
            if call.state == "open":
                call.ended_at = time.monotonic()
                call.state = state
                self._changed.notify_all()

    def reset(self) -> None:
        """Forget all calls and attempts. A call that is open goes on, unrecorded."""
        with self._changed:
            self._calls.clear()
            self._attempts.clear()

    def calls(self) -> list[Call]:
        """Copies of all calls as they are now."""
        with self._changed:
            return [replace(call) for call in self._calls]

    def totals(self) -> dict[str, int]:
        """How many calls are in each state, and the tokens of all: cheap enough to ask for in mid-load."""
        with self._changed:
            states = Counter(call.state for call in self._calls)
            tokens = sum(call.tokens for call in self._calls)
        return {**{state: states[state] for state in ("open", "finished", "aborted")}, "tokens": tokens}

    def wait(self, until: Callable[[list[Call]], object], timeout: float = 5.0) -> list[Call]:
        """Block until `until(calls)` is true and return the calls; TimeoutError otherwise.

        It is asked again when a call opens or ends, and every 20 ms, since tokens wake nobody.
        """
        deadline = time.monotonic() + timeout
        while not until(calls := self.calls()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout} s; the calls are {calls}")
            with self._changed:
                self._changed.wait(0.02)
        return calls
