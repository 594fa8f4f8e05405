"""Through nginx, Caddy and HAProxy, as deploy/ configures them, Parley works as without.

`script/proxies` is the long version."""

from collections.abc import Iterator

import pytest

from bench.certificate import make_certificate
from bench.fake_provider import FakeProvider
from bench.proxies import PROXIES
from tests.behind import SETTINGS, Site, models_of, sites
from tests.conftest import ServeCluster
from tests.proxy_checks import CHECKS, Check, an_idle_stream_and_socket_stay_open

# Seconds of a heartbeat here: so short a test shows only that heartbeats come through. That they are often enough for the
# proxies' time-outs is shown by script/proxies, which waits for longer than these.
PING_SECONDS = "1"


@pytest.fixture(scope="module")
def all_sites(
    cluster_all: ServeCluster, provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Site]]:
    """Two servers, and every proxy that is installed before them."""
    installed = [kind for kind in PROXIES if kind.is_installed()]
    provider.state.models += [model for kind in installed for model in models_of(kind).values()]
    cluster = cluster_all(2, CHAT_PING_SECONDS=PING_SECONDS, **SETTINGS)
    with sites(installed, cluster, provider, make_certificate(tmp_path_factory.mktemp("tls"))) as made:
        yield made


@pytest.fixture(params=[kind.name for kind in PROXIES])
def site(request: pytest.FixtureRequest, all_sites: dict[str, Site]) -> Site:
    if request.param not in all_sites:
        pytest.skip(f"{request.param} is not installed here")
    return all_sites[request.param]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_through_a_proxy(site: Site, check: Check) -> None:
    check(site)


def test_heartbeats_come_through_and_keep_an_idle_stream_open(site: Site) -> None:
    an_idle_stream_and_socket_stay_open(site, 4)


def test_each_program_accepts_its_configuration(site: Site) -> None:
    said = site.proxy.check()
    assert "emerg" not in said, said
