"""Faults of what a delta says: wrong shapes around the text, and text that is hard to carry."""

from __future__ import annotations

from typing import Any

from bench.answer import Job, closing, opening, streamed, tokens
from bench.faults.base import EITHER, STOPS, Fault, Outcome, Play, amid, insert, nothing, part
from bench.script import Script
from bench.wire import Steps, event

GIANT = 5_000_000  # characters in the giant delta
MANY = 20_000  # deltas in the burst
INJECTED = "\n\nevent: admin\ndata: x\n\n: \r\nid: 9\r\n\r\n"
UNICODE = "e\u0301 \u202eabc\u202c \u200f\u200d👩‍👩‍👧‍👦 \ufeff\ufffd\U0010ffff "


def shape(**fields: Any) -> Play:
    """A chunk in mid-answer whose top level has these fields; None stands for null."""
    return insert(lambda job: [event({**job.base, **fields})])


def choice(**fields: Any) -> Play:
    """The same with one choice of these fields."""
    return shape(choices=[{"index": 0, "finish_reason": None, **fields}])


def delta(value: Any) -> Play:
    """The same with one choice of this delta."""
    return choice(delta=value)


def says(*contents: str, shown: str | None = None) -> tuple[Play, tuple[Outcome, ...]]:
    """Deltas with these texts in mid-answer, and the one right outcome: `shown` stands in their place."""
    wanted = "".join(contents) if shown is None else shown
    return insert(lambda job: [job.says(content) for content in contents]), (("stop", amid(wanted)),)


def thinks(*names: str) -> Play:
    """Five thinking deltas under these names before the answer."""

    def events(job: Job) -> Steps:
        yield from opening(job)
        for i in range(5):
            yield event(job.chunk(dict.fromkeys(names, f"thought{i} ")))
        yield from tokens(job, 0, job.script.tokens)
        yield from closing(job)

    return lambda job: streamed(job, events(job))


def only_thinks(job: Job) -> Steps:
    """Thinking, and then the end."""

    def events() -> Steps:
        yield from opening(job)
        yield event(job.chunk({"reasoning_content": "thought0 "}))
        yield from closing(job)

    return streamed(job, events())


def burst(job: Job) -> list[bytes]:
    """A great many deltas in one write."""
    return [b"".join(job.says("x") for _ in range(MANY))]


def bounded(script: Script, shown: str) -> bool:
    """The text before the fault, perhaps some of the giant delta, perhaps the rest."""
    left = shown.removeprefix(script.part).lstrip("x")
    return shown.startswith(script.part) and left in ("", script.whole[len(script.part) :])


def replaced(script: Script, shown: str) -> bool:
    """A lone surrogate became U+FFFD, once."""
    return amid("\ufffd")(script, shown)


TOOL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OTHER = {"index": 1, "delta": {"content": "another choice"}, "finish_reason": None}
GIANT_OUTCOMES = tuple((ending, bounded) for ending in ("stop", "length", "error"))
TABLE: list[Fault] = [
    Fault("choices-null", "`choices: null`.", shape(choices=None), EITHER),
    Fault("choices-empty", "`choices: []` in mid-answer.", shape(choices=[]), STOPS),
    Fault("choices-missing", "No `choices`.", shape(), EITHER),
    Fault("choices-text", "`choices` is a string.", shape(choices="none"), EITHER),
    Fault("choice-null", "`choices: [null]`.", shape(choices=[None]), EITHER),
    Fault("choice-second", "A delta of choice 1, which nobody asked for.", shape(choices=[OTHER]),
          (*STOPS, ("error", part))),
    Fault("delta-null", "`delta: null`.", delta(None), EITHER),
    Fault("delta-missing", "A choice without `delta`.", choice(), EITHER),
    Fault("delta-text", "`delta` is a string.", delta("text"), EITHER),
    Fault("delta-empty", "`delta: {}`.", delta({}), STOPS),
    Fault("delta-role-again", "The role a second time.", delta({"role": "assistant", "content": ""}), STOPS),
    Fault("content-null", "`content: null`.", delta({"content": None}), STOPS),
    Fault("content-number", "`content: 42`.", delta({"content": 42}), EITHER),
    Fault("content-list", "`content` is a list of parts.",
          delta({"content": [{"type": "text", "text": "part "}]}), (*EITHER, ("stop", amid("part ")))),
    Fault("content-object", "`content` is an object.", delta({"content": {"text": "x"}}), EITHER),
    Fault("tool-calls", "A tool call although no tool was offered.", delta({"tool_calls": [TOOL]}), STOPS),
    Fault("unknown-fields", "Fields nobody knows, on every level.",
          choice(delta={"content": "", "mood": [1]}, native_finish_reason={}, logprobs=[[]]),
          STOPS),
    Fault("reasoning-content", "Thinking in `delta.reasoning_content`.", thinks("reasoning_content"), STOPS),
    Fault("reasoning", "Thinking in `delta.reasoning`.", thinks("reasoning"), STOPS),
    Fault("reasoning-both", "The same thinking in both fields.",
          thinks("reasoning", "reasoning_content"), STOPS),
    Fault("reasoning-number", "Thinking that is a number.", delta({"reasoning_content": 42}), EITHER),
    Fault("reasoning-only", "Thinking, then `stop` without a visible word.", only_thinks,
          (("stop", nothing), ("error", nothing))),
    Fault("surrogate-lone", "Half a surrogate pair and no other half.",
          insert(lambda job: [job.says("\ud83d")]), (("stop", replaced),)),
    Fault("surrogate-lone-low", "The second half without the first.",
          insert(lambda job: [job.says("\ude42")]), (("stop", replaced),)),
    Fault("surrogate-split", "A surrogate pair over two deltas.", *says("\ud83d", "\ude42 ", shown="🙂 ")),
    Fault("nul", "NUL in the text, which databases refuse.", *says("a\0b ", shown="ab ")),
    Fault("newlines", "LF, CRLF and CR in the text.", *says("a\nb\r\nc\rd ")),
    Fault("line-separators", "U+2028, U+2029, U+0085, VT and FF in the text.",
          *says("a\u2028b\u2029c\u0085d\ve\ff ")),
    Fault("injected-event", "Text that looks like an event of ours.", *says(INJECTED)),
    Fault("injected-html", "Text that looks like a script.",
          *says("<script>alert(1)</script>&amp;<img src=x onerror=y> ")),
    Fault("controls", "Escape sequences and other control characters.", *says("\x1b[31m\x07\x7f\u0080 ")),
    Fault("unicode", "Combining, right-to-left, joined, private and last characters.", *says(UNICODE)),
    Fault("empty-deltas", "A hundred deltas with no text.", *says(*[""] * 100)),
    Fault("giant-delta", "One delta of five million characters.", insert(lambda job: [job.says("x" * GIANT)]),
          GIANT_OUTCOMES),
    Fault("burst", "20,000 deltas in one write.", insert(burst), GIANT_OUTCOMES),
]  # fmt: skip
