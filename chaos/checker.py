"""The judge: what users saw against what is stored, asked upstream, and right. Pure functions; each sentence is a violation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

from chaos.facts import Facts
from chaos.history import FINAL, Click, Reading, Seen
from chat.events import Position

Rule = Callable[[Click, Facts], Iterator[str]]

# What a user may be answered besides success: the service is away for a moment, and they try again.
AWAY = (0, 502, 503, 504)
AT_ONCE_SECONDS = 0.1  # between two events of one piece
REASONS = {"done": ("stop", "length", "content_filter"), "stopped": ("stopped",)}


def check(click: Click, facts: Facts) -> list[str]:
    """Every promise that was broken for this click, in words, with its question."""
    return [f"{click.question}: {said}" for rule in RULES for said in rule(click, facts)]


def one_answer_for_one_click(click: Click, facts: Facts) -> Iterator[str]:
    """An acknowledged click has one question and one answer, any other at most one; all its tries name the same one."""
    if bad := [post.status for post in click.posts if post.status not in (*AWAY, 200, 201)]:
        yield f"sending was answered {bad}"
    named = {post.answer for post in click.posts if post.answer}
    for kind, rows in (("questions", facts.questions), ("answers", facts.answers)):
        if len(rows) > 1 or (click.acknowledged and not rows):
            yield f"{len(rows)} {kind} are stored, it was {'' if click.acknowledged else 'not '}acknowledged"
    if named - {row["id"] for row in facts.answers} or len(named) > 1:
        yield f"it was acknowledged with answers {sorted(named)}"
    if [post.status for post in click.posts].count(201) > 1:
        yield "201 was said twice"


def the_row_ends_rightly(click: Click, facts: Facts) -> Iterator[str]:
    """The answer has ended as it may, its text is the beginning of the right one, and the whole of it if it is done."""
    script = click.script
    for row in facts.answers:
        right = click.may_end | ({"interrupted"} if click.excused else frozenset())
        if row["status"] not in right:
            yield f"the row is {row['status']} ({row['error_code']}), which it may not be: {sorted(right)}"
        if row["attempt"] > (2 if click.excused else 1):
            yield f"it was attempted {row['attempt']} times"
        if script.fault:  # what is right then depends on the fault
            continue
        if not script.whole.startswith(row["text"]):
            yield f"the stored text is not what the model said: …{differing(script.whole, row['text'])}"
        if row["status"] == "done" and row["text"] != script.whole:
            yield f"the row is done, but holds {len(row['text'])} of {len(script.whole)} characters"


def everybody_sees_the_same_end(click: Click, facts: Facts) -> Iterator[str]:
    """Each reader gets exactly one final event, the same for all, which is that of the row; nothing but close follows."""
    for reading in click.readings:
        finals = [seen for seen in reading.events() if seen.name in FINAL]
        if len({(seen.id, seen.name, str(seen.data)) for seen in finals}) > 1:
            yield f"{reading.reader} saw {len(finals)} different ends: {[(s.name, s.id, s.data) for s in finals]}"
        for visit in reading.visits:
            names = [seen.name for seen in visit.events]
            ends = [i for i, name in enumerate(names) if name in FINAL]
            if ends and (len(ends) > 1 or names[ends[0] + 1 :] not in ([], ["close"])):
                yield f"{reading.reader} saw more after the end: {names[ends[0] :]}"
        for row, final in itertools.product(facts.answers, finals):
            yield from disagreement(row, final, reading.reader)


def disagreement(row: dict[str, object], final: Seen, reader: str) -> Iterator[str]:
    """Where a final event differs from its row."""
    data = final.data
    if final.name == "done":
        told = ("stopped" if data["reason"] == "stopped" else "done", data["reason"], data["by"] or "", "")
    else:
        told = ("interrupted" if data["code"] == "interrupted" else "failed", "", "", data["code"])
    kept = (row["status"], row["reason"], row["stop_by"] if told[1] == "stopped" else "", row["error_code"])
    if told != kept or final.id != row["final_id"]:
        yield f"{reader} was told {told} at {final.id}, the row says {kept} at {row['final_id']}"
    if final.name == "done" and data["reason"] not in REASONS[told[0]]:
        yield f"{reader} was told a reason that does not exist: {data['reason']}"


def what_was_seen_stays(click: Click, facts: Facts) -> Iterator[str]:
    """Whatever stood on a screen at any moment is the beginning of the stored text, and at the end it is all of it."""
    for row, reading in itertools.product(facts.answers, click.readings):
        for text in reading.shown_texts():
            if not row["text"].startswith(text):
                yield (
                    f"{reading.reader} had seen {len(text)} characters, {len(row['text'])} are kept:"
                    f" …{differing(text, row['text'])}; {trail(reading)}"
                )
        if reading.final and reading.shown != row["text"]:
            sizes = f"{len(reading.shown)} characters, {len(row['text'])} are stored"
            yield f"{reading.reader} ended with {sizes}; {trail(reading)}"


def positions_have_no_gaps(click: Click, facts: Facts) -> Iterator[str]:
    """Within one writer each event follows the one before it, another writer begins at 1, and all text has a position.

    Once a reader is told `recovering`, its text may come from the row, several events at once, until the log begins anew.
    The same goes for the last words of an answer whose log is gone.
    """
    for reading in click.readings:
        end = reading.final.at - AT_ONCE_SECONDS if reading.final else math.inf
        last: Position | None = None  # unknown while a row is replayed
        by_row = False
        for seen in reading.events():
            if seen.name == "started":
                by_row = seen.id.endswith("-0")
                last = None if by_row else position(seen.id)
            elif seen.name == "status":
                by_row = by_row or seen.data["state"] == "recovering"
            elif seen.id:
                now = position(seen.id)
                if last and not follows(now, last, by_row=by_row or seen.at >= end):
                    yield f"{reading.reader} saw {seen.name} at {now} after {last}; {trail(reading)}"
                last = now
            elif seen.name == "token" and last is not None:
                yield f"{reading.reader} saw text without a position outside a replay, after {last}; {trail(reading)}"


def follows(now: Position, last: Position, *, by_row: bool) -> bool:
    """Whether an event at `now` may come after one at `last`."""
    if by_row:
        return now > last
    return now == last.next() or (now.fence > last.fence and now.seq == 1)


def nothing_heard_is_begun_again(click: Click, facts: Facts) -> Iterator[str]:
    """Once a reader has seen anything of an attempt, there is no other one: it would say something else."""
    for reading in click.readings:
        attempt, heard = 0, False
        for seen in reading.events():
            if seen.name == "started":
                if heard and seen.data["attempt"] != attempt:
                    yield f"{reading.reader} saw attempt {attempt} begun again, in mid-answer; {trail(reading)}"
                attempt, heard = seen.data["attempt"], heard and seen.data["attempt"] == attempt
            heard = heard or seen.name in ("token", "reasoning")


def the_ledger_is_complete(click: Click, facts: Facts) -> Iterator[str]:
    """Every call that the provider saw has its row, every row is closed, and no call goes on."""
    attempts = max((row["attempt"] for row in facts.answers), default=0)
    if len(facts.upstream) > len(facts.bills):
        yield f"the provider saw {len(facts.upstream)} calls, the ledger has {len(facts.bills)}"
    if not click.script.fault and len(facts.bills) > attempts:
        yield f"{len(facts.bills)} calls were billed for {attempts} attempts"
    if len([bill for bill in facts.bills if bill["outcome"] not in ("interrupted", "failed")]) > 1:
        yield f"several calls count as successful: {[bill['outcome'] for bill in facts.bills]}"
    if {call["model"] for call in facts.upstream} - {bill["model"] for bill in facts.bills}:
        yield "another model was asked than the ledger says"
    if still := [str(bill["id"]) for bill in facts.bills if not bill["closed_at"]]:
        yield f"the ledger still has open calls: {still}"
    if still := [call["id"] for call in facts.upstream if call["state"] == "open"]:
        yield f"the provider is still being asked: {still}"
    for row in facts.answers:
        if row["status"] != "open" and facts.bills and row["status"] not in [bill["outcome"] for bill in facts.bills]:
            yield f"the row is {row['status']}, its calls are {[bill['outcome'] for bill in facts.bills]}"


def readers_are_served(click: Click, facts: Facts) -> Iterator[str]:
    """A reader who comes back is let in, or asked to try again; nobody waits in front of a silent connection."""
    for reading in click.readings:
        if bad := [visit.status for visit in reading.visits if visit.status not in (*AWAY, 200, 204)]:
            yield f"{reading.reader} was answered {bad}"
        if any(visit.ending == "silent" for visit in reading.visits):
            yield f"{reading.reader} heard nothing for too long"
        if not reading.final:
            yield f"{reading.reader} has not seen the end; {trail(reading)}"


RULES: tuple[Rule, ...] = (
    one_answer_for_one_click,
    the_row_ends_rightly,
    everybody_sees_the_same_end,
    what_was_seen_stays,
    positions_have_no_gaps,
    nothing_heard_is_begun_again,
    the_ledger_is_complete,
    readers_are_served,
)


def position(text: str) -> Position:
    """A position that a server sent, whatever it is."""
    fence, _, seq = text.partition("-")
    return Position(int(fence), int(seq))


def differing(right: str, other: str) -> str:
    """Both texts from shortly before they part."""
    same = next((i for i, (a, b) in enumerate(zip(right, other, strict=False)) if a != b), min(len(right), len(other)))
    start = max(0, same - 10)
    return f"{right[start : same + 20]!r} and …{other[start : same + 20]!r}"


def story(click: Click, moment: float) -> str:
    """What a click's user did and saw, with seconds from a moment, for somebody who looks for the cause."""
    posts = [f"{post.sent_at - moment:+.1f}…{post.ended_at - moment:+.1f} s: {post.status}" for post in click.posts]
    visits = [
        f"{visit.opened_at - moment:+.1f}…{visit.ended_at - moment if visit.ended_at else math.inf:+.1f} s"
        for reading in click.readings
        for visit in reading.visits
    ]
    return f"sent {posts}, read {visits}, {' and '.join(map(trail, click.readings))}"


def trail(reading: Reading) -> str:
    """The connections of a reader in short, for somebody who looks for the cause."""
    steps = []
    for visit in reading.visits[-6:]:
        ids = [seen.id or seen.name for seen in visit.events]
        span = f"{ids[0]}…{ids[-1]}" if ids else "nothing"
        names = "+".join(dict.fromkeys(seen.name for seen in visit.events if seen.name not in ("token", "ping")))
        steps.append(f"[after {visit.after or 'start'} -> {visit.status} {span} {names} {visit.ending}]")
    return " ".join(steps)
