"""The cast: Alice owns things, Bob is somebody else, staff may see the board, the boss is a superuser, gone was deactivated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.fake_provider import FakeProvider
from tests.parley import Client, Parley, copy_of, prepare

pytest_plugins = ("tests.browser",)

Serve = Callable[..., Parley]

# Tests ask a lot at once; the limits themselves have tests of their own.
ROOMY = {"CHAT_MAX_OPEN_ANSWERS": "1000"}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A data directory to copy: making one takes seconds."""
    data = tmp_path_factory.mktemp("prepared")
    return data, prepare(data)


@pytest.fixture(scope="session")
def provider() -> Iterator[FakeProvider]:
    """The fake provider of the whole session. Give each test's calls a model name of their own to tell them apart."""
    with FakeProvider() as running:
        yield running


def provider_env(provider: FakeProvider) -> dict[str, str]:
    return {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "bench"} | ROOMY


@pytest.fixture(scope="session")
def parley(
    prepared: tuple[Path, dict[str, Any]], provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Parley]:
    """The server that most tests share, with the fake provider behind it. Tests leave it as they found it."""
    data, people = prepared
    server = Parley(copy_of(data, tmp_path_factory.mktemp("shared") / "data"), provider_env(provider), people)
    try:
        yield server.start()
    finally:
        server.close()


@contextmanager
def servers(prepared: tuple[Path, dict[str, Any]], provider: FakeProvider, place: Path) -> Iterator[Serve]:
    """Starts servers with settings as keywords; they are closed at the end."""
    running: list[Parley] = []

    def start(command: list[str] | None = None, **env: str) -> Parley:
        data, people = prepared
        server = Parley(copy_of(data, place / f"data{len(running)}"), provider_env(provider) | env, people, command)
        running.append(server)
        return server.start()

    try:
        yield start
    finally:
        for server in running:
            server.close()


@pytest.fixture
def serve(prepared: tuple[Path, dict[str, Any]], provider: FakeProvider, tmp_path: Path) -> Iterator[Serve]:
    """Start servers of this test's own: serve(CHAT_ABANDON_AFTER="1"), with settings as keywords."""
    with servers(prepared, provider, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def serve_all(
    prepared: tuple[Path, dict[str, Any]], provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """The same for all tests of a file: for module-scoped fixtures."""
    with servers(prepared, provider, tmp_path_factory.mktemp("all")) as start:
        yield start


@pytest.fixture
def alice(parley: Parley) -> Client:
    return parley.client("alice")


@pytest.fixture
def bob(parley: Parley) -> Client:
    return parley.client("bob")


@pytest.fixture
def offer(parley: Parley, provider: FakeProvider) -> Callable[..., str]:
    """Make the shared server offer one more model, and return its name: offer("fake?tokens=5&fault=cut")."""

    def add(name: str, server: Parley = parley) -> str:
        if name not in provider.state.models:
            provider.state.models.append(name)
        response = server.client("alice").post("/models", Accept="application/json")
        assert name in [model["name"] for model in response.json()["models"]]
        return name

    return add
