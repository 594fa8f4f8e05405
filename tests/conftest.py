"""The cast: Alice owns things, Bob is somebody else, staff may see the board, the boss is a superuser, gone was deactivated."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench.fake_provider import FakeProvider
from bench.services import Postgres, Redis
from tests.client import Client
from tests.cluster import Cluster
from tests.parley import Parley
from tests.stores import OwnStores, SharedStores, Stores

pytest_plugins = ("tests.browser",)

Serve = Callable[..., Parley]
ServeCluster = Callable[..., Cluster]

# Tests ask a lot at once; the limits themselves have tests of their own.
ROOMY = {"CHAT_MAX_OPEN_ANSWERS": "1000", "CHAT_MAX_STREAMS": "100000", "CHAT_MAX_USER_STREAMS": "100000"}


def pytest_addoption(parser: pytest.Parser) -> None:
    kinds = {"own": "SQLite and memory, for each server its own", "shared": "PostgreSQL and Redis"}
    says = "; ".join(f"{kind}: {what}" for kind, what in kinds.items())
    parser.addoption("--stores", choices=list(kinds), default="own", help=f"where servers keep what they know ({says})")


LONGEST = ("test_chaos.py", "test_provider_faults.py", "test_proxies.py", "test_redis_outage.py", "test_recovery.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that none of them is left alone at the end.

    For shared stores, leave out what is only about SQLite and memory; pytest says how many were deselected.
    """
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if config.getoption("stores") == "shared":
        left_out = [item for item in items if item.get_closest_marker("own_stores")]
        items[:] = [item for item in items if not item.get_closest_marker("own_stores")]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def provider() -> Iterator[FakeProvider]:
    """The fake provider of the whole session. Give each test's calls a model name of their own to tell them apart."""
    with FakeProvider() as running:
        yield running


def provider_env(provider: FakeProvider) -> dict[str, str]:
    return {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "bench"} | ROOMY


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """The Redis that tests share. Those that stop, freeze or fill one start their own: `with Redis() as redis`."""
    with Redis() as running:
        yield running


@pytest.fixture(scope="session")
def redis_url(redis_server: Redis) -> str:
    """For REDIS_URL, with a REDIS_PREFIX of the test's own beside it."""
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The PostgreSQL that tests share; each takes databases of its own. Those that stop or freeze one start their own."""
    with Postgres() as running:
        yield running


@pytest.fixture(scope="session")
def shared_stores(
    postgres_server: Postgres, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory
) -> SharedStores:
    """PostgreSQL and Redis, with the people in them."""
    return SharedStores(tmp_path_factory.mktemp("prepared"), postgres_server, redis_server)


@pytest.fixture(scope="session")
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """What single servers keep their data in, as `--stores` says."""
    if request.config.getoption("stores") == "shared":
        return request.getfixturevalue("shared_stores")
    return OwnStores(tmp_path_factory.mktemp("prepared"))


@contextmanager
def servers(stores: Stores, provider: FakeProvider, place: Path) -> Iterator[Serve]:
    """Starts servers with settings as keywords; they are closed at the end."""
    with ExitStack() as stack:
        count = 0

        def start(command: list[str] | None = None, **env: str) -> Parley:
            nonlocal count
            count += 1
            data = place / f"data{count}"
            found = stores.fresh(data)
            stack.callback(stores.drop, found)
            server = Parley(data, found | provider_env(provider) | env, stores.people, command)
            stack.callback(server.close)
            return server.start()

        yield start


@pytest.fixture(scope="session")
def parley(stores: Stores, provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parley]:
    """The server that most tests share, with the fake provider behind it. Tests leave it as they found it."""
    with servers(stores, provider, tmp_path_factory.mktemp("shared")) as start:
        yield start()


@pytest.fixture
def serve(stores: Stores, provider: FakeProvider, tmp_path: Path) -> Iterator[Serve]:
    """Start servers of this test's own: serve(CHAT_ABANDON_AFTER="1"), with settings as keywords."""
    with servers(stores, provider, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def serve_all(stores: Stores, provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The same for all tests of a file: for module-scoped fixtures."""
    with servers(stores, provider, tmp_path_factory.mktemp("all")) as start:
        yield start


@contextmanager
def clusters(stores: SharedStores, provider: FakeProvider, place: Path) -> Iterator[ServeCluster]:
    """Starts clusters with settings as keywords; they are closed at the end."""
    with ExitStack() as stack:
        made: list[Cluster] = []

        def start(count: int, own: SharedStores | None = None, **env: str) -> Cluster:
            settings = provider_env(provider) | env
            made.append(Cluster(own or stores, place / f"cluster{len(made)}", count, settings))
            stack.callback(made[-1].close)
            return made[-1].start()

        yield start


@pytest.fixture
def cluster(shared_stores: SharedStores, provider: FakeProvider, tmp_path: Path) -> Iterator[ServeCluster]:
    """Start servers that share PostgreSQL and Redis: cluster(3, CHAT_LEASE_SECONDS="2").

    Tests that stop PostgreSQL or Redis bring stores of their own: cluster(3, own=SharedStores(place, postgres, redis)).
    """
    with clusters(shared_stores, provider, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def cluster_all(
    shared_stores: SharedStores, provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServeCluster]:
    """The same for all tests of a file: for module-scoped fixtures."""
    with clusters(shared_stores, provider, tmp_path_factory.mktemp("clusters")) as start:
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

    def add(name: str, server: Parley | Cluster = parley) -> str:
        if name not in provider.state.models:
            provider.state.models.append(name)
        for one in server.servers if isinstance(server, Cluster) else [server]:
            response = one.client("alice").post("/models", Accept="application/json")
            assert name in [model["name"] for model in response.json()["models"]]
        return name

    return add
