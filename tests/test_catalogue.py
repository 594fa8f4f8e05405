"""Which models people can choose from: named by settings, or read from the provider, at start and on demand."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from bench.fake_provider import FakeProvider
from tests.parley import Client, Parley

ALONE = {"OPENAI_BASE_URL": "", "OPENAI_API_KEY": ""}  # no provider is configured


@pytest.fixture
def source() -> Iterator[FakeProvider]:
    """A provider of the test's own, whose list of models it may change and which it may stop."""
    with FakeProvider() as provider:
        yield provider


def sizes(client: Client) -> dict[str, int]:
    """Models and their context sizes, in the order in which they are offered."""
    return {model["name"]: model["context"] for model in client.get("/models").json()["models"]}


def refresh(client: Client) -> dict:
    response = client.post("/models", Accept="application/json")
    assert response.status == 200
    return response.json()


def options(html: str) -> list[str]:
    return re.findall(r'<option value="([^"]*)"', html)


def test_settings_name_the_models_and_their_contexts_and_the_provider_is_not_asked(serve, source):
    source.stop()
    models = " small=1000, org/big:7b , fast=128000"
    server = serve(OPENAI_BASE_URL=source.url, CHAT_MODELS=models, CHAT_CONTEXT_TOKENS="5000")
    alice = server.client("alice")
    assert sizes(alice) == {"small": 1000, "org/big:7b": 5000, "fast": 128000}
    assert list(sizes(alice)) == ["small", "org/big:7b", "fast"]
    assert refresh(alice)["problems"] == {}
    assert options(alice.get("/").text) == ["small", "org/big:7b", "fast"]


def test_otherwise_the_provider_is_asked_at_start(serve, source):
    source.state.models = ["zeta", "alpha", {"id": "mid", "owned_by": None, "surprise": [1]}]
    alice = serve(OPENAI_BASE_URL=source.url, CHAT_CONTEXT_TOKENS="777").client("alice")
    assert sizes(alice) == {"alpha": 777, "mid": 777, "zeta": 777}
    assert list(sizes(alice)) == ["alpha", "mid", "zeta"]


def test_the_list_is_read_anew_on_demand_by_programs_and_by_the_page(serve, source):
    alice = serve(OPENAI_BASE_URL=source.url).client("alice")
    assert list(sizes(alice)) == ["fake"]
    source.state.models = ["fake", "new"]
    assert list(sizes(alice)) == ["fake"], "reading is not refreshing"
    assert [model["name"] for model in refresh(alice)["models"]] == ["fake", "new"]
    source.state.models = ["new", "newer"]
    fragment = alice.post("/models", {"model": "newer"}, HX_Request="true").text
    assert options(fragment) == ["new", "newer"]
    assert '<option value="newer" data-context="8192" selected>' in fragment
    assert alice.ask(model="newer")["answer"]


def test_a_provider_that_cannot_be_asked_keeps_its_models(serve, source):
    alice = serve(OPENAI_BASE_URL=source.url).client("alice")
    for trouble in (401, 404, 500, "gone"):
        source.state.models_status = trouble
        if trouble == "gone":
            source.stop()
        told = refresh(alice)
        assert [model["name"] for model in told["models"]] == ["fake"]
        assert list(told["problems"]) == ["openai"]
        assert "scripted" not in told["problems"]["openai"]
        fragment = unescape(alice.post("/models", HX_Request="true").text)
        assert options(fragment) == ["fake"]
        assert told["problems"]["openai"] in fragment


def test_a_server_starts_without_its_provider_and_learns_the_models_when_it_is_there(serve, source):
    source.stop()
    alice = serve(OPENAI_BASE_URL=source.url).client("alice")
    assert sizes(alice) == {}
    refused = alice.post_json("/conversations", {"text": "Hello"})
    assert (refused.status, refused.json()["code"]) == (503, "no_models")
    assert int(refused.headers["retry-after"]) > 0
    assert "No model" in alice.get("/").text
    source.start()
    assert [model["name"] for model in refresh(alice)["models"]] == ["fake"]
    assert alice.post_json("/conversations", {"text": "Hello"}).status == 201


def test_a_provider_that_never_answers_does_not_hold_up_the_start(serve):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        alice = serve(OPENAI_BASE_URL=url, CHAT_CONNECT_SECONDS="1").client("alice")
        assert sizes(alice) == {}
        assert list(refresh(alice)["problems"]) == ["openai"]


# what a provider may say its models are, and the names that can be read from it; None is a problem
ODD = {
    b'{"data": [{"id": "one"}, {"id": "two"}]}': ["one", "two"],
    b'{"data": [{"id": "one"}, {"id": "one"}]}': ["one"],
    b'{"data": [{"id": "ok"}, {"id": null}, {"id": 7}, {"id": ""}, {}, 3, null]}': ["ok"],
    b'{"data": [{"id": "a\\u0000b"}, {"id": "\\ud83d"}, {"id": "%b"}, {"id": "ok"}]}' % (b"x" * 201): ["ok"],
    b'{"data": []}': [],
    b'{"data": null}': None,
    b'{"data": "x"}': None,
    b"{}": None,
    b"[]": None,
    b"null": None,
    b"<h1>In the way</h1>": None,
    b"": None,
    b"\xff\xfe{": None,
    b"[" * 100_000: None,
}


@contextmanager
def saying(said: list[bytes]) -> Iterator[str]:
    """The address of a provider whose list of models is the newest of these bodies."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said[-1])))
            self.end_headers()
            self.wfile.write(said[-1])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_an_odd_list_is_read_as_far_as_it_has_names_and_otherwise_a_problem(serve):
    said = [b'{"data": [{"id": "old"}]}']
    with saying(said) as url:
        server = serve(OPENAI_BASE_URL=url)
        alice = server.client("alice")
        for body, wanted in ODD.items():
            said.append(b'{"data": [{"id": "old"}]}')
            refresh(alice)
            said.append(body)
            told = refresh(alice)
            assert bool(told["problems"]) is (wanted is None), body[:80]
            assert [model["name"] for model in told["models"]] == (["old"] if wanted is None else wanted), body[:80]
        assert alice.get("/").status == 200
        assert "Traceback" not in server.log.read_text()


def names(server: Parley) -> dict[str, bool]:
    """The models on offer, and whether each is a demo."""
    offered = server.client("alice").get("/models").json()["models"]
    return {model["name"]: model["demo"] for model in offered}


def test_without_a_provider_only_the_demo_is_there(serve):
    offered = names(serve(**ALONE))
    assert "demo" in offered
    assert all(offered.values())


def test_with_an_address_or_a_key_the_demo_is_not_there(serve, source):
    assert names(serve(OPENAI_BASE_URL=source.url, OPENAI_API_KEY="")) == {"fake": False}
    assert names(serve(OPENAI_BASE_URL="", CHAT_MODELS="only")) == {"only": False}


def test_the_demo_can_be_offered_beside_a_provider_and_left_out_without_one(serve, source):
    beside = names(serve(OPENAI_BASE_URL=source.url, CHAT_DEMO="yes"))
    assert beside.pop("fake") is False
    assert beside
    assert all(beside.values())
    assert names(serve(**ALONE, CHAT_DEMO="no")) == {}


def test_the_newest_model_is_offered_first_and_what_cannot_chat_is_not_offered(serve, source):
    no_chat = ["text-embedding-3-small", "nomic-embed-text:latest", "whisper-1", "dall-e-3", "tts-1-hd", "babbage-002"]
    ages = {"old-chat": 100, "new-chat": 300, "images-and-more-chat": 200}
    source.state.models = no_chat + [{"id": name, "created": created} for name, created in ages.items()]
    alice = serve(OPENAI_BASE_URL=source.url).client("alice")
    assert list(sizes(alice)) == ["new-chat", "images-and-more-chat", "old-chat"]
    assert alice.post_json("/conversations", {"text": "Hello"}).status == 201
    assert source.wait(len)[0].model == "new-chat"


def test_a_new_conversation_begins_with_the_model_that_was_used_last(serve, source):
    source.state.models = ["first", "second"]
    alice = serve(OPENAI_BASE_URL=source.url).client("alice")
    assert re.search(r'<option value="first"[^>]* selected', alice.get("/").text)
    alice.ask(model="second")
    assert re.search(r'<option value="second"[^>]* selected', alice.get("/").text)
