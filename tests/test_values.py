"""The values every part relies on: events, positions, frames, and what of a conversation a model is sent."""

import json
import random

import pytest

from chat import sse
from chat.events import (
    KINDS,
    START,
    Close,
    Done,
    Error,
    Event,
    Ping,
    Position,
    Reasoning,
    Reconnect,
    Started,
    Status,
    Token,
    Usage,
    dump,
    load,
)
from chat.history import Turn, fit
from tests import event_source

NASTY = 'a\nb\r\nc\rd\u2028e\u2029f\u0085g\n\nevent: admin\ndata: {}\n\n: x\nid: 9\n"\\\u0000🙂\ufeff\x1b'
EXAMPLES: list[Event] = [
    Started("0190", 1, "m?a=1&b=" + NASTY),
    Token("x"),
    Token(NASTY, 0),
    Reasoning(NASTY, 7),
    Usage(0, 1 << 40, True),
    Usage(1, 2),
    Done("stop"),
    Done("stopped", "user", 0, 12),
    Error("timeout", NASTY, True, "r"),
    Status("waiting", 5),
    Status("queued", 0, 3),
    Ping(),
    Reconnect(),
    Close(),
]


def test_there_is_an_example_of_every_kind_of_event():
    assert {type(event) for event in EXAMPLES} == set(KINDS.values())
    assert all(KINDS[name].name == name for name in KINDS)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.name)
def test_an_event_survives_being_dumped_and_loaded(event):
    assert load(event.name, dump(event)) == event


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.name)
def test_a_field_that_is_not_in_the_vocabulary_is_refused(event):
    with pytest.raises(ValueError, match="not an event"):
        load(event.name, {**dump(event), "mood": 1})


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.__slots__ and kind is not Done], ids=str)
def test_a_field_that_is_missing_is_refused(kind):
    with pytest.raises(ValueError, match="not an event"):
        load(kind.name, {})


@pytest.mark.parametrize("name", ["", "Token", "admin", "message", "token "])
def test_a_kind_that_is_not_in_the_vocabulary_is_refused(name):
    with pytest.raises(ValueError, match="not an event"):
        load(name, {})


def test_events_cannot_be_changed():
    with pytest.raises(AttributeError):
        Token("x").text = "y"


def test_neighbouring_texts_add_up():
    assert Token("a", 2) + Token("b", 3) == Token("ab", 5)
    assert Reasoning("a") + Reasoning("b") == Reasoning("ab", 2)


POSITIONS = {
    "1-1": Position(1, 1),
    "7-42": Position(7, 42),
    "0-5": Position(0, 5),
    "007-042": Position(7, 42),
    "9" * 31 + "-" + "9" * 32: Position(int("9" * 31), int("9" * 32)),
}
NO_POSITIONS = [
    *(None, "", "0", "1", "-", "1-", "-1", "1-0", "0-0", "99-000", "1-1-1", "--", "1--1", "-1-1", "1 -1", "1-1 "),
    *(" 1-1", "1-1\n", "\n1-1", "+1-1", "1-+1", "1_0-1", "0x1-1", "1e3-1", "1.0-1", "१-१", "１-１", "²-1", "1\u20131"),
    *("$", "*", "a-b", "1-1'", "1-1;", "1-1\0", "9" * 32 + "-" + "9" * 32, "1-" + "1" * 5000, "true", "null", "(1)-1"),
]


@pytest.mark.parametrize("text", POSITIONS)
def test_a_position_is_read(text):
    assert Position.parse(text) == POSITIONS[text]


@pytest.mark.parametrize("text", NO_POSITIONS)
def test_whatever_is_no_position_means_from_the_start(text):
    assert Position.parse(text) is START


def test_positions_are_written_as_they_are_read_and_grow_in_both_parts():
    dice = random.Random(81)
    places = [Position(dice.randrange(1, 50), dice.randrange(1, 50)) for _ in range(300)]
    assert all(Position.parse(str(place)) == place for place in places)
    assert all(place < place.next() < Position(place.fence + 1, 1) for place in places)
    assert all((a < b) == ((a.fence, a.seq) < (b.fence, b.seq)) for a in places for b in places[:20])


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.name)
def test_a_frame_is_one_event_to_any_reader_that_keeps_to_the_standard(event):
    bytes_ = sse.RETRY + sse.frame(Ping()) + sse.frame(event, Position(3, 14)) + sse.frame(Close())
    _, read, close = event_source.read(bytes_)
    assert (read.type, read.last_event_id, close.type) == (event.name, "3-14", "close")
    assert load(read.type, json.loads(read.data)) == event


def test_a_frame_without_a_position_leaves_the_readers_position_alone():
    first, second = event_source.read(sse.frame(Token("a"), Position(1, 2)) + sse.frame(Ping()))
    assert (first.last_event_id, second.last_event_id) == ("1-2", "1-2")
    assert b"id:" not in sse.frame(Ping())


def turns_of(dice: random.Random, count: int) -> list[Turn]:
    """A conversation: questions and answers in turn, sometimes an answer missing."""
    turns: list[Turn] = []
    for _ in range(count):
        role = "assistant" if turns and turns[-1].role == "user" and dice.random() < 0.9 else "user"
        turns.append(Turn(role, "wörd" * dice.randrange(1, 60)))
    if turns[-1].role != "user":
        turns.append(Turn("user", "last"))
    return turns


CASES = [(seed, budget) for seed in range(60) for budget in (1, 50, 200, 1000, 5000)]


@pytest.mark.parametrize(("seed", "budget"), CASES)
def test_what_fits_is_the_end_of_the_conversation_and_never_over_budget(seed, budget):
    turns = turns_of(random.Random(seed), 40)
    kept, left_out = fit(turns, budget)
    assert kept == turns[left_out:]
    assert kept[-1] == turns[-1]
    assert sum(turn.tokens for turn in kept) <= budget or kept == turns[-1:]
    assert kept[0].role == "user"


def test_what_fits_as_a_whole_is_sent_as_a_whole():
    turns = turns_of(random.Random(82), 30)
    assert fit(turns, sum(turn.tokens for turn in turns)) == (turns, 0)


def test_from_question_to_question_the_beginning_stays_the_same_but_for_a_few_cuts():
    turns, budget = turns_of(random.Random(83), 300), 2000
    starts = [fit(turns[: n + 1], budget)[1] for n, turn in enumerate(turns) if turn.role == "user"]
    assert starts == sorted(starts), "what was left out once stays out"
    cuts = len(set(starts)) - 1
    sent = sum(turn.tokens for turn in turns)
    assert 3 < cuts <= sent / (budget / 2) + 1, "each cut makes room for half of the budget"


def test_a_last_turn_that_alone_is_too_long_is_sent_alone():
    turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c" * 9000)]
    assert fit(turns, 100) == (turns[-1:], 2)


def test_an_empty_conversation_fits():
    assert fit([], 10) == ([], 0)
