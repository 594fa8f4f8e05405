"""Our web server, through its front door: a real process, real sockets, small applications (toy_apps.py)."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

TOYS = Path(__file__).with_name("toy_apps.py")
PATIENCE = 15  # seconds until a test gives up waiting; nothing here takes as long on a working server
MEGABYTE = 1024 * 1024


class Toy:
    """One server process with the toy applications."""

    def __init__(self, directory: Path, service: str, *arguments: str, **options: Any) -> None:
        settings = options.pop("settings", {})
        environment = os.environ | {
            "TOY_DIRECTORY": str(directory),
            "TOY_SETTINGS": json.dumps(settings),
            "TOY_OPTIONS": json.dumps(options),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(TOYS), service, "--port", "0", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def wait_until_listening(self) -> "Toy":
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if found := re.fullmatch(r"Parley is listening on http://127\.0\.0\.1:(\d+)/", self.lines[-1]):
                self.port = int(found[1])
                return self
        pytest.fail(f"The server did not start: {self.process.communicate()}")

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        client = socket.socket()
        client.settimeout(PATIENCE)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(("127.0.0.1", self.port))
        return client

    def ask(self, path: str, body: Any = None, **options: Any) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("POST" if body else "GET", path, body, **options)
            response = connection.getresponse()
            return response.status, response.read()

    def facts(self) -> dict[str, Any]:
        return dict(json.loads(self.ask("/facts")[1]))

    def signal_and_wait(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.exit()

    def exit(self) -> tuple[int, str]:
        """Waits for the end. Returns the exit code and what was printed since the server listens."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output + errors


StartToy = Callable[..., Toy]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartToy]:
    toys: list[Toy] = []

    def start_one(service: str = "steady", *arguments: str, **options: Any) -> Toy:
        toys.append(Toy(tmp_path, service, *arguments, **options))
        return toys[-1]

    yield start_one
    for toy in toys:
        if toy.process.poll() is None:
            toy.process.kill()
        toy.process.communicate()


@pytest.fixture
def server(start: StartToy) -> Toy:
    return start().wait_until_listening()


def wait_for(condition: Callable[[], Any]) -> Any:
    """Returns the first true value of the condition."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    pytest.fail("The condition did not become true.")


def get(client: socket.socket, path: str, *headers: str) -> None:
    lines = [f"GET {path} HTTP/1.1", "Host: toy", *headers, "", ""]
    client.sendall("\r\n".join(lines).encode())


def upgrade(client: socket.socket, path: str, *headers: str) -> None:
    """Opens a WebSocket and reads no further than the handshake."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    get(client, path, "Upgrade: websocket", "Connection: Upgrade", key, "Sec-WebSocket-Version: 13", *headers)
    assert b" 101 " in read_until(client, b"\r\n\r\n", one_by_one=True)


def read_until(client: socket.socket, mark: bytes, one_by_one: bool = False) -> bytes:
    data = b""
    while mark not in data:
        piece = client.recv(1 if one_by_one else 65536)
        assert piece, f"The connection ended after {data!r}"
        data += piece
    return data


def read_frame(client: socket.socket) -> tuple[int, bytes]:
    """Returns opcode and payload of the next WebSocket frame, of less than 126 bytes."""
    first, length = read_exactly(client, 2)
    return first & 0x0F, read_exactly(client, length)


def read_exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        assert piece, "The connection ended."
        data += piece
    return data


def send_frame(client: socket.socket, opcode: int, payload: bytes) -> None:
    """Sends a masked frame; the mask is zero, so the payload stays readable."""
    client.sendall(struct.pack("!BB4x", 0x80 | opcode, 0x80 | len(payload)) + payload)


def read_to_the_end(client: socket.socket) -> bytes:
    data = bytearray()
    while piece := client.recv(MEGABYTE):
        data += piece
    return bytes(data)


def wait_until_blocked(toy: Toy) -> dict[str, Any]:
    """Waits until the flooding application is held back, which is when it has not sent for a while."""
    seen: list[int] = []

    def standing_still() -> dict[str, Any] | None:
        facts = toy.facts()
        seen.append(facts["sent"])
        return facts if facts["sent"] and seen[-5:] == [facts["sent"]] * 5 else None

    return dict(wait_for(standing_still))


# Back-pressure


def test_a_reader_that_stops_reading_costs_no_memory_and_gets_everything_later(server: Toy) -> None:
    before = server.facts()["peak_kilobytes"]
    with server.connect(receive_buffer=65536) as reader:
        get(reader, "/flood", "Connection: close")
        blocked = wait_until_blocked(server)
        assert 0 < blocked["sent"] < 32 * MEGABYTE
        head, _, body = read_to_the_end(reader).partition(b"\r\n\r\n")
    assert body.count(b"x") == 64 * MEGABYTE
    assert body.endswith(b"1\r\n!\r\n0\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert server.facts()["peak_kilobytes"] - before < 4096


def test_a_stalled_reader_is_cut_and_its_neighbour_goes_on(start: StartToy) -> None:
    toy = start(stall_seconds=0.5).wait_until_listening()
    with toy.connect(receive_buffer=4096) as stalled, toy.connect() as neighbour:
        get(neighbour, "/ticks")
        get(stalled, "/watched-flood")
        wait_for(lambda: toy.facts()["state"] == "reader gone")
        after = toy.facts()["sent"]
        with pytest.raises(ConnectionResetError):
            read_to_the_end(stalled)
        toy.process.send_signal(signal.SIGTERM)
        numbers = [int(number) for number in re.findall(rb"\n(\d+)\n", read_to_the_end(neighbour))]
    assert after < 64 * MEGABYTE
    assert len(numbers) > 30  # 10 ms apart, over half a second at least
    assert numbers == list(range(len(numbers)))


def test_a_stalled_reader_of_one_big_message_is_cut_too(start: StartToy) -> None:
    toy = start(stall_seconds=0.3).wait_until_listening()
    with toy.connect(receive_buffer=4096) as stalled:
        get(stalled, "/one-piece")
        wait_for(lambda: toy.facts()["state"] == "one piece sent")
        with pytest.raises(ConnectionResetError):
            read_to_the_end(stalled)


def test_a_slow_reader_that_reads_on_is_not_cut(start: StartToy) -> None:
    toy = start(stall_seconds=0.5).wait_until_listening()
    with toy.connect(receive_buffer=65536) as reader:
        get(reader, "/one-piece", "Connection: close")
        received = 0
        while piece := reader.recv(256 * 1024):
            received += len(piece)
            time.sleep(0.02)  # the slowness under test, not a wait
    assert received > 8 * MEGABYTE


def test_a_stalled_websocket_holds_64_kilobytes_and_is_closed(start: StartToy) -> None:
    toy = start(stall_seconds=0.5).wait_until_listening()
    with toy.connect(receive_buffer=4096) as stalled:
        upgrade(stalled, "/socket-flood")
        most = 0

        def gone() -> bool:
            nonlocal most
            facts = toy.facts()
            most = max(most, facts["unsent"])
            return bool(facts["state"] == "socket gone")

        wait_for(gone)
        assert 0 < most <= 64 * 1024 + 8 * 1024 + 8  # and the one message that did not fit any more
        assert toy.facts()["sent"] < 64 * MEGABYTE
        with pytest.raises(ConnectionResetError):
            read_to_the_end(stalled)


def test_the_neighbours_of_a_stalled_websocket_go_on(start: StartToy) -> None:
    toy = start(stall_seconds=0.5, ping_interval=0.1, ping_timeout=10).wait_until_listening()
    with toy.connect(receive_buffer=4096) as stalled, toy.connect() as neighbour, toy.connect() as stream:
        get(stream, "/ticks")
        upgrade(neighbour, "/socket-root")
        assert read_frame(neighbour)[0] == 1
        upgrade(stalled, "/socket-flood")
        wait_for(lambda: toy.facts()["state"] == "socket gone")
        for _ in range(3):
            opcode, payload = read_frame(neighbour)
            assert opcode == 9
            send_frame(neighbour, 10, payload)
        toy.process.send_signal(signal.SIGTERM)
        numbers = [int(number) for number in re.findall(rb"\n(\d+)\n", read_to_the_end(stream))]
    assert len(numbers) > 30  # 10 ms apart, over half a second at least
    assert numbers == list(range(len(numbers)))


def test_a_websocket_whose_reader_keeps_up_gets_every_message(server: Toy) -> None:
    with server.connect() as reader:
        upgrade(reader, "/socket-flood")
        message = struct.pack("!BBH", 0x81, 126, 8192) + b"x" * 8192
        for _ in range(64 * MEGABYTE // 8192):
            assert read_exactly(reader, len(message)) == message


# Liveness


def test_a_websocket_is_pinged_again_after_each_answer(start: StartToy) -> None:
    toy = start(ping_interval=0.2, ping_timeout=5).wait_until_listening()
    with toy.connect() as client:
        upgrade(client, "/socket-root")
        assert read_frame(client)[0] == 1
        for _ in range(3):
            opcode, payload = read_frame(client)
            assert opcode == 9
            send_frame(client, 10, payload)


def test_a_websocket_that_leaves_a_ping_unanswered_is_closed(start: StartToy) -> None:
    toy = start(ping_interval=0.2, ping_timeout=0.4).wait_until_listening()
    with toy.connect() as client:
        upgrade(client, "/socket-root")
        assert read_frame(client)[0] == 1
        assert read_frame(client)[0] == 9
        with pytest.raises(ConnectionResetError):
            read_to_the_end(client)


def test_pings_come_every_5_seconds_and_readers_have_10_and_60_seconds_unless_told_otherwise() -> None:
    code = (
        "from chatproject.server import Server; s = Server(None, endpoints=['tcp:port=0'], http_timeout=9);"
        "print(s.ping_seconds, s.ping_timeout, s.stall_seconds, s.http_timeout)"
    )
    root = TOYS.parents[1]
    assert subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True) == "5 10 60 None\n"


# What a client may not decide, and what an application must not leave behind


def test_the_daphne_root_path_header_is_ignored(server: Toy) -> None:
    assert server.ask("/root", headers={"Daphne-Root-Path": "/evil"}) == (200, b"('', '/root')")
    with server.connect() as client:
        upgrade(client, "/socket-root", "Daphne-Root-Path: /evil")
        assert read_frame(client) == (1, b"('', '/socket-root')")


def test_an_answer_that_breaks_off_ends_its_connection_and_the_server_still_cleans_up(server: Toy) -> None:
    for path in ("/breaks-off", "/failing-stream"):
        with server.connect() as reader:
            get(reader, path)
            answer = read_to_the_end(reader)
        assert b"half of" in answer
        assert not answer.endswith(b"0\r\n\r\n")
    wait_for(lambda: server.facts()["connections"] == 1)  # that of the question


# Start and end


def test_it_listens_after_the_service_has_started(start: StartToy) -> None:
    toy = start("slow").wait_until_listening()
    assert toy.lines[0] == "service starting"
    assert toy.lines[1].startswith("service started at")
    assert len(toy.lines) == 3


def test_a_service_that_cannot_start_ends_the_process(start: StartToy) -> None:
    status, output = start("broken").exit()
    assert status == 1
    assert output.endswith("Parley could not start: another process has the log\n")
    assert "listening" not in output


def test_a_port_in_use_is_told_in_one_sentence(start: StartToy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, output = start("steady", "--port", str(port)).exit()
    assert status == 1
    assert output.splitlines() == [
        "service started",
        "service drained",
        f"Parley could not start: Couldn't listen on 127.0.0.1:{port}: [Errno 98] Address already in use.",
    ]


@pytest.mark.parametrize(
    ("port", "expected"), [("http", (2, "invalid int value: 'http'")), ("70000", (1, "port must be 0-65535"))]
)
def test_a_port_that_is_none_is_refused(start: StartToy, port: str, expected: tuple[int, str]) -> None:
    status, output = start("steady", "--port", port).exit()
    assert status == expected[0]
    assert expected[1] in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_streams_get_their_last_bytes_before_the_process_ends(start: StartToy, number: int) -> None:
    toy = start("polite").wait_until_listening()
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(toy.connect()) for _ in range(20)]
        for reader in readers:
            get(reader, "/ticks")
            read_until(reader, b"\n2\n")
        status, output = toy.signal_and_wait(number)
        for reader in readers:
            assert read_to_the_end(reader).endswith(b"goodbye\n\r\n0\r\n\r\n")
    assert (status, output) == (0, "service drained\n")


def test_the_application_answers_new_connections_during_the_drain(start: StartToy) -> None:
    toy = start("patient").wait_until_listening()
    toy.process.send_signal(signal.SIGTERM)
    wait_for(lambda: toy.facts()["state"] == "draining")
    assert toy.ask("/release") == (503, b"draining")
    assert toy.exit() == (0, "service drained\n")


def test_what_is_still_open_after_the_drain_is_closed(start: StartToy) -> None:
    toy = start().wait_until_listening()
    with toy.connect() as reader, toy.connect() as browser, toy.connect() as half_asked:
        get(reader, "/for-ever")
        read_until(reader, b"hello\n")
        upgrade(browser, "/socket-root")
        assert read_frame(browser)[0] == 1
        half_asked.sendall(b"GET /async HTTP/1.1\r\n")
        status, output = toy.signal_and_wait()
        assert read_to_the_end(reader) in (b"", b"\r\n")  # no last chunk: it does not look complete
        assert read_frame(browser) == (8, struct.pack("!H", 1012))
        assert read_to_the_end(half_asked) == b""
    assert (status, output) == (0, "service drained\n")


def test_a_second_signal_does_not_wait_for_the_drain(start: StartToy) -> None:
    toy = start("patient").wait_until_listening()
    toy.process.send_signal(signal.SIGTERM)
    wait_for(lambda: toy.facts()["state"] == "draining")
    assert toy.signal_and_wait() == (-signal.SIGTERM, "")


def test_a_drain_that_fails_does_not_keep_the_process(start: StartToy) -> None:
    status, output = start("broken-drain").wait_until_listening().signal_and_wait()
    assert status == 0
    assert "no way to say goodbye" in output


def test_a_thread_that_is_stuck_does_not_keep_the_process(server: Toy) -> None:
    assert server.ask("/stuck") == (200, b"stuck")
    assert server.signal_and_wait() == (0, "service drained\n")


# The handler


def test_fifty_open_streams_hold_no_thread_and_no_database_connection(server: Toy) -> None:
    assert server.ask("/query") == (200, b'{"answer": 1}')
    before = server.facts()
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            reader = stack.enter_context(server.connect())
            get(reader, "/stream")
            read_until(reader, b"beat\n")
        during = server.facts()
        assert during["streams"] == 50
        assert during["databases"] == 0
        assert during["threads"] <= before["threads"] + 3  # the handler's own few, for all requests together
    after = wait_for(lambda: (facts := server.facts())["closed"] == 50 and facts)
    assert after["streams"] == 0


def test_a_client_that_leaves_before_its_answer_leaves_no_connection_behind(server: Toy) -> None:
    with server.connect() as reader:
        get(reader, "/hesitant")
        wait_for(lambda: server.facts()["state"] == "hesitating")
        assert server.facts()["databases"] == 1
    server.ask("/release")
    wait_for(lambda: server.facts()["databases"] == 0)


def test_a_stream_that_ends_by_itself_is_closed_and_complete(server: Toy) -> None:
    with server.connect() as reader:
        get(reader, "/stream")
        read_until(reader, b"beat\n")
        server.ask("/release")
        assert read_until(reader, b"0\r\n\r\n")
    wait_for(lambda: server.facts()["closed"] == 1)


def test_sixteen_threads_make_all_responses_and_stay_warm(server: Toy) -> None:
    def threads_started_by(path: str, clients: int) -> int:
        before = server.facts()["threads_started"]
        with ThreadPoolExecutor(clients) as pool:
            assert [status for status, _ in pool.map(server.ask, [path] * clients)] == [200] * clients
        return int(server.facts()["threads_started"] - before)

    threads_started_by("/async", 8)  # the first requests start the few threads that stay
    assert threads_started_by("/async", 40) <= 4, "asynchronous code needs none"
    assert 1 <= threads_started_by("/query", 60) <= 16 + 4
    assert threads_started_by("/query", 60) <= 16


def test_a_file_is_sent_in_pieces_and_without_a_warning(server: Toy) -> None:
    assert server.ask("/file") == (200, b"piece one, piece two")


LIMIT = 100_000


@pytest.fixture
def limited(start: StartToy) -> Toy:
    return start(settings={"CHAT_MAX_BODY_BYTES": LIMIT}).wait_until_listening()


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 10_000):
        yield b"x" * 10_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/length", b"x" * (LIMIT + 1), id="with Content-Length"),
        pytest.param("/length", chunks(LIMIT + 10_000), id="in chunks, without Content-Length"),
        pytest.param("/length", b"x" * 5 * MEGABYTE, id="far too large"),
        pytest.param("/liar", b"x" * (LIMIT + 1), id="with a Content-Length that lies"),
    ],
)
def test_a_body_over_the_limit_is_refused_in_words(limited: Toy, path: str, body: Any) -> None:
    status, answer = limited.ask(path, body)
    assert status == 413
    refusal = json.loads(answer)
    assert refusal["code"] == "too_large"
    assert "at most 97.7\N{NO-BREAK SPACE}KB" in refusal["message"]
    assert limited.ask("/length", b"x" * LIMIT) == (200, str(LIMIT).encode())


def test_a_mebibyte_may_be_sent_unless_the_settings_say_otherwise(server: Toy) -> None:
    assert server.ask("/length", b"x" * MEGABYTE) == (200, b"1048576")
    assert server.ask("/length", b"x" * (MEGABYTE + 1))[0] == 413


def test_a_body_without_end_is_answered_after_16_megabytes(server: Toy) -> None:
    assert server.ask("/endless") == (200, b"413 after 17 MB")


def test_a_body_of_hundreds_of_megabytes_is_refused_without_being_kept(server: Toy) -> None:
    before = server.facts()["peak_kilobytes"]
    status, answer = server.ask("/length", chunks(200 * MEGABYTE))
    assert (status, json.loads(answer)["code"]) == (413, "too_large")
    assert server.facts()["peak_kilobytes"] - before < 80 * 1024, "16 MB, and some copies of them"


def test_many_requests_at_once_are_all_answered(server: Toy) -> None:
    answers: list[tuple[int, bytes]] = []
    threads = [threading.Thread(target=lambda: answers.append(server.ask("/query"))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(200, b'{"answer": 1}')] * 40
    assert server.facts()["databases"] == 0
