"""Several servers that share PostgreSQL and Redis, as behind a proxy: the same people, conversations and answers on each."""

from pathlib import Path
from typing import Any

from tests.client import Client
from tests.parley import Parley
from tests.stores import SharedStores, share


class Cluster:
    """Servers with one database, one Redis prefix and one secret key. Each has its own port, data directory and life:
    `cluster.servers[0].kill()`, `.freeze()`, `.start()`.
    """

    def __init__(self, stores: SharedStores, place: Path, count: int, env: dict[str, str]) -> None:
        self.stores = stores
        self.shared = stores.fresh(place / "server0")
        for number in range(1, count):
            share(stores.place, place / f"server{number}")
        self.servers = [Parley(place / f"server{number}", self.shared | env, stores.people) for number in range(count)]

    def start(self) -> "Cluster":
        """Start those that are down, all at once; returns when all answer."""
        for server in self.servers:
            if not server.is_up:
                server.launch()
        for server in self.servers:
            server.ready()
        return self

    def close(self) -> None:
        """End all servers and remove their stores."""
        for server in self.servers:
            server.close()
        self.stores.drop(self.shared)

    def client(self, name: str = "", server: int = 0, **options: Any) -> Client:
        """Somebody who is signed in, at one of the servers."""
        return self.servers[server].client(name, **options)

    # What is in the database, and what commands do to it, is the same at every server, whether it is up or not.

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self.servers[0].rows(query, *values)

    def answer(self, answer: str) -> dict[str, Any]:
        return self.servers[0].answer(answer)

    def calls(self, answer: str) -> list[dict[str, Any]]:
        return self.servers[0].calls(answer)

    def ended(self, answer: str) -> dict[str, Any]:
        return self.servers[0].ended(answer)

    def manage(self, *args: str) -> str:
        return self.servers[0].manage(*args)

    def shell(self, code: str) -> str:
        return self.servers[0].shell(code)
