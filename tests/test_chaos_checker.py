"""The judge of script/chaos is awake: a right history passes, and each promise that is broken is said."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from bench.script import text, token
from chaos.checker import check, follows
from chaos.facts import Facts
from chaos.history import Click, Post, Reading, Seen, Visit
from chat.events import Position

TOKENS, SEED = 6, 3
MODEL = f"fake?tokens={TOKENS}&rate=50&seed={SEED}"
WHOLE = text(SEED, TOKENS)
DONE = {"reason": "stop", "by": None, "ttft_ms": 5, "ms": 50}
LOST = {"code": "interrupted", "message": "Sorry.", "retryable": True, "request_id": "r"}


seconds = itertools.count()


def seen(name: str, position: str = "", **data: Any) -> Seen:
    """An event a second later than the one before."""
    return Seen(float(next(seconds)), name, position, data)


def said(*numbers: int, fence: int = 1) -> list[Seen]:
    """The token events of these tokens, at the positions at which one event each would have them."""
    return [seen("token", f"{fence}-{i + 2}", text=token(SEED, i), n=1) for i in numbers]


def ending(position: str = "1-9", name: str = "done", **data: Any) -> list[Seen]:
    return [seen(name, position, **(data or DONE)), seen("close")]


STARTED = seen("started", "1-1", answer="a", attempt=1, model=MODEL)
USAGE = seen("usage", "1-8", prompt_tokens=1, completion_tokens=6, estimated=False)


def visit(*events: Seen, after: str = "", how: str = "end", status: int = 200) -> Visit:
    return Visit("door", after, 0.0, status, list(events), 1.0, how)


def right_click(*readings: Reading) -> Click:
    whole = Reading("alice", [visit(STARTED, *said(*range(TOKENS)), USAGE, *ending())])
    return Click("why?", MODEL, posts=[Post("door", 0, 1, 201, "a")], readings=list(readings) or [whole])


def right_facts(**row: Any) -> Facts:
    answer = {
        "id": "a", "status": "done", "text": WHOLE, "attempt": 1, "fence": 1, "final_id": "1-9", "reason": "stop",
        "stop_by": "", "error_code": "",
    } | row  # fmt: skip
    bill = {"id": 1, "outcome": answer["status"], "closed_at": "now", "model": MODEL}
    return Facts([{"id": "q"}], [answer], [bill], [{"id": "call-1", "model": MODEL, "state": "finished"}])


def interrupted(kept: int) -> Facts:
    return right_facts(
        status="interrupted", text=text(SEED, kept), fence=2, final_id="2-1", reason="", error_code="interrupted"
    )


def test_a_right_history_passes():
    assert check(right_click(), right_facts()) == []


def test_a_reader_that_was_cut_and_came_back_passes():
    reading = Reading(
        "bob",
        [
            visit(STARTED, *said(0, 1), how="cut"),
            visit(how="cut", status=502, after="1-3"),
            visit(*said(2, 3, 4, 5), USAGE, *ending(), after="1-3"),
        ],
    )
    assert check(right_click(reading), right_facts()) == []


def test_a_row_that_is_replayed_and_an_answer_that_was_taken_over_pass():
    replay = [seen("started", "1-0", attempt=1), seen("token", "", text=text(SEED, 2), n=1)]
    rest = Reading("bob", [visit(*replay, *said(2, 3), *ending("2-1", "error", **LOST))])
    click = right_click(rest)
    click.excused = True
    assert check(click, interrupted(4)) == []


def test_text_from_the_row_may_skip_positions_only_for_a_reader_who_was_told():
    status = seen("status", state="recovering", seconds=0, position=None)
    growth = seen("token", "1-5", text=token(SEED, 1) + token(SEED, 2) + token(SEED, 3), n=1)
    for told, problems in (([status], 0), ([], 1)):
        reading = Reading("bob", [visit(STARTED, *said(0), *told, growth, *said(4, 5), USAGE, *ending())])
        assert len(check(right_click(reading), right_facts())) == problems


def broken_readings() -> dict[str, Reading]:
    """What a user may not see, by the word that tells it."""
    all_said = said(*range(TOKENS))
    return {
        "characters are kept|are stored": Reading("b", [visit(STARTED, *said(0, 1, 3, 4, 5), USAGE, *ending())]),
        "after 1-3": Reading("b", [visit(STARTED, *said(0, 1, 1, 2, 3, 4, 5), USAGE, *ending())]),
        "has not seen the end": Reading("b", [visit(STARTED, *all_said, how="cut")]),
        "more after the end": Reading("b", [visit(STARTED, *all_said, USAGE, ending()[0], *ending())]),
        "different ends": Reading(
            "b", [visit(STARTED, *all_said, USAGE, ending()[0]), visit(*ending("2-1", "error", **LOST))]
        ),
        "the row says": Reading("b", [visit(STARTED, *all_said, USAGE, *ending("1-9", "error", **LOST))]),
        "at 1-10": Reading("b", [visit(STARTED, *all_said, USAGE, *ending("1-10"))]),
        "without a position": Reading(
            "b", [visit(STARTED, *said(0, 1, 2, 3, 4), seen("token", "", text=token(SEED, 5), n=1), *ending("1-7"))]
        ),
        "was answered [500]": Reading(
            "b", [visit(status=500), visit(STARTED, *all_said, USAGE, *ending())]
        ),
        "heard nothing": Reading("b", [visit(how="silent"), visit(STARTED, *all_said, USAGE, *ending())]),
    }  # fmt: skip


@pytest.mark.parametrize("said_of_it", broken_readings())
def test_what_a_reader_may_not_see_is_said(said_of_it):
    problems = check(right_click(broken_readings()[said_of_it]), right_facts())
    assert any(word in problem for problem in problems for word in said_of_it.split("|")), problems


def test_text_that_was_shown_and_is_not_kept_is_said_even_if_the_screen_was_emptied_since():
    again = [seen("started", "2-1", attempt=2), *said(0, 1, fence=2)]
    reading = Reading("b", [visit(STARTED, *said(0, 1, 2)), visit(*again, *ending("2-4", "error", **LOST))])
    click = right_click(reading)
    click.excused = True
    facts = interrupted(2)
    facts.answers[0].update(attempt=2, final_id="2-4")
    assert any("had seen" in problem for problem in check(click, facts))


def test_an_answer_that_is_begun_again_after_its_first_words_is_said():
    again = [seen("started", "2-1", attempt=2), *said(0, 1, fence=2)]
    unheard = Reading("b", [visit(STARTED), visit(*again, *ending("2-4", "error", **LOST))])
    heard = Reading("b", [visit(STARTED, *said(0)), visit(*again, *ending("2-4", "error", **LOST))])
    facts = interrupted(2)
    facts.answers[0].update(attempt=2, final_id="2-4")
    for reading, problems in ((unheard, 0), (heard, 1)):
        click = right_click(reading)
        click.excused = True
        assert len(check(click, facts)) == problems


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"status": "open"}, "the row is open"),
        ({"status": "failed", "error_code": "provider"}, "the row is failed"),
        ({"status": "interrupted"}, "may not be"),
        ({"text": WHOLE[:-3]}, "holds"),
        ({"text": WHOLE + "more"}, "not what the model said"),
        ({"attempt": 2}, "attempted 2 times"),
    ],
)
def test_a_row_that_is_wrong_is_said(row, word):
    assert any(word in problem for problem in check(right_click(), right_facts(**row)))


def test_questions_and_answers_that_are_lost_or_double_are_said():
    facts = right_facts()
    lost, double = replace(facts, questions=[], answers=[]), replace(facts, answers=facts.answers * 2)
    assert any("0 questions" in problem for problem in check(right_click(), lost))
    assert any("2 answers" in problem for problem in check(right_click(), double))


def test_an_answer_of_another_click_is_said():
    click = right_click()
    click.posts.append(Post("door", 1, 2, 200, "b"))
    assert any("acknowledged with answers" in problem for problem in check(click, right_facts()))


def test_a_click_that_was_never_acknowledged_may_be_stored_or_not_but_once():
    click = Click("why?", MODEL, posts=[Post("door", 0, 1, 0)])
    assert check(click, Facts()) == []
    assert check(click, right_facts()) == []
    assert check(click, replace(right_facts(), questions=[{"id": "q"}, {"id": "r"}]))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"bills": []}, "the ledger has 0"),
        ({"bills": [{"id": 1, "outcome": "done", "closed_at": None, "model": MODEL}]}, "open calls"),
        ({"bills": [{"id": 1, "outcome": "failed", "closed_at": "now", "model": MODEL}]}, "its calls are"),
        (
            {"bills": [{"id": i, "outcome": "done", "closed_at": "now", "model": MODEL} for i in (1, 2)]},
            "several calls",
        ),
        ({"upstream": [{"id": "call-1", "model": MODEL, "state": "open"}]}, "still being asked"),
        ({"upstream": [{"id": "call-1", "model": "other", "state": "finished"}]}, "another model"),
    ],
)
def test_a_ledger_that_does_not_fit_is_said(change, word):
    assert any(word in problem for problem in check(right_click(), replace(right_facts(), **change)))


def test_a_position_follows_the_one_before_it_or_begins_with_another_writer():
    assert follows(Position(1, 3), Position(1, 2), by_row=False)
    assert follows(Position(2, 1), Position(1, 2), by_row=False)
    wrong = (Position(1, 2), Position(1, 4), Position(2, 2), Position(0, 1))
    assert not any(follows(now, Position(1, 2), by_row=False) for now in wrong)
