"""Nobody is left behind as present: however a socket ends, its page is gone from the board."""

import base64
import secrets
import socket

import pytest

from tests.parley import PATIENCE, Client, Parley, hear, until

CLOSE = 0x88  # the first byte of a close frame


def stubborn_socket(client: Client) -> socket.socket:
    """An open WebSocket whose browser never answers a close: it stays in the closing state for a while."""
    host, _, port = client.base.partition(":")
    raw = socket.create_connection((host, int(port)), PATIENCE)
    lines = [
        "GET /ws/chat/ HTTP/1.1",
        f"Host: {client.base}",
        f"Origin: http://{client.base}",
        f"Cookie: {client.headers()['Cookie']}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
    ]
    raw.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert raw.recv(4096).startswith(b"HTTP/1.1 101")
    return raw


@pytest.fixture
def tabs(parley: Parley):
    """How many pages of a user the board shows now."""
    with parley.client("staff").socket("/ws/dashboard/") as board:
        yield lambda name: {row["user"]: row["tabs"] for row in hear(board, "snapshot")["online"]}.get(name, 0)


def test_a_socket_that_is_pushed_to_while_it_closes_leaves_nobody_behind(parley, offer, tabs):
    name = f"ghost-{secrets.token_hex(4)}"
    closing, other = parley.sign_up(name), parley.sign_in(name)
    model = offer("fake?tokens=1")
    with stubborn_socket(closing) as raw:
        until(lambda: tabs(name) == 1)
        assert closing.post("/logout/").status == 302
        until(lambda: CLOSE in raw.recv(4096), "the server begins to close the socket of a session that has ended")
        other.ask("Is anybody there?", model)
        until(lambda: tabs(name) == 0)


def test_an_address_without_a_door_is_refused_without_a_fault_of_the_server(parley):
    with pytest.raises(Exception, match="403"), parley.client("alice").socket("/ws/nowhere/"):
        raise AssertionError("it opened")
    assert "No route found" not in parley.log.read_text().partition("/ws/nowhere/")[2]
