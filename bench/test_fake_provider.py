"""The fake provider is the measure of many promises, so it is held to its own: `python -m pytest bench`."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from bench.fake_provider import FakeProvider
from bench.faults import CATALOGUE, FAULTS
from bench.script import Gate, Script, text, token
from bench.strict_client import ask

PROMPT: list[Any] = [{"role": "user", "content": "Say something"}]


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    provider.ledger.reset()
    with openai.OpenAI(base_url=provider.url, api_key="bench", max_retries=0, timeout=5) as made:
        yield made


def said(client: openai.OpenAI, model: str) -> str:
    stream = client.chat.completions.create(model=model, messages=PROMPT, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_strict_client_ends_every_fault_as_the_table_says(provider: FakeProvider, name: str) -> None:
    # The endless ones need a pace, or the strict client is busy for its whole patience with text.
    script = Script(tokens=20, at=7, fault=name, rate=2000, retry_after=0.01)
    provider.script(f"model of {name}", script)
    ending, shown, why = ask(provider.url, f"model of {name}", patience=0.8, longest=1.5)
    assert CATALOGUE[name].accepts(script, ending, shown), (ending, shown[:300], why)
    provider.wait(lambda calls: all(call.state != "open" for call in calls), 1)


def test_every_fault_has_a_sentence() -> None:
    assert len(FAULTS) > 40
    assert all(says.endswith(".") for says in FAULTS.values())


def test_text_is_a_function_of_seed_and_position(client: openai.OpenAI) -> None:
    assert said(client, "fake?tokens=300&seed=5") == text(5, 300)
    assert text(5, 300) != text(6, 300)
    assert len({token(5, i) for i in range(10_000)}) == 10_000


def test_pace_and_first_token_are_as_scripted(provider: FakeProvider, client: openai.OpenAI) -> None:
    said(client, "fake?tokens=50&rate=100&ttft=0.2")
    (call,) = provider.calls
    assert call.first_sent_at is not None
    assert call.ended_at is not None
    assert 0.2 <= call.first_sent_at - call.opened_at < 0.5
    assert 0.69 <= call.ended_at - call.opened_at < 1.2


def test_a_whole_completion_says_the_same_and_bills_it(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="fake?tokens=30&seed=2", messages=PROMPT)
    assert answer.choices[0].message.content == text(2, 30)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 30)


def test_usage_comes_only_when_it_is_asked_for(client: openai.OpenAI) -> None:
    for asked in (True, False):
        options: Any = {"include_usage": asked}
        chunks = client.chat.completions.create(model="fake", messages=PROMPT, stream=True, stream_options=options)
        assert [c.usage.completion_tokens for c in chunks if c.usage] == [20] * asked


def test_the_ledger_keeps_the_request_but_not_the_key(provider: FakeProvider, client: openai.OpenAI) -> None:
    client.chat.completions.create(model="fake", messages=PROMPT, temperature=0.5)
    with pytest.raises(openai.BadRequestError):
        client.with_options(api_key="secret").chat.completions.create(model="fake?x=1", messages=PROMPT)
    client.with_options(api_key="secret").chat.completions.create(model="fake", messages=PROMPT)
    right, wrong = provider.calls
    assert (right.authorized, wrong.authorized) == (True, False)
    assert (right.body["temperature"], right.body["messages"]) == (0.5, PROMPT)
    assert "authorization" not in right.headers
    assert "secret" not in repr(vars(wrong))
    assert (right.state, right.tokens, right.attempt, wrong.attempt) == ("finished", 20, 1, 2)


@pytest.mark.parametrize(
    "model",
    ["fake?fault=silent-headers", "fake?ttft=60", "fake?fault=silent-first", "fake?fault=silent-middle&rate=1000",
     "fake?fault=endless&rate=200", "fake?fault=endless", "fake?rate=0.1&tokens=5"],
)  # fmt: skip
def test_a_client_that_leaves_is_noticed_within_milliseconds(provider: FakeProvider, model: str) -> None:
    provider.ledger.reset()
    body = json.dumps({"model": model, "stream": True, "messages": PROMPT}).encode()
    with socket.create_connection(("127.0.0.1", provider.port)) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        time.sleep(0.1)
        assert [call.state for call in provider.calls] == ["open"]
        left = time.monotonic()
    (call,) = provider.wait(lambda calls: calls[0].state == "aborted", 1)
    assert call.ended_at is not None
    assert call.ended_at - left < 0.05


def test_a_gate_holds_the_stream_until_it_is_opened(provider: FakeProvider, client: openai.OpenAI) -> None:
    gate = Gate()
    provider.script("held", Script(tokens=5, at=2, gate=gate))
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append(said(client, "held")))
    reader.start()
    provider.wait(lambda calls: calls and calls[0].tokens == 2)
    time.sleep(0.05)
    assert provider.calls[0].tokens == 2
    gate.open()
    reader.join(5)
    assert heard == [text(0, 5)]


def test_one_connection_serves_many_requests(provider: FakeProvider) -> None:
    body = json.dumps({"model": "fake?tokens=2", "stream": True, "messages": PROMPT}).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection(("127.0.0.1", provider.port), timeout=5) as raw:
        raw.sendall(request[:20])
        time.sleep(0.02)
        raw.sendall(request[20:] + request + request)  # in pieces, and before the answers
        heard = b""
        while heard.count(b"[DONE]\n\n\r\n0\r\n\r\n") < 3:
            heard += raw.recv(65536)


def test_a_slow_reader_holds_the_provider_back(provider: FakeProvider) -> None:
    provider.ledger.reset()
    body = json.dumps({"model": "fake?fault=endless", "stream": True, "messages": PROMPT}).encode()
    with socket.create_connection(("127.0.0.1", provider.port)) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        time.sleep(0.5)
        before = provider.calls[0].tokens
        time.sleep(0.2)
        assert provider.calls[0].tokens == before > 1000
        assert ask(provider.url, "fake")[:2] == ("stop", text(0, 20))


def test_a_stopped_provider_refuses_and_comes_back(client: openai.OpenAI) -> None:
    with FakeProvider() as other:
        there = client.with_options(base_url=other.url)
        assert said(there, "fake") == text(0, 20)
        other.stop()
        with pytest.raises(openai.APIConnectionError):
            said(there, "fake")
        other.start()
        assert said(there, "fake") == text(0, 20)


def test_models_are_listed_or_fail_as_told(provider: FakeProvider, client: openai.OpenAI) -> None:
    provider.state.models = ["one", {"id": "two", "context_length": 4096}]
    assert [model.id for model in client.models.list()] == ["one", "two"]
    provider.state.models_status = 503
    with pytest.raises(openai.InternalServerError):
        client.models.list()
    provider.state.models_status = 200


def test_it_serves_other_processes_and_tells_them_what_it_saw() -> None:
    command = [sys.executable, "-m", "bench.fake_provider", "--port", "0", "--strict", "--models", "a,b"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        root = url.removesuffix("/v1")
        assert ask(url, "fake?tokens=3")[:2] == ("stop", text(0, 3))
        ledger = json.load(urllib.request.urlopen(f"{root}/ledger"))
        assert [(call["state"], call["tokens"]) for call in ledger] == [("finished", 3)]
        urllib.request.urlopen(urllib.request.Request(f"{root}/ledger/reset", method="POST"))
        assert json.load(urllib.request.urlopen(f"{root}/ledger/totals")) == {
            "open": 0, "finished": 0, "aborted": 0, "tokens": 0,
        }  # fmt: skip
        with pytest.raises(openai.AuthenticationError):
            said(openai.OpenAI(base_url=url, api_key="wrong"), "fake")
        process.terminate()
        assert process.wait(5) == 0
