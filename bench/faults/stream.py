"""Faults of the stream: silence, no end, cuts, broken framing, and unusual but legal ways to write events."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from bench.answer import Job, body, opening, streamed, tokens
from bench.faults.base import (
    BREAKS,
    FAILS,
    STOPS,
    Fault,
    Play,
    amid,
    around,
    insert,
    prefix,
    until,
)
from bench.wire import FOREVER, LAST_CHUNK, Cut, Step, Steps, event, framed

PAUSE = 0.03  # seconds: far longer than the kernel joins two writes, so a client gets them apart
COMMENT = b": still here\n\n"


def wait(job: Job, comment: bytes) -> Steps:
    """Silence for ever, but for a comment four times a second if there is one."""
    while comment:
        yield comment
        yield job.now() + 0.25
    yield FOREVER


def silent_first(comment: bytes = b"") -> Play:
    """Headers, then no token."""
    return lambda job: streamed(job, wait(job, comment))


def silent_middle(comment: bytes = b"") -> Play:
    """`at` tokens, then no more."""
    return lambda job: streamed(job, until(job, wait(job, comment)))


def endless(job: Job) -> Steps:
    """Tokens at the script's rate, for ever."""
    return streamed(job, (step for i in count() for step in tokens(job, i, i + 1)))


def endless_slow(job: Job) -> Steps:
    """A token every half second, for ever."""

    def drip() -> Steps:
        for i in count():
            yield from (step for step in tokens(job, i, i + 1) if isinstance(step, bytes))
            yield job.now() + 0.5

    return streamed(job, drip())


def endless_line(job: Job) -> Steps:
    """An event that never comes to its end: 64 kB a write, at 50 MB/s at most."""

    def line() -> Steps:
        yield event(job.chunk({"content": "a"})).partition(b'a"}')[0]
        while True:
            yield b"a" * 65_536
            yield job.now() + 0.00125

    return streamed(job, until(job, line()))


def cut_at_head(how: Cut) -> Play:
    """Headers, then the end of the connection."""
    return lambda job: iter([job.head(), PAUSE, how])


def bare(*last: Step) -> Play:
    """`at` tokens, a pause, then these steps on the bare connection: nothing is framed, nothing is ended."""

    def play(job: Job) -> Steps:
        yield job.head()
        yield from framed(until(job, iter(())))
        yield job.now() + PAUSE
        yield from last

    return play


def cut_inside(how: Cut, place: bytes, keep: int) -> Play:
    """`at` tokens and one more event, cut `keep` bytes after `place` in it, and so inside its chunk too."""

    def play(job: Job) -> Steps:
        yield job.head()
        yield from framed(until(job, iter(())))
        last = event(job.chunk({"content": "日本"}))
        yield b"%x\r\n%b" % (len(last), last[: last.index(place) + keep])
        yield job.now() + PAUSE
        yield how

    return play


def cut_after_finish(how: Cut) -> Play:
    """A whole answer and its finish reason, then the end of the connection where [DONE] should be."""

    def play(job: Job) -> Steps:
        yield job.head()
        yield from framed(opening(job))
        yield from framed(tokens(job, 0, job.script.tokens))
        yield from framed([event(job.chunk({}, "stop"))])
        yield job.now() + PAUSE
        yield how

    return play


def bytewise(job: Job) -> Steps:
    """A good answer, every byte a write of its own."""
    for step in streamed(job):
        yield from (step[i : i + 1] for i in range(len(step))) if isinstance(step, bytes) else [step]


def split(place: bytes, keep: int) -> Play:
    """One delta in two chunks with a pause between them."""

    def play(job: Job) -> Steps:
        def halves() -> Steps:
            data = job.says("日本 ")
            at = data.index(place) + keep
            yield data[:at]
            yield job.now() + PAUSE
            yield data[at:]

        return streamed(job, around(job, halves()))

    return play


def written(change: Callable[[bytes], bytes], start: bytes = b"") -> Play:
    """A good answer whose events are written differently, after `start`."""

    def events(job: Job) -> Steps:
        if start:
            yield start
        for step in body(job):
            yield change(step) if isinstance(step, bytes) else step

    return lambda job: streamed(job, events(job))


def two_lines(job: Job) -> list[bytes]:
    """JSON over two data lines of one event, as the standard for event streams allows."""
    return [job.says("two lines ").replace(b',"choices"', b'\ndata: ,"choices"')]


ENDLESS = (("error", prefix), ("length", prefix))
FIN, RST = Cut.FIN, Cut.RST
CHAR = "日".encode()
TABLE: list[Fault] = [
    Fault("silent-first", "Headers at once, then silence before the first token.", silent_first(), FAILS),
    Fault("silent-first-comments", "Comments, but never a token.", silent_first(COMMENT), FAILS),
    Fault("silent-middle", "Silence after `at` tokens.", silent_middle(), BREAKS),
    Fault("silent-middle-comments", "Comments alone after `at` tokens.", silent_middle(COMMENT), BREAKS),
    Fault("endless", "Tokens at `rate` that never stop.", endless, ENDLESS),
    Fault("endless-slow", "A token every half second, for ever.", endless_slow, ENDLESS),
    Fault("endless-line", "After `at` tokens a line that never ends.", endless_line, BREAKS),
    Fault("cut-after-headers", "Closes (FIN) after the headers.", cut_at_head(FIN), FAILS),
    Fault("cut-after-headers-rst", "Resets (RST) after the headers.", cut_at_head(RST), FAILS),
    Fault("cut", "Closes (FIN) between two events after `at` tokens.", bare(FIN), BREAKS),
    Fault("cut-rst", "Resets (RST) between two events after `at` tokens.", bare(RST), BREAKS),
    Fault("cut-in-chunk", "Closes (FIN) inside a chunk and its JSON.",
          cut_inside(FIN, b'"choices"', 5), BREAKS),
    Fault("cut-in-chunk-rst", "Resets (RST) inside a chunk and its JSON.",
          cut_inside(RST, b'"choices"', 5), BREAKS),
    Fault("cut-in-character", "Closes (FIN) inside a UTF-8 character.", cut_inside(FIN, CHAR, 1), BREAKS),
    Fault("cut-in-character-rst", "Resets (RST) inside a UTF-8 character.", cut_inside(RST, CHAR, 1), BREAKS),
    Fault("cut-after-finish", "Closes (FIN) after the finish reason, before [DONE].",
          cut_after_finish(FIN), STOPS),
    Fault("cut-after-finish-rst", "Resets (RST) after the finish reason, before [DONE].",
          cut_after_finish(RST), STOPS),
    Fault("chunk-size-junk", "A chunk size that is no number.",
          bare(b"zz\r\nwhat\r\n", LAST_CHUNK, FIN), BREAKS),
    Fault("chunk-overrun", "A chunk longer than its size says.",
          bare(b"2\r\n: too long\n\n\r\n", LAST_CHUNK, FIN), BREAKS),
    Fault("bytewise", "A good answer, one byte a write.", bytewise, STOPS),
    Fault("split-character", "A character of three bytes over two writes.",
          split(CHAR, 1), (("stop", amid("日本 ")),)),
    Fault("split-event", "The JSON of an event over two writes.",
          split(b'"choices"', 4), (("stop", amid("日本 ")),)),
    Fault("split-two-lines", "One event with its JSON over two data lines.", insert(two_lines),
          (("stop", amid("two lines ")),)),
    Fault("crlf", "Lines end in CRLF.", written(lambda e: e.replace(b"\n", b"\r\n")), STOPS),
    Fault("cr", "Lines end in CR alone, which the standard allows too.",
          written(lambda e: e.replace(b"\n", b"\r")), STOPS + FAILS),
    Fault("no-space", "No space after the colon of `data:`.",
          written(lambda e: e.replace(b"data: ", b"data:", 1)), STOPS),
    Fault("comments", "A comment before every event.", written(lambda e: b": keep-alive\n\n" + e), STOPS),
    Fault("blank-lines", "Empty lines between events, as keep-alive.",
          written(lambda e: e + b"\n\n\n"), STOPS),
    Fault("other-fields", "Events with id, retry and `event: message`.",
          written(lambda e: b"id: 7\nretry: 10\nevent: message\n" + e), STOPS),
    Fault("byte-order-mark", "A byte order mark before the first event.",
          written(lambda e: e, b"\xef\xbb\xbf"), STOPS + FAILS),
]  # fmt: skip
