"""A provider is asked so many things at once and no more; who waits is told so, and nobody waits because of somebody eager."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from bench.fake_provider import FakeProvider
from bench.ledger import Call
from bench.script import Gate, Script, text
from tests.parley import Client, Frame, Parley, shown, until

SLOTS = 2
TOLD_SECONDS = 10.0  # within which a reader hears of its place, on a busy machine; a quiet one takes 2 to 3


@pytest.fixture(scope="module")
def site(serve_all) -> Parley:
    """Room for two at once. Only places are told: silence takes longer than any test."""
    return serve_all(CHAT_RUN_SLOTS=str(SLOTS), CHAT_SILENT_SECONDS="300", CHAT_PING_SECONDS="300")


class Room:
    """Both places of the server, taken by two of the boss's answers until they are let go."""

    def __init__(self, server: Parley, provider: FakeProvider, offer: Callable[..., str], count: int) -> None:
        self.server, self.provider = server, provider
        self.gates = [Gate() for _ in range(count)]
        self.models = [self.model(offer, tokens=2, at=1, gate=gate) for gate in self.gates]
        boss = server.client("boss")
        self.answers = [boss.ask("Let me sit here", model)["answer"] for model in self.models]
        provider.wait(lambda calls: {call.model for call in calls} >= set(self.models), timeout=20)

    def model(self, offer: Callable[..., str], **script: Any) -> str:
        name = f"fake-queue-{uuid4()}"
        self.provider.script(name, Script(**{"tokens": 3} | script))
        return offer(name, self.server)

    def let_one_in(self) -> None:
        """One of the two ends, and its place is free."""
        self.gates.pop().open()
        self.server.ended(self.answers.pop())

    def let_all_in(self) -> None:
        while self.gates:
            self.let_one_in()


@pytest.fixture
def room(provider, offer) -> Iterator[Callable[..., Room]]:
    taken: list[Room] = []

    def take(server: Parley, count: int = SLOTS) -> Room:
        taken.append(Room(server, provider, offer, count))
        return taken[-1]

    yield take
    for one in taken:
        one.let_all_in()


def calls_of(provider: FakeProvider, *models: str) -> list[Call]:
    return [call for call in provider.calls if call.model in models]


def most_at_once(calls: list[Call]) -> int:
    """How many of the calls were open at the same moment."""
    moments = sorted((at, step) for call in calls for at, step in ((call.opened_at, 1), (call.ended_at, -1)) if at)
    open_now = most = 0
    for _, step in moments:
        open_now += step
        most = max(most, open_now)
    return most


def order(provider: FakeProvider, *models: str) -> list[str]:
    """The models in the order in which the provider was asked."""
    return [call.model for call in sorted(calls_of(provider, *models), key=lambda call: call.opened_at)]


def test_never_more_than_so_many_calls_are_open_at_once_and_all_are_answered(site, room, provider, offer):
    model = f"fake-many-{uuid4()}"
    provider.script(model, Script(tokens=12, rate=100, seed=71))
    offer(model, site)
    people = [site.client(name) for name in ("alice", "bob", "staff")]
    with ThreadPoolExecutor(6) as threads:
        asked = list(threads.map(lambda n: people[n % 3].ask("All at once", model)["answer"], range(24)))
    assert {site.ended(answer)["text"] for answer in asked} == {text(71, 12)}
    calls = calls_of(provider, model)
    assert len(calls) == 24
    assert most_at_once(calls) == SLOTS


def test_one_question_is_not_delayed_by_ten_of_somebody_else(site, room, provider, offer):
    full = room(site)
    hers = [full.model(offer) for _ in range(10)]
    his = full.model(offer)
    alice, bob = site.client("alice"), site.client("bob")
    answers = [alice.ask("And another", model)["answer"] for model in hers]
    answers.append(bob.ask("Just one", his)["answer"])
    full.let_all_in()
    for answer in answers:
        assert site.ended(answer)["status"] == "done"
    asked = order(provider, his, *hers)
    assert asked.index(his) <= SLOTS, "at most one of hers for each free place goes before"
    assert [model for model in asked if model != his] == hers, "those of one user go one after the other"


def test_work_in_the_background_waits_behind_people(site, room, provider, offer):
    full = room(site)
    quiet, loud = [full.model(offer) for _ in range(3)], [full.model(offer) for _ in range(3)]
    alice, bob = site.client("alice"), site.client("bob")
    answers = [
        alice.ask("No hurry", model, Priority=how)["answer"]
        for model, how in zip(quiet, ["u=7", "i, u=7", "u=7,i"], strict=True)
    ]
    answers += [bob.ask("Please", model, Priority="u=1")["answer"] for model in loud]
    full.let_all_in()
    for answer in answers:
        site.ended(answer)
    asked = order(provider, *quiet, *loud)
    assert set(asked[: len(loud)]) == set(loud)
    assert asked[len(loud) :] == quiet


def places(frames: list[Frame]) -> list[int | None]:
    return [frame.data["position"] for frame in frames if frame.name == "status"]


def test_a_reader_is_told_its_place_at_once_and_whenever_it_changes(site, room, provider, offer):
    full = room(site, SLOTS)
    gates = [Gate() for _ in range(2)]
    first, second = (full.model(offer, at=1, gate=gate) for gate in gates)
    mine = full.model(offer, seed=72)
    bob, staff, alice = (site.client(name) for name in ("bob", "staff", "alice"))
    before = [bob.ask("First", first)["answer"], staff.ask("Second", second)["answer"]]
    answer = alice.ask("Third", mine)["answer"]
    with alice.events(answer) as stream:
        frames = stream.read(lambda frames: places(frames)[-1:] == [3], patience=TOLD_SECONDS)
        full.let_one_in()
        frames += stream.read(lambda frames: places(frames)[-1:] == [2], patience=TOLD_SECONDS)
        full.let_one_in()
        frames += stream.read(lambda frames: places(frames)[-1:] == [1], patience=TOLD_SECONDS)
        states = [frame.data["state"] for frame in frames if frame.name == "status"]
        for gate in gates:
            gate.open()
        rest = stream.read_until("close")
    assert (places(frames), states) == ([3, 2, 1], ["queued"] * 3)
    assert shown(frames + rest) == text(72, 3)
    told = [frame.data for frame in rest if frame.name == "status"]
    assert [data["state"] for data in told if data["position"]] == [], "once it is its turn it is not queued"
    for other in before:
        site.ended(other)


def test_whoever_comes_later_is_told_the_place_too(site, room, offer):
    full = room(site)
    alice = site.client("alice")
    answer = alice.ask("Wait", full.model(offer))["answer"]
    for after in ("", "1-1"):
        with alice.events(answer, after) as stream:
            [told] = [frame for frame in stream.read_until("status") if frame.name == "status"]
        assert (told.data["state"], told.data["position"]) == ("queued", 1)
    full.let_all_in()
    row = site.ended(answer)
    assert (row["status"], row["queue_position"]) == ("done", None)


def test_a_stop_while_queued_ends_it_at_once_without_a_call_and_without_costs(site, room, provider, offer):
    full = room(site)
    model, alice = full.model(offer), site.client("alice")
    answer = alice.ask("Wait", model)["answer"]
    with alice.events(answer) as stream:
        stream.read_until("status")
        receipt = alice.stop(answer)
        frames = stream.read_until("close")
    row, [call] = site.ended(answer), site.calls(answer)
    assert [frame.name for frame in frames if frame.name in ("done", "error")] == ["done"]
    assert frames[-2].data["reason"] == "stopped"
    assert (row["status"], row["text"], row["queue_position"]) == ("stopped", "", None)
    assert (receipt["completion_tokens"], receipt["estimated"]) == (0, False)
    assert (call["outcome"], call["prompt_tokens"], call["completion_tokens"]) == ("stopped", 0, 0)
    full.let_all_in()
    assert_free(site, provider, offer)
    assert calls_of(provider, model) == []


def test_those_behind_one_who_gives_up_move_forward(site, room, offer):
    full = room(site)
    alice, bob = site.client("alice"), site.client("bob")
    gone, stays = alice.ask("Wait", full.model(offer))["answer"], bob.ask("Wait", full.model(offer))["answer"]
    with bob.events(stays) as stream:
        stream.read(lambda frames: places(frames)[-1:] == [2], patience=TOLD_SECONDS)
        alice.stop(gone)
        stream.read(lambda frames: places(frames)[-1:] == [1], patience=TOLD_SECONDS)


def test_an_edit_and_a_second_try_wait_in_the_queue_like_any_question(site, room, provider, offer):
    full = room(site)
    alice, model = site.client("alice"), full.model(offer)
    first = alice.ask("Wait", model)
    second = alice.post_json(f"/messages/{first['question']}/edit", {"text": "Wait here", "model": model}).json()
    third = alice.post_json(f"/answers/{second['answer']}/regenerate", {}).json()
    assert [site.answer(one["answer"])["status"] for one in (first, second)] == ["stopped", "stopped"]
    full.let_all_in()
    assert site.ended(third["answer"])["status"] == "done"
    assert len(calls_of(provider, model)) == 1


@pytest.mark.parametrize(
    "limit", ["CHAT_FIRST_TOKEN_SECONDS", "CHAT_ANSWER_SECONDS"], ids=["the first token", "the whole answer"]
)
def test_the_time_in_the_queue_counts_for_no_deadline(serve, provider, offer, limit):
    server = serve(CHAT_RUN_SLOTS="1", **{limit: "2.5"})
    first, second = (offer(f"fake?tokens=21&rate=10&seed={seed}", server) for seed in (74, 75))
    alice = server.client("alice")
    answers = [alice.ask("One after the other", model)["answer"] for model in (first, second)]
    rows = [server.ended(answer) for answer in answers]
    assert [(row["status"], row["text"]) for row in rows] == [("done", text(74, 21)), ("done", text(75, 21))]
    assert rows[1]["ttft_ms"] > 1500, "it did wait"


def assert_free(server: Parley, provider: FakeProvider, offer: Callable[..., str], slots: int = SLOTS) -> None:
    """All places are free: so many answers run at once, as soon as they are asked."""
    gates = [Gate() for _ in range(slots)]
    models = [f"fake-free-{uuid4()}" for _ in gates]
    client = server.client("staff")
    answers = []
    for model, gate in zip(models, gates, strict=True):
        provider.script(model, Script(tokens=2, at=1, gate=gate))
        answers.append(client.ask("Now", offer(model, server))["answer"])
    provider.wait(lambda calls: sum(call.model in models and call.tokens == 1 for call in calls) == slots, timeout=20)
    for gate in gates:
        gate.open()
    for answer in answers:
        assert server.ended(answer)["status"] == "done"


KINDS = {
    "good": "fake?tokens=4",
    "cut": "fake?tokens=4&fault=cut&at=2",
    "refused": "fake?fault=status-400",
    "tried twice": "fake?fault=500-once&tokens=4",
    "silent": "fake?tokens=4&ttft=60",
    "stopped": "fake?tokens=2000&rate=40",
    "stopped in the queue": "fake?tokens=5",
}


def test_after_two_hundred_answers_of_every_kind_all_places_are_free(serve, provider, offer):
    server = serve(CHAT_RUN_SLOTS="6", CHAT_FIRST_TOKEN_SECONDS="0.3")
    for model in KINDS.values():
        offer(model, server)
    clients: list[Client] = [server.client(name) for name in ("alice", "bob", "staff", "boss")]

    def one(n: int) -> str:
        kind = list(KINDS)[n % len(KINDS)]
        client = clients[n % len(clients)]
        answer: str = client.ask(f"Number {n}", KINDS[kind])["answer"]
        if kind.startswith("stopped"):
            if kind == "stopped":
                until(lambda: server.answer(answer)["text"] or n % 2)
            client.stop(answer)
        return answer

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(one, range(200)))
    ends = [server.ended(answer)["status"] for answer in answers]
    assert {"done", "failed", "stopped"} == set(ends)
    assert_free(server, provider, offer, slots=6)
    assert server.rows("select id from chat_message where queue_position is not null") == []
    assert server.rows("select id from chat_modelcall where outcome = 'open'") == []
