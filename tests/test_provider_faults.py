"""Whatever a provider does wrong: one right final event in time, what came is kept, the ledger is closed, others go on."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest
from django.conf import settings

from bench.fake_provider import FakeProvider
from bench.faults import CATALOGUE, FAULTS
from bench.faults.expected import EXPECTED, PASSING, seconds
from bench.script import Script, text
from tests.parley import Client, Frame, Parley, shown, until

FIRST, GAP, WHOLE = 1.0, 1.0, 4.0  # seconds: the three deadlines, scaled down
RETRY_AFTER = 0.3  # seconds that the scripted refusals ask to wait

every_fault = pytest.mark.parametrize("fault", EXPECTED)


@dataclass(frozen=True)
class Lab:
    """A server with short deadlines and a faulty provider of its own."""

    server: Parley
    provider: FakeProvider
    models: dict[str, str]  # by fault


@dataclass(frozen=True)
class Outcome:
    """What became of one question."""

    answer: str
    frames: list[Frame]
    seconds: float

    @property
    def finals(self) -> list[Frame]:
        return [frame for frame in self.frames if frame.name in ("done", "error")]

    @property
    def ending(self) -> str:
        final = self.finals[-1]
        return final.data["reason"] if final.name == "done" else final.data["code"]


@pytest.fixture(scope="module")
def lab(serve_all) -> Iterator[Lab]:
    query = f"tokens=12&at=5&rate=200&retry_after={RETRY_AFTER}"
    models = {fault: f"fake?{query}&seed={seed}&fault={fault}" for seed, fault in enumerate(FAULTS)}
    deadlines = {"FIRST_TOKEN": FIRST, "GAP": GAP, "ANSWER": WHOLE}
    with FakeProvider() as provider:
        provider.state.models = ["fake?tokens=30&rate=60&seed=5", *models.values()]
        env = {f"CHAT_{name}_SECONDS": str(seconds) for name, seconds in deadlines.items()}
        yield Lab(serve_all(OPENAI_BASE_URL=provider.url, **env), provider, models)


@pytest.fixture(scope="module")
def asked(lab) -> Iterator[dict[str, Future]]:
    """Every fault, a few at a time; and a neighbour who goes on asking a healthy model meanwhile."""
    with ThreadPoolExecutor(6) as pool, ThreadPoolExecutor(1) as next_door:
        futures = {fault: pool.submit(ask, lab.server.client("alice"), lab.models[fault]) for fault in FAULTS}
        yield futures | {"neighbours": next_door.submit(talk_on, lab, list(futures.values()))}
        pool.shutdown(cancel_futures=True)


def ask(client: Client, model: str) -> Outcome:
    start = monotonic()
    with client.stream(f"What of {model}?", model) as stream:
        answer = stream.headers["location"].split("/")[2]
        frames = stream.read_until("close")
    return Outcome(answer, frames, monotonic() - start)


def talk_on(lab: Lab, futures: list[Future]) -> list[Outcome]:
    """One healthy answer after another, for as long as faults go on."""
    bob, outcomes = lab.server.client("bob"), []
    while not all(future.done() for future in futures):
        outcomes.append(ask(bob, lab.provider.state.models[0]))
    return outcomes


def test_the_three_deadlines_and_the_connect_have_the_promised_defaults():
    waits = settings.CHAT_FIRST_TOKEN_SECONDS, settings.CHAT_GAP_SECONDS, settings.CHAT_ANSWER_SECONDS
    assert (settings.CHAT_CONNECT_SECONDS, *waits) == (5, 30, 60, 600)


def test_the_table_has_a_right_ending_for_every_fault():
    assert set(EXPECTED) == set(FAULTS)


@every_fault
def test_a_fault_ends_in_exactly_one_final_event_which_is_the_right_one(fault, asked):
    outcome: Outcome = asked[fault].result()
    assert [frame.name for frame in outcome.frames].count("started") == 1
    assert outcome.frames[-2:] == [*outcome.finals, Frame("close", {})]
    assert outcome.ending == EXPECTED[fault]


@every_fault
def test_it_ends_within_its_deadline_and_a_second(fault, asked):
    assert asked[fault].result().seconds < seconds(fault, FIRST, GAP, WHOLE, RETRY_AFTER) + 1


@every_fault
def test_what_came_is_kept_and_stored_as_it_was_shown(fault, asked, lab):
    outcome: Outcome = asked[fault].result()
    row = lab.server.ended(outcome.answer)
    said = shown(outcome.frames)
    assert row["text"] == said
    assert CATALOGUE[fault].accepts(Script.of(lab.models[fault]), outcome.finals[0].data.get("reason", "error"), said)


@every_fault
def test_the_row_ends_as_the_final_event_says(fault, asked, lab):
    outcome: Outcome = asked[fault].result()
    row, final = lab.server.ended(outcome.answer), outcome.finals[0]
    assert row["final_id"] == final.id
    if final.name == "done":
        assert (row["status"], row["reason"], row["error_code"]) == ("done", outcome.ending, "")
    else:
        assert (row["status"], row["reason"], row["error_code"]) == ("failed", "", outcome.ending)
        assert (row["error_message"], row["request_id"]) == (final.data["message"], final.data["request_id"])
        assert final.data["message"]


@every_fault
def test_every_request_has_its_own_closed_row_in_the_ledger_and_only_passing_failures_are_repeated_once(
    fault, asked, lab
):
    outcome: Outcome = asked[fault].result()
    bills = lab.server.calls(outcome.answer)
    seen = [call for call in lab.provider.calls if call.model == lab.models[fault]]
    assert len(bills) == len(seen) == (2 if fault in PASSING else 1)
    assert all(bill["closed_at"] for bill in bills)
    outcomes = [(bill["outcome"], bill["error_code"]) for bill in bills]
    row = lab.server.ended(outcome.answer)
    assert outcomes[-1] == (row["status"], row["error_code"])
    assert all(outcome == "failed" and code for outcome, code in outcomes[:-1])


@every_fault
def test_the_request_to_the_provider_is_over_soon_after(fault, asked, lab):
    asked[fault].result()
    lab.provider.wait(lambda calls: all(call.state != "open" for call in calls if call.model == lab.models[fault]))


@every_fault
def test_no_words_of_the_provider_reach_people(fault, asked, lab):
    outcome: Outcome = asked[fault].result()
    told: list[Any] = [frame.data for frame in outcome.frames if frame.name not in ("token", "reasoning")]
    words = (json.dumps(told) + lab.server.ended(outcome.answer)["error_message"]).replace(lab.models[fault], "")
    assert not any(said in words.lower() for said in ("scripted", "html", "req-", "error code"))


def test_neighbours_stream_on_unharmed(asked, lab):
    outcomes: list[Outcome] = asked["neighbours"].result()
    assert len(outcomes) > 1
    for outcome in outcomes:
        assert (outcome.ending, shown(outcome.frames)) == ("stop", text(5, 30))


def test_the_server_is_well_afterwards(asked, lab):
    for future in asked.values():
        future.result()
    assert lab.server.process.poll() is None
    assert lab.server.client().get("/healthz").status == 200
    assert not any(
        word in lab.server.log.read_text() for word in ("Traceback", " ERROR ", " CRITICAL ", "never retrieved")
    )
    assert lab.server.rows("select count(*) as n from chat_modelcall where outcome = 'open'") == [{"n": 0}]
    until(lambda: all(call.state != "open" for call in lab.provider.calls), "every request is over")
