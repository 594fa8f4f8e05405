"""Parley behind a real proxy, as people reach it: TLS, their own addresses, and the proxy's configuration as it is shipped."""

import http.client
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from websockets.sync.client import ClientConnection, connect

from bench.certificate import Certificate
from bench.fake_provider import FakeProvider
from bench.ledger import Call
from bench.proxies import Proxy
from bench.script import Gate, Script
from tests.client import PASSWORD, PATIENCE, Client, EventStream, until
from tests.cluster import Cluster
from tests.parley import Parley

# What the servers behind are told. The rest is as shipped.
SETTINGS = {"CHAT_HTTPS": "yes", "CHAT_ABANDON_AFTER": "6", "CHAT_GAP_SECONDS": "600"}
ABANDONED_SECONDS = 6.0


@dataclass
class SecureClient(Client):
    """Somebody who speaks TLS with a proxy, and names the page's origin with every POST, as browsers do."""

    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = PATIENCE
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(self.base, timeout=timeout, context=self.context)
        sent = self.headers() | (headers or {})
        if method == "POST":
            sent.setdefault("Origin", f"https://{self.base}")
        if isinstance(body, dict):
            body = urlencode(body)
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):  # refused before all was sent
            connection.request(method, path, body, sent)
        return connection, connection.getresponse()

    @contextmanager
    def socket(self, path: str = "/ws/chat/", origin: str = "", **options: Any) -> Iterator[ClientConnection]:
        cookie = {"Cookie": self.headers().get("Cookie", "")}
        place = f"wss://{self.base}{path}"
        said: Any = origin or f"https://{self.base}"
        with connect(place, origin=said, additional_headers=cookie, ssl=self.context, **options) as connection:
            yield connection


class Site:
    """A proxy before the servers of a cluster, with models of its own that do what a check wants.

    `person` is who reads here; everything of the check's is theirs, so sites can be tried at the same time.
    """

    def __init__(
        self, kind: type[Proxy], cluster: Cluster, provider: FakeProvider, certificate: Certificate, person: str
    ) -> None:
        self.cluster, self.provider, self.person = cluster, provider, person
        self.proxy = kind(addresses(cluster.servers), cluster.servers[0].data / "static", certificate)
        self.context = certificate.context("http/1.1")

    def client(self, name: str | None = None) -> SecureClient:
        """The person of this site, or somebody else, or with an empty name nobody, through the proxy."""
        known = self.cluster.servers[0].people.get(self.person if name is None else name, {})
        return SecureClient(self.proxy.base, known.get("session", ""), context=self.context)

    def direct(self, server: int = 0) -> Client:
        """The person of this site at one of the servers itself, which takes it for the proxy."""
        said = {"X_Forwarded_Proto": "https", "Host": self.proxy.base, "Origin": self.proxy.url}
        return self.cluster.client(self.person, server, **said)

    def sign_up(self, name: str) -> SecureClient:
        """A new account, made through the proxy."""
        return self.enter("/signup/", username=name, password1=PASSWORD, password2=PASSWORD)

    def enter(self, path: str, **form: str) -> SecureClient:
        """Whoever this form signs in."""
        response = self.client("").post(path, form)
        assert response.status == 302, (response.status, response.text)
        session = response.cookies["sessionid"].partition("=")[2].partition(";")[0]
        return SecureClient(self.proxy.base, session, context=self.context)

    def model(self, script: Script, name: str = "model") -> str:
        """The site's model of this name, which answers by this script from now on."""
        model = models_of(type(self.proxy))[name]
        self.provider.script(model, script)
        return model

    def held(self, tokens: int = 8, seed: int = 1, rate: float = 0.0, name: str = "model") -> tuple[str, Gate]:
        """A model that says so many tokens, and as many again when its gate is opened."""
        gate = Gate()
        return self.model(Script(tokens=2 * tokens, seed=seed, at=tokens, gate=gate, rate=rate), name), gate

    def calls(self, model: str) -> list[Call]:
        """What the provider was asked by this name."""
        return [call for call in self.provider.calls if call.model == model]

    def closed(self, model: str) -> str:
        """How the last call of a model ended, once all have."""
        until(lambda: all(call.state != "open" for call in self.calls(model)), f"all calls of {model} have ended")
        return self.calls(model)[-1].state


def models_of(kind: type[Proxy]) -> dict[str, str]:
    """The names of a site's models. The provider must list them before the servers start."""
    return {name: f"{kind.name}-{name}" for name in ("model", "idle", "drained", "page")}


def addresses(servers: Sequence[Parley]) -> list[str]:
    return [server.base for server in servers]


class Times(threading.Thread):
    """Reads a stream to its end, and keeps when the event of each id came."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__(daemon=True)
        self.stream = stream
        self.came: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        for frame in self.stream:
            if frame.id:
                self.came.setdefault(frame.id, time.monotonic())
            if frame.name == "close":
                return

    def result(self) -> dict[str, float]:
        """All of them."""
        self.join(PATIENCE)
        assert not self.is_alive(), "the stream did not end"
        return self.came


@contextmanager
def sites(
    kinds: Sequence[type[Proxy]], cluster: Cluster, provider: FakeProvider, certificate: Certificate
) -> Iterator[dict[str, Site]]:
    """All these proxies before one cluster, each with a person of its own."""
    made: dict[str, Site] = {}
    try:
        for kind, person in zip(kinds, ("alice", "bob", "staff"), strict=False):
            made[kind.name] = Site(kind, cluster, provider, certificate, person)
            made[kind.name].proxy.start()
        yield made
    finally:
        for site in made.values():
            site.proxy.close()
