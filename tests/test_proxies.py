"""Through nginx, Caddy and HAProxy, as deploy/ configures them, Parley works as without. `script/proxies` takes longer."""

from collections.abc import Iterator

import pytest

from bench.certificate import make_certificate
from bench.fake_provider import FakeProvider
from bench.proxies import PROXIES, Proxy
from tests.browser import Lent
from tests.conftest import ServeCluster
from tests.proxies.checks import CHECKS, Check
from tests.proxies.faults import an_idle_stream_and_socket_stay_open
from tests.proxies.page import the_page_asks_and_stops_over_http2
from tests.proxies.site import SETTINGS, Site, models_of, sites

# Heartbeats here come so often, in seconds. A test of three seconds shows only that they come through; that they are
# often enough for the proxies' time-outs is shown by script/proxies, which waits for longer than these.
PING_SECONDS = "1"
IDLE_SECONDS = 3


@pytest.fixture(scope="module")
def installed(
    cluster_all: ServeCluster, provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Site]]:
    """Two servers, and every proxy that is installed before them."""
    kinds = [kind for kind in PROXIES if kind.is_installed()]
    provider.state.models += [model for kind in kinds for model in models_of(kind).values()]
    cluster = cluster_all(2, CHAT_PING_SECONDS=PING_SECONDS, **SETTINGS)
    with sites(kinds, cluster, provider, make_certificate(tmp_path_factory.mktemp("tls"))) as made:
        if not made:
            pytest.skip("none of nginx, caddy and haproxy is installed here")
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_through_every_proxy(installed: dict[str, Site], check: Check) -> None:
    problems = check.everywhere(installed)
    assert not problems, "\n".join(f"{name}: {problem}" for name, problem in problems.items())


def test_heartbeats_come_through_every_proxy(installed: dict[str, Site]) -> None:
    def idle(site: Site) -> None:
        an_idle_stream_and_socket_stay_open(site, IDLE_SECONDS)

    assert not Check(idle).everywhere(installed)


def test_the_page_works_over_http2_through_every_proxy(installed: dict[str, Site], chromium: tuple) -> None:
    browser, lent = chromium
    assert isinstance(lent, Lent)
    with lent:
        for site in installed.values():
            the_page_asks_and_stops_over_http2(site, browser)


@pytest.mark.parametrize("kind", PROXIES, ids=lambda kind: kind.name)
def test_the_program_accepts_its_configuration(kind: type[Proxy], installed: dict[str, Site]) -> None:
    if kind.name not in installed:
        pytest.skip(f"{kind.name} is not installed here, so nothing was tried through it")
    assert "emerg" not in installed[kind.name].proxy.check()
