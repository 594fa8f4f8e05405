"""The long version of tests/test_proxies.py, as a command: script/proxies."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

from bench.certificate import make_certificate
from bench.fake_provider import FakeProvider
from bench.proxies import PROXIES, Proxy
from bench.services import Postgres, Redis
from tests.cluster import Cluster
from tests.proxies.checks import CHECKS, Check
from tests.proxies.faults import (
    a_frozen_process_holds_up_no_page_for_longer_than_a_minute,
    a_process_frozen,
    an_idle_stream_and_socket_stay_open,
)
from tests.proxies.page import the_page_asks_and_stops_over_http2
from tests.proxies.site import SETTINGS, Site, models_of, sites
from tests.stores import SharedStores

IDLE_SECONDS = 130.0  # twice the proxies' time-outs


def a_stream_and_a_socket_stay_open_for_130_idle_seconds(site: Site) -> None:
    an_idle_stream_and_socket_stay_open(site, IDLE_SECONDS)


LONG_CHECKS = [
    Check(a_stream_and_a_socket_stay_open_for_130_idle_seconds),
    Check(a_frozen_process_holds_up_no_page_for_longer_than_a_minute, during=a_process_frozen),
]


def the_page(made: dict[str, Site]) -> dict[str, str]:
    """The check with a browser, one proxy after the other."""
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=["--disable-gpu", "--disable-quic", *root]
        )
        check = Check(lambda site: the_page_asks_and_stops_over_http2(site, browser))
        return {name: problem for name, site in made.items() if (problem := check.problem(site))}


@contextmanager
def started(kinds: Sequence[type[Proxy]]) -> Iterator[dict[str, Site]]:
    """Everything that Parley behind these proxies needs, with the heartbeats and limits that it is shipped with."""
    with (
        tempfile.TemporaryDirectory(prefix="parley-proxies-") as directory,
        FakeProvider() as provider,
        Postgres() as postgres,
        Redis() as redis,
    ):
        place = Path(directory)
        provider.state.models += [model for kind in kinds for model in models_of(kind).values()]
        stores = SharedStores(place / "prepared", postgres, redis)
        env = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "bench"} | SETTINGS
        cluster = Cluster(stores, place / "cluster", 2, env)
        try:
            with sites(kinds, cluster.start(), provider, make_certificate(place)) as made:
                yield made
        finally:
            cluster.close()


def line(name: str, problems: dict[str, str], names: Sequence[str], seconds: float) -> None:
    """One row of the table."""
    cells = "".join(f"{'FAILED' if kind in problems else 'yes':>9}" for kind in names)
    print(f"{name.replace('_', ' '):<75}{cells}{seconds:>8.1f} s", flush=True)


def main() -> None:
    """Run all checks; exit with 1 if one failed, or if no proxy is there to be tried."""
    parser = argparse.ArgumentParser(prog="script/proxies", description="Tries Parley through real proxies.")
    parser.add_argument("names", nargs="*", metavar="proxy", help="nginx, caddy, haproxy; all of them unless named")
    wanted = parser.parse_args().names or [kind.name for kind in PROXIES]
    if unknown := set(wanted) - {kind.name for kind in PROXIES}:
        parser.error(f"no configuration for {', '.join(sorted(unknown))}")
    kinds = [kind for kind in PROXIES if kind.name in wanted and kind.is_installed()]
    names = [kind.name for kind in kinds]
    for name in wanted:
        if name not in names:
            print(f"{name} is absent: it is not installed here, so nothing was tried through it")
    if not kinds:
        sys.exit("There is no proxy to try.")
    failed: list[str] = []
    with started(kinds) as made:
        for kind in kinds:
            print(f"{kind.name}: {made[kind.name].proxy.version()}")
        print(f"{'':<75}{''.join(f'{name:>9}' for name in names)}")
        jobs = [(check.name, check.everywhere) for check in CHECKS]
        jobs += [("the_page_asks_and_stops_over_http2", the_page)]
        jobs += [(check.name, check.everywhere) for check in LONG_CHECKS]
        for name, run in jobs:
            began = time.monotonic()
            problems = run(made)
            line(name, problems, names, time.monotonic() - began)
            failed += [f"{kind}, {name}:\n{problem}" for kind, problem in problems.items()]
    if failed:
        sys.exit("\n" + "\n".join(failed))
