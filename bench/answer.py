"""The answer of a healthy provider, in parts that faults can take apart and put together wrongly."""

from __future__ import annotations

import time
from typing import Any

from bench.ledger import Call
from bench.script import Script, token
from bench.wire import DONE, LAST_CHUNK, Steps, as_json, event, framed, head, whole

MARK = "\ufffc"  # stands for the text while a delta's bytes before and after it are prepared


class Job:
    """One request being answered: what was asked, what the script says, and the ledger entry to keep."""

    def __init__(self, script: Script, call: Call) -> None:
        self.script = script
        self.call = call
        self.base = {
            "id": f"chatcmpl-{call.id}", "object": "chat.completion.chunk", "created": int(time.time()),
            "model": call.model, "system_fingerprint": None,
        }  # fmt: skip
        # Everything but the text is encoded once per answer: a token costs a join, not a walk through json.
        self.before, self.after = event(self.chunk({"content": MARK})).split(MARK.encode())

    def now(self) -> float:
        """Seconds since the request came: a step `job.now() + 0.1` waits for 100 ms."""
        return time.monotonic() - self.call.opened_at

    def chunk(self, delta: Any, finish: str | None = None, **fields: Any) -> dict[str, Any]:
        """A completion chunk with one choice, as the value that is to be JSON."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self.base, "choices": [choice], **fields}

    def says(self, content: str, field: str = "content") -> bytes:
        """The event of one delta, counted as a token."""
        self.call.sent()
        return event(self.chunk({field: content}))

    def usage(self) -> dict[str, int]:
        """Tokens as billed: words of the prompt, deltas of the answer."""
        messages = self.call.body.get("messages") or []
        prompt = sum(len(str(message.get("content")).split()) for message in messages if isinstance(message, dict))
        said = self.call.tokens + self.script.reasoning
        return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}

    def head(self, **headers: str) -> bytes:
        """Status line and headers of a healthy event stream."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        usual = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        return head(200, {**usual, "X-Request-Id": f"req-{self.call.id}", "Transfer-Encoding": "chunked", **names})


def opening(job: Job) -> Steps:
    """The wait for the first token, then the delta with the role, then the thinking if there is any."""
    if job.script.ttft:
        yield job.script.ttft
    yield event(job.chunk({"role": "assistant", "content": "", "refusal": None}))
    for i in range(job.script.reasoning):
        yield event(job.chunk({"reasoning_content": f"thought{i} "}))


def tokens(job: Job, start: int, stop: int) -> Steps:
    """Visible tokens start..stop, each due at a time counted from the request: a late one delays no other."""
    script, call, before, after = job.script, job.call, job.before, job.after
    gap = 1 / script.rate if script.rate else 0.0
    for i in range(start, stop):
        if gap:
            yield script.ttft + i * gap
        if script.gate and i == script.struck:
            yield script.gate
        call.sent()
        yield before + token(script.seed, i).encode().replace(b"\n", b"\\n") + after


def pieces(job: Job) -> Steps:
    """The script's own deltas, in the same way."""
    for i, piece in enumerate(job.script.pieces):
        if job.script.rate:
            yield job.script.ttft + i / job.script.rate
        if job.script.gate and i == job.script.at:
            yield job.script.gate
        yield job.says(piece)


def visible(job: Job) -> Steps:
    """All the visible text."""
    return pieces(job) if job.script.pieces else tokens(job, 0, job.script.tokens)


def usage(job: Job) -> Steps:
    """The usage chunk, which has no choices, when it is due."""
    asked = (job.call.body.get("stream_options") or {}).get("include_usage")
    if job.script.usage == "always" or (job.script.usage == "asked" and asked):
        yield event({**job.base, "choices": [], "usage": job.usage()})


def closing(job: Job) -> Steps:
    """Finish reason, usage, [DONE]."""
    yield event(job.chunk({}, job.script.finish))
    yield from usage(job)
    yield DONE


def body(job: Job) -> Steps:
    """The events of a healthy answer."""
    yield from opening(job)
    yield from visible(job)
    yield from closing(job)


def streamed(job: Job, steps: Steps | None = None) -> Steps:
    """A healthy chunked response around these events, or around a healthy answer."""
    yield job.head()
    yield from framed(body(job) if steps is None else steps)
    yield LAST_CHUNK


def completion(job: Job) -> Steps:
    """The answer to a request without `stream`: all at once, when the last token would have been said."""
    script = job.script
    yield script.ttft + (script.tokens / script.rate if script.rate else 0.0)
    for _ in script.pieces or range(script.tokens):
        job.call.sent()
    yield whole(200, as_json(completed(job)), X_Request_Id=f"req-{job.call.id}")


def completed(job: Job) -> dict[str, Any]:
    """The body of a completion that is not streamed."""
    message = {"role": "assistant", "content": job.script.whole, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": job.script.finish}
    return {**job.base, "object": "chat.completion", "choices": [choice], "usage": job.usage()}
