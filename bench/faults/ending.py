"""Faults of meaning in the frame of an answer: how it ends, what it cost, errors reported in the middle."""

from __future__ import annotations

from typing import Any

from bench.answer import Job, opening, streamed, tokens, usage
from bench.faults.base import BREAKS, EITHER, FAILS, STOPS, Events, Fault, Play, insert, until, whole
from bench.wire import DONE, Steps, as_json, error, event

OVERLOADED = error("scripted overload", "server_error", "overloaded")


def finished(job: Job, reasons: tuple[Any, ...], after: list[bytes], done: bool) -> Steps:
    """Every token, these finish reasons, these events, and the usual end."""
    yield from opening(job)
    yield from tokens(job, 0, job.script.tokens)
    for reason in reasons:
        yield event(job.chunk({}, reason))
    yield from after
    if done:
        yield from usage(job)
        yield DONE


def closes(*reasons: Any, after: Events = lambda job: [], done: bool = True) -> Play:
    """A whole answer that ends in this way."""
    return lambda job: streamed(job, finished(job, reasons, after(job), done))


def stops(*last: bytes) -> Play:
    """`at` tokens, these bytes, and a proper end of the response."""
    return lambda job: streamed(job, until(job, iter(last)))


def sends(*data: bytes) -> Play:
    """These bytes in mid-answer, which then goes on."""
    return insert(lambda job: list(data))


def bills(value: Any, choices: bool = False) -> Events:
    """A usage chunk with this value."""
    return lambda job: [
        event(job.chunk({}, None, usage=value) if choices else {**job.base, "choices": [], "usage": value})
    ]


def too_late(job: Job) -> list[bytes]:
    """A delta that comes after the end."""
    return [event(job.chunk({"content": "too late"}))]


def after_done(job: Job) -> list[bytes]:
    """[DONE] and a delta after it."""
    return [DONE, *too_late(job)]


def bills_early(job: Job) -> Steps:
    """Usage with every token, and no chunk of its own at the end."""
    yield from opening(job)
    for step in tokens(job, 0, job.script.tokens):
        yield step
        if isinstance(step, bytes):
            yield event({**job.base, "choices": [], "usage": job.usage()})
    yield event(job.chunk({}, "stop"))
    yield DONE


def error_beside(job: Job) -> Steps:
    """An error in the chunk that ends the answer, as routers in front of providers send it."""
    return streamed(job, until(job, iter([event(job.chunk({}, "error", **OVERLOADED)), DONE])))


def only_done(job: Job) -> Steps:
    """[DONE] alone."""
    return streamed(job, iter([DONE]))


LENGTH = (("length", whole),)
FILTERED = (("content_filter", whole),)
NULLS = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}
JUNK = {"prompt_tokens": "many", "completion_tokens": -5, "total_tokens": 1e300}
TABLE: list[Fault] = [
    Fault("no-finish", "Ends with [DONE] after `at` tokens, without a finish reason.", stops(DONE), BREAKS),
    Fault("no-finish-no-done", "Ends after `at` tokens without a finish reason or [DONE].", stops(), BREAKS),
    Fault("only-done", "[DONE] and nothing else.", only_done, FAILS),
    Fault("no-done", "A whole answer without [DONE].", closes("stop", done=False), STOPS),
    Fault("finish-length", "Finish reason `length`.", closes("length"), LENGTH),
    Fault("finish-content-filter", "Finish reason `content_filter`.", closes("content_filter"), FILTERED),
    Fault("finish-tool-calls", "Finish reason `tool_calls` although no tool was offered.",
          closes("tool_calls"), STOPS),
    Fault("finish-unknown", "A finish reason nobody has heard of.", closes("eos_token"), STOPS),
    Fault("finish-number", "A finish reason that is a number.", closes(7),
          (*STOPS, ("error", whole))),
    Fault("two-finishes", "Finish reason `stop`, then `length`.", closes("stop", "length"), STOPS),
    Fault("text-after-finish", "A delta after the finish reason.", closes("stop", after=too_late), STOPS),
    Fault("data-after-done", "A delta after [DONE].",
          closes("stop", after=after_done), STOPS),
    Fault("usage-absent", "No usage although it was asked for.",
          closes("stop", after=lambda job: [DONE], done=False), STOPS),
    Fault("usage-before-finish", "Usage in mid-answer.", insert(lambda job: bills(job.usage())(job)), STOPS),
    Fault("usage-with-each", "A usage chunk after every token, none at the end.",
          lambda job: streamed(job, bills_early(job)), STOPS),
    Fault("usage-nulls", "Usage whose numbers are null.", closes("stop", after=bills(NULLS)), STOPS),
    Fault("usage-junk", "Usage with words, negatives and huge numbers.",
          closes("stop", after=bills(JUNK)), STOPS),
    Fault("usage-list", "Usage that is a list.", closes("stop", after=bills([1, 2])), STOPS),
    Fault("usage-null-with-text", "`usage: null` beside the choices, as many servers send it.",
          insert(bills(None, choices=True)), STOPS),
    Fault("event-error", "`event: error` with an error object.",
          stops(b"event: error\n" + event(OVERLOADED)), BREAKS),
    Fault("event-error-bare", "`event: error` whose data has no `error` key.",
          stops(b"event: error\n" + event({"message": "scripted", "code": 500})), BREAKS),
    Fault("event-error-text", "`event: error` whose data is no JSON.",
          stops(b"event: error\ndata: scripted\n\n"), BREAKS),
    Fault("error-line", "A line `error: ...` where `data: ...` should be.",
          stops(b"error: " + as_json(OVERLOADED["error"]) + b"\n\n"), BREAKS),
    Fault("error-in-data", "An error object as data, then the end.", stops(event(OVERLOADED), DONE), BREAKS),
    Fault("error-text-in-data", "`error` is a string.",
          stops(event({"error": "scripted overload"}), DONE), BREAKS),
    Fault("error-and-on", "An error object as data, and the answer goes on.",
          sends(event(OVERLOADED)), BREAKS),
    Fault("error-beside-choices", "An error object beside the choices, finish reason `error`.",
          error_beside, BREAKS),
    Fault("error-null", "`error: null` beside healthy choices.",
          insert(lambda job: [event(job.chunk({}, None, error=None))]), STOPS),
    Fault("json-malformed", "A data line that is no JSON, in mid-answer.",
          sends(b"data: {not json}\n\n"), BREAKS),
    Fault("json-truncated", "A data line whose JSON stops half-way.",
          sends(b'data: {"choices":[{"del\n\n'), BREAKS),
    Fault("json-deep", "100,000 nested lists, more than a recursive parser can take.",
          sends(b"data: " + b"[" * 100_000 + b"]" * 100_000 + b"\n\n"), BREAKS),
    Fault("json-huge-number", "A number of 5,000 digits.",
          sends(b'data: {"choices":[],"created":' + b"9" * 5000 + b"}\n\n"), EITHER),
    Fault("json-null", "`data: null`.", sends(b"data: null\n\n"), EITHER),
    Fault("json-list", "`data: []`.", sends(b"data: []\n\n"), EITHER),
    Fault("json-text", "Data that is a JSON string.", sends(b'data: "hello"\n\n'), EITHER),
    Fault("data-empty", "`data:` with nothing after it.", sends(b"data:\n\n"), EITHER),
    Fault("utf8-invalid", "Bytes that are no UTF-8 in a delta.",
          insert(lambda job: [event(job.chunk({"content": "@"})).replace(b"@", b"\xff\xfe")]),
          BREAKS),
    Fault("refused", "A delta with `refusal` in place of content.",
          insert(lambda job: [event(job.chunk({"refusal": "I will not."}))]), STOPS),
]  # fmt: skip
