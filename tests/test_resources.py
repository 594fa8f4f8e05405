"""An open stream holds no thread and no database connection: two hundred of them cost the server sockets and little else."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench.script import Gate, Script, text
from tests.parley import EventStream, Frame, Parley, hear, say, shown, until

STREAMS = 200
ANSWERS = 20
# Pools may not have needed all of their threads before; this is far less than one for each stream or answer.
SPARE = 8


@pytest.fixture
def warm(serve) -> Parley:
    """A server that has had a few requests of every kind."""
    parley = serve()
    alice = parley.client("alice")
    with ExitStack() as streams:
        for _ in range(8):
            answer = alice.ask()["answer"]
            streams.enter_context(alice.events(answer)).read_until("close")
        with alice.socket() as page:
            say(page, type="cancel", answer=answer)
            hear(page, "cancelled")
    return parley


@contextmanager
def two_hundred(
    parley: Parley, offer, provider, name: str, say_first: int
) -> Iterator[tuple[dict[EventStream, list[Frame]], Gate]]:
    """Open streams, with what they have read, of answers that say some tokens and wait at the gate."""
    gate = Gate()
    provider.script(name, Script(tokens=10, seed=71, gate=gate, at=say_first))
    offer(name, parley)
    alice = parley.client("alice")
    with ExitStack() as streams:
        streams.callback(gate.open)
        answers = [alice.ask("wait", name)["answer"] for _ in range(ANSWERS)]
        opened = [streams.enter_context(alice.events(answers[i % ANSWERS])) for i in range(STREAMS)]
        yield {stream: stream.read_until("token" if say_first else "started") for stream in opened}, gate


def cost(parley: Parley) -> dict[str, int]:
    """What the server holds now."""
    assert parley.process
    files = len(list(Path(f"/proc/{parley.process.pid}/fd").iterdir()))
    return {"threads": parley.threads(), "connections": parley.connections(), "sockets and files": files}


def assert_settles(parley: Parley, before: dict[str, int], **more: int) -> None:
    """The server holds no more than before, give or take some, and what is said here."""
    limit = {name: held + more.get(name, 0) + SPARE for name, held in before.items()}
    until(lambda: all(held <= limit[name] for name, held in cost(parley).items() if name in limit), f"{before} again")


@pytest.mark.parametrize("say_first", [0, 3])
def test_two_hundred_open_streams_take_no_threads_and_no_connections(warm, offer, provider, say_first):
    before = cost(warm)
    sockets = before.pop("sockets and files")
    with two_hundred(warm, offer, provider, f"held-200-{say_first}", say_first) as (streams, gate):
        assert cost(warm)["sockets and files"] >= sockets + STREAMS, "they are open at once"
        assert_settles(warm, before)
        gate.open()
        assert all(shown(seen + stream.read_until("close")) == text(71, 10) for stream, seen in streams.items())
    assert_settles(warm, before)


def test_readers_that_are_cut_leave_nothing_behind(warm, offer, provider):
    before = cost(warm)
    with two_hundred(warm, offer, provider, "held-cut", 3) as (streams, _):
        for stream in streams:
            stream.close()
        assert_settles(warm, before, **{"sockets and files": ANSWERS})  # the provider is being listened to
        assert warm.client("alice").get("/").status == 200
