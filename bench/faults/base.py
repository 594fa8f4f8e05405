"""What a fault is, and which endings are right after one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.answer import Job, closing, opening, streamed, tokens
from bench.script import Script, text
from bench.wire import Steps

Play = Callable[[Job], Steps]
Events = Callable[[Job], list[bytes]]
Outcome = tuple[str, Callable[[Script, str], bool]]  # an ending, and whether this visible text fits it


@dataclass(frozen=True)
class Fault:
    """One misbehaviour. `play` gives the whole response as bytes and pauses, from the status line on.

    An ending is "stop", "length", "content_filter" or "error"; several are allowed where ignoring the fault
    and giving up are both honest. `plain` faults also strike requests without `stream`.
    """

    name: str
    says: str
    play: Play
    outcomes: tuple[Outcome, ...]
    plain: bool = False

    def accepts(self, script: Script, ending: str, shown: str) -> bool:
        """Whether a client that ended so and shows this text did right by this script."""
        return any(ending == right and fits(script, shown) for right, fits in self.outcomes)


def whole(script: Script, shown: str) -> bool:
    """Every token is there, and nothing else."""
    return shown == script.whole


def part(script: Script, shown: str) -> bool:
    """The tokens before the fault are there, and nothing else."""
    return shown == script.part


def nothing(script: Script, shown: str) -> bool:
    """No text at all."""
    return shown == ""


def prefix(script: Script, shown: str) -> bool:
    """The beginning of the endless answer of this seed, however long."""
    return text(script.seed, len(shown) // 3 + 1).startswith(shown)  # a token has three characters at least


def amid(insert: str) -> Callable[[Script, str], bool]:
    """The whole answer with `insert` where the fault struck."""

    def fits(script: Script, shown: str) -> bool:
        return shown == script.part + insert + script.whole[len(script.part) :]

    return fits


STOPS: tuple[Outcome, ...] = (("stop", whole),)
BREAKS: tuple[Outcome, ...] = (("error", part),)
EITHER = STOPS + BREAKS
FAILS: tuple[Outcome, ...] = (("error", nothing),)


def around(job: Job, middle: Steps) -> Steps:
    """The events of an answer with `middle` after `at` tokens."""
    yield from opening(job)
    yield from tokens(job, 0, job.script.struck)
    yield from middle
    yield from tokens(job, job.script.struck, job.script.tokens)
    yield from closing(job)


def insert(events: Events) -> Play:
    """A fault that sends these bytes in mid-answer and goes on as if nothing had been."""
    return lambda job: streamed(job, around(job, iter(events(job))))


def until(job: Job, then: Steps) -> Steps:
    """The events of an answer up to the fault, then `then`."""
    yield from opening(job)
    yield from tokens(job, 0, job.script.struck)
    yield from then


def says(content: str) -> Play:
    """A fault that is one delta with this text, in mid-answer."""
    return insert(lambda job: [job.says(content)])
