"""A TCP proxy before a server, for pages whose connection breaks: it cuts sockets and answers 503 as long as it is told to."""

import socket
import threading
from contextlib import suppress
from types import TracebackType

from tests.parley import Parley

AWAY = b"<h1>Deploying</h1>"
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
)


class Proxy:
    """`with Proxy(server) as proxy`, then proxy.base. It has the people of its server, so `page_of` takes it for one."""

    def __init__(self, server: Parley) -> None:
        self.people = server.people
        self.away = False
        self.refused = 0  # requests that got the 503
        self._target = ("127.0.0.1", server.port)
        self._open: set[socket.socket] = set()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.base = f"127.0.0.1:{self._door.getsockname()[1]}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self.cut()

    def cut(self, *, away: bool = False) -> None:
        """End every connection now, in mid-byte if need be; with `away`, answer new ones with 503 until `back`."""
        self.away = away
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def back(self) -> None:
        """Let connections through again."""
        self.away = False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self.away:
                client.recv(65_536)
                self.refused += 1
                client.sendall(REFUSAL % (len(AWAY), AWAY))
                return
            with socket.create_connection(self._target) as server:
                self._open |= {client, server}
                back = threading.Thread(target=self._pump, args=[server, client], daemon=True)
                back.start()
                self._pump(client, server)
                back.join()
                self._open -= {client, server}

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
