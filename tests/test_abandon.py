"""The tab was closed: an answer goes on for as long as its reader may come back, and not for longer."""

import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from bench.ledger import Call
from bench.script import Gate, Script, text
from tests.parley import Client, EventStream, Frame, Parley, hear, say, shown, until

GRACE = 2.0  # seconds
LOOKS = 0.25  # seconds between two looks of the server: an answer may be given up so much later
SLACK = 5.0  # seconds that a busy machine may take on top
SAID = 4  # tokens before the provider pauses


@pytest.fixture(scope="module")
def patient(serve_all) -> Parley:
    """A server that waits two seconds for a reader who has left."""
    return serve_all(CHAT_ABANDON_AFTER=str(GRACE))


def let_pass(seconds: float) -> None:
    """Time itself is what is under test in this file: nothing must happen in it."""
    time.sleep(max(0.0, seconds))


class Asked:
    """An answer that says four tokens and then nothing, until its gate opens."""

    def __init__(self, client: Client, offer: Callable[..., str], parley: Parley, provider, name: str) -> None:
        self.client, self.parley, self.provider, self.model = client, parley, provider, name
        self.gate = Gate()
        provider.script(name, Script(tokens=2 * SAID, seed=41, gate=self.gate, at=SAID))
        self.id: str = client.ask("Are you there?", offer(name, parley))["answer"]

    @property
    def call(self) -> Call:
        [call] = [call for call in self.provider.calls if call.model == self.model]
        return call

    def read(self) -> EventStream:
        """A stream in which the four tokens have been read."""
        stream = self.client.events(self.id)
        stream.read_tokens(SAID)
        return stream

    def read_and_leave(self) -> float:
        """Read for long enough to be noticed; returns the moment at which this reader was gone."""
        with self.read():
            let_pass(4 * LOOKS)
        return time.monotonic()

    def aborted(self) -> float:
        """The moment at which the provider saw that we hung up."""
        until(lambda: self.call.state == "aborted", f"{self.model} is given up")
        assert self.call.ended_at
        return self.call.ended_at

    def finish(self) -> list[Frame]:
        """Let the provider go on; all frames, to the end."""
        self.gate.open()
        return self.client.read_to_end(self.id)


@pytest.fixture
def asked(patient, offer, provider):
    """Ask Alice's question: asked("name"), or on another server, asked("name", server)."""
    with ExitStack() as gates:

        def ask(name: str, server: Parley = patient) -> Asked:
            made = Asked(server.client("alice"), offer, server, provider, name)
            gates.callback(made.gate.open)
            return made

        yield ask


def assert_abandoned(answer: Asked) -> None:
    """The row was stopped because nobody was there; what was read is kept, and readers who come now see the same."""
    row, [call] = answer.parley.ended(answer.id), answer.parley.calls(answer.id)
    assert (row["status"], row["reason"], row["stop_by"], row["text"]) == (
        "stopped",
        "stopped",
        "abandoned",
        text(41, SAID),
    )
    assert call["outcome"] == "stopped"
    assert call["closed_at"]
    frames = answer.client.read_to_end(answer.id)
    assert [(f.data["reason"], f.data["by"]) for f in frames if f.name in ("done", "error")] == [
        ("stopped", "abandoned")
    ]
    assert shown(frames) == text(41, SAID)


def assert_finished(answer: Asked) -> None:
    """Nobody gave it up."""
    assert answer.call.state == "open"
    assert shown(answer.finish()) == text(41, 2 * SAID)
    assert answer.parley.ended(answer.id)["status"] == "done"
    assert answer.call.state == "finished"


def wait_longer_than_the_grace(since: float) -> None:
    """Until an answer without a reader would have been given up."""
    let_pass(since + GRACE + 4 * LOOKS - time.monotonic())


def test_a_reader_who_left_is_waited_for_as_long_as_settings_say_and_then_the_provider_is_hung_up_on(asked):
    answer = asked("abandoned")
    left = answer.read_and_leave()
    waited = answer.aborted() - left
    assert GRACE - LOOKS <= waited <= GRACE + LOOKS + SLACK
    assert_abandoned(answer)


def test_a_reload_within_the_grace_changes_nothing_and_starts_the_grace_anew(asked):
    answer = asked("reloaded")
    left = answer.read_and_leave()
    let_pass(left + GRACE / 2 - time.monotonic())
    with answer.read():
        wait_longer_than_the_grace(time.monotonic())
        assert answer.call.state == "open"
    left = time.monotonic()
    assert answer.aborted() - left >= GRACE - LOOKS
    assert_abandoned(answer)


def test_a_second_reader_keeps_it_alive(asked):
    answer = asked("two-readers")
    with answer.read():
        wait_longer_than_the_grace(answer.read_and_leave())
        assert_finished(answer)


def test_an_open_page_of_the_owner_at_another_conversation_keeps_it_alive(asked):
    answer = asked("looks-elsewhere")
    other = asked("elsewhere")
    with answer.client.socket() as page:
        left = answer.read_and_leave()
        say(page, type="watch", conversation=other.client.state(other.id)["conversation"])
        wait_longer_than_the_grace(left)
        assert_finished(answer)
        assert hear(page, "answer.ended")["answer"] == answer.id
    assert_finished(other)


def test_when_the_last_page_of_the_owner_closes_the_grace_begins(asked):
    answer = asked("page-closed")
    with answer.client.socket():
        wait_longer_than_the_grace(answer.read_and_leave())
        assert answer.call.state == "open"
    left = time.monotonic()
    assert answer.aborted() - left >= GRACE - LOOKS
    assert_abandoned(answer)


def test_pages_and_readers_of_somebody_else_do_not_keep_it_alive(asked, patient, offer, provider):
    answer = asked("nobody-of-mine")
    bob = Asked(patient.client("bob"), offer, patient, provider, "of-bob")
    with bob.client.socket(), bob.read():
        answer.read_and_leave()
        answer.aborted()
        assert_abandoned(answer)
        assert_finished(bob)


def test_with_never_an_answer_that_nobody_reads_is_written_to_its_end(asked, serve):
    answer = asked("never", serve(CHAT_ABANDON_AFTER="never"))
    wait_longer_than_the_grace(answer.read_and_leave())
    assert_finished(answer)


def test_with_zero_an_answer_ends_soon_after_its_last_reader_has_left_and_not_before(asked, serve):
    answer = asked("at-once", serve(CHAT_ABANDON_AFTER="0"))
    with answer.read():
        wait_longer_than_the_grace(answer.read_and_leave())
        assert answer.call.state == "open", "one of two readers is still there"
    left = time.monotonic()
    assert answer.aborted() - left <= LOOKS + SLACK
    assert_abandoned(answer)


def test_with_zero_an_answer_whose_reader_has_not_come_yet_is_not_given_up(asked, serve):
    answer = asked("not-come-yet", serve(CHAT_ABANDON_AFTER="0"))
    wait_longer_than_the_grace(time.monotonic())
    assert_finished(answer)
