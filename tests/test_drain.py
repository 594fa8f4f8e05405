"""A restart: readers are sent away politely, what is being written gets its time, and nothing stays open behind."""

import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from bench.script import Gate, Script, text
from tests.parley import ROOT, Client, Frame, Parley, free_port, shown, until

LEAVES_SECONDS = 2.0  # in which every reader is gone
LIVES = 30.0  # seconds of drain: far longer than any test here


@pytest.fixture
def held(offer, provider):
    """Ask for an answer that says six tokens and waits at a gate: held(server, name) returns its id and its gate."""
    gates = []

    def ask(parley: Parley, name: str) -> tuple[str, Gate]:
        gates.append(Gate())
        provider.script(name, Script(tokens=12, seed=51, gate=gates[-1], at=6))
        client = parley.client("alice")
        answer = client.ask("go on", offer(name, parley))["answer"]
        until(lambda: parley.answer(answer)["text"] == text(51, 6), "six tokens are stored")
        return answer, gates[-1]

    yield ask
    for gate in gates:
        gate.open()


@contextmanager
def leaving(parley: Parley):
    """The server was told to leave and waits for an answer that is being written. Its exit status is awaited by the test."""
    assert parley.process
    parley.process.send_signal(signal.SIGTERM)
    until(lambda: b"draining" in parley.log.read_bytes(), "the drain begins")
    yield parley.process


def read_with_time(client: Client, answer: str, ready: threading.Barrier) -> tuple[list[Frame], float]:
    """All frames until the body ends, cleanly, and the moment at which it did."""
    with client.events(answer) as stream:
        frames = [next(iter(stream))]
        ready.wait()
        return frames + list(stream), time.monotonic()


def test_readers_are_told_to_reconnect_and_their_bodies_end_cleanly_within_two_seconds(serve, held):
    parley = serve(CHAT_DRAIN_SECONDS=str(LIVES))
    answers = [held(parley, f"drain-readers-{i}") for i in range(2)]
    ready = threading.Barrier(9)
    with ThreadPoolExecutor(8) as pool:
        reading: list[Future] = [
            pool.submit(read_with_time, parley.client("alice"), answers[i % 2][0], ready) for i in range(8)
        ]
        ready.wait()
        told = time.monotonic()
        with leaving(parley) as process:
            results = [future.result() for future in reading]
            assert process.poll() is None, "the answers are still being written"
            for _, gate in answers:
                gate.open()
            assert process.wait(LIVES) == 0
    for frames, ended in results:
        assert frames[-1] == Frame("reconnect", {})
        assert shown(frames) == text(51, 6)
        assert ended - told < LEAVES_SECONDS


def test_a_body_that_is_cut_does_not_look_like_one_that_ended(serve, held):
    parley = serve()
    answer, _ = held(parley, "drain-cut")
    with parley.client("alice").events(answer) as stream:
        next(iter(stream))
        parley.end(signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, OSError)):
            list(stream)


def test_new_questions_and_new_readers_are_refused_with_the_time_to_come_back(serve, held):
    parley = serve(CHAT_DRAIN_SECONDS=str(LIVES))
    alice = parley.client("alice")
    answer, gate = held(parley, "drain-refuses")
    before = parley.rows("select count(*) as n from chat_message")
    with leaving(parley) as process:
        question = {"text": "May I?", "model": "drain-refuses"}
        regenerated = alice.post(f"/answers/{answer}/regenerate", Accept="application/json")
        asked = alice.post("/conversations", question, Accept="application/json")
        streamed = alice.post("/conversations", question, Accept="text/event-stream")
        read = alice.get(f"/answers/{answer}/events", Accept="text/event-stream")
        for response in (regenerated, asked, streamed, read):
            assert response.status == 503
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["code"] == "draining"
        assert parley.rows("select count(*) as n from chat_message") == before
        gate.open()
        assert process.wait(LIVES) == 0


def test_an_answer_that_ends_in_time_is_done_and_can_be_read_after_the_restart(serve, held):
    parley = serve(CHAT_DRAIN_SECONDS=str(LIVES))
    answer, gate = held(parley, "drain-in-time")
    with leaving(parley) as process:
        gate.open()
        assert process.wait(LIVES) == 0, "it leaves when the answer has ended, and does not wait for the whole bound"
    row, [call] = parley.answer(answer), parley.calls(answer)
    assert (row["status"], row["text"], call["outcome"]) == ("done", text(51, 12), "done")
    parley.start()
    frames = parley.client("alice").read_to_end(answer)
    assert shown(frames) == text(51, 12)
    assert frames[-2].data["reason"] == "stop"


def test_an_answer_that_takes_longer_is_interrupted_with_its_text_kept_and_the_provider_hung_up_on(
    serve, held, provider
):
    parley = serve(CHAT_DRAIN_SECONDS="1")
    answer, _ = held(parley, "drain-too-long")
    told = time.monotonic()
    assert parley.end() == 0
    assert 1 <= time.monotonic() - told < 1 + 3 + LEAVES_SECONDS
    row, [call] = parley.answer(answer), parley.calls(answer)
    assert (row["status"], row["error_code"], row["retryable"], row["text"]) == (
        "interrupted",
        "interrupted",
        1,
        text(51, 6),
    )
    assert (call["outcome"], call["error_code"]) == ("interrupted", "interrupted")
    assert call["closed_at"]
    provider.wait(lambda calls: [c.state for c in calls if c.model == "drain-too-long"] == ["aborted"])
    parley.start()
    frames = parley.client("alice").read_to_end(answer)
    assert shown(frames) == text(51, 6)
    assert (frames[-2].name, frames[-2].data["code"], frames[-2].data["retryable"]) == ("error", "interrupted", True)


def test_a_server_without_open_answers_leaves_at_once(serve):
    parley = serve(CHAT_DRAIN_SECONDS=str(LIVES))
    parley.client("alice").read_to_end(parley.client("alice").ask()["answer"])
    assert parley.end(patience=LEAVES_SECONDS + 3) == 0


@pytest.mark.own_stores
def test_a_kill_loses_a_second_of_text_at_the_most_and_nothing_stays_open(serve, offer, provider):
    parley = serve()
    alice = parley.client("alice")
    model = offer("fake?tokens=2000&rate=100&seed=52", parley)
    answers = [alice.ask(f"question {i}", model)["answer"] for i in range(5)]
    with alice.events(answers[0]) as stream:
        frames = stream.read_tokens(250)
        parley.end(signal.SIGKILL)
    provider.wait(lambda calls: [c.state for c in calls if c.model == model] == ["aborted"] * 5)
    parley.start()
    seen, kept = shown(frames), parley.answer(answers[0])["text"]
    assert seen.startswith(kept)
    assert len(kept) > len(seen) - len(text(52, 150)), "a second of 100 tokens, and half a one for a busy machine"
    for answer in answers:
        row, [call] = parley.answer(answer), parley.calls(answer)
        assert (row["status"], row["lease_owner"], call["outcome"]) == ("interrupted", "", "interrupted")
        assert call["closed_at"]
        assert row["text"] == text(52, 2000)[: len(row["text"])] != ""
        for position in ("", frames[-1].id):
            with alice.events(answer, position) as stream:
                again = stream.read_until("close")
            assert [f.name for f in again if f.name != "usage"] == ["started", "token", "error", "close"]
            assert shown(again) == row["text"]
            assert (again[-2].data["code"], again[-2].data["retryable"]) == ("interrupted", True)
        with alice.events(answer, again[-2].id) as stream:
            assert stream.status == 204


@pytest.mark.own_stores
def test_after_a_kill_the_conversation_goes_on(serve, offer):
    parley = serve()
    alice = parley.client("alice")
    asked = alice.ask("first", offer("fake?tokens=2000&rate=100&seed=53", parley))
    parley.end(signal.SIGKILL)
    parley.start()
    model = offer("fake?tokens=3&seed=54", parley)
    again = alice.ask("second", model, asked["conversation"])
    assert shown(alice.read_to_end(again["answer"])) == text(54, 3)


@pytest.mark.own_stores
def test_a_second_server_on_the_same_database_is_refused_in_a_sentence_and_the_first_one_goes_on(serve, held):
    parley = serve()
    answer, gate = held(parley, "drain-second")
    command = [sys.executable, "-m", "chatproject.server", "--port", str(free_port())]
    second = subprocess.run(command, cwd=ROOT, env=parley.env, capture_output=True, text=True, timeout=20)
    assert second.returncode == 1
    assert "Another Parley server is running on this database" in second.stderr.splitlines()[-1]
    assert parley.answer(answer)["status"] == "open", "it did not take the answer for an orphan"
    gate.open()
    assert shown(parley.client("alice").read_to_end(answer)) == text(51, 12)


def test_the_port_is_free_again_afterwards(serve):
    parley = serve()
    assert parley.end() == 0
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", parley.port)):
        pass
    assert parley.start().client().get("/healthz").status == 200
