"""A provider that says far too much: answers end at their size, and the server's memory stays bounded."""

from pathlib import Path

import pytest

from bench.script import Script, text
from bench.wire import LAST_CHUNK, chunk
from tests.parley import Frame, Parley, shown, until

CAP = 5000  # characters
ROOM = 16 << 20  # bytes of memory that one flood may cost


@pytest.fixture(scope="module")
def small(serve_all, provider) -> Parley:
    """A server whose answers may have CAP characters."""
    server = serve_all(CHAT_MAX_ANSWER_CHARS=str(CAP))
    alice = server.client("alice")
    alice.read_to_end(alice.ask()["answer"])  # whatever is loaded at first use is loaded now
    return server


def memory(server: Parley, name: str = "VmRSS") -> int:
    """Bytes of memory: now, or with VmHWM at most since `forget_peak`."""
    assert server.process
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024


def forget_peak(server: Parley) -> None:
    assert server.process
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


def ask(server: Parley, offer, model: str) -> tuple[str, list[Frame], str]:
    """The answer's id, its frames, and how it ended."""
    alice = server.client("alice")
    answer = alice.ask(model=offer(model, server))["answer"]
    frames = alice.read_to_end(answer)
    [final] = [frame for frame in frames if frame.name in ("done", "error")]
    return answer, frames, final.data.get("reason") or final.data["code"]


@pytest.mark.parametrize("tokens", [2000, 100_000], ids=["that is a little too long", "that would be endless"])
def test_an_answer_ends_at_its_largest_size_and_the_request_is_closed(small, provider, offer, tokens):
    model = f"fake?tokens={tokens}&seed=41"
    answer, frames, ending = ask(small, offer, model)
    assert ending == "length"
    assert shown(frames) == text(41, 2000)[:CAP] == small.ended(answer)["text"]
    [bill] = small.calls(answer)
    assert (bill["outcome"], bill["estimated"]) == ("done", 1)
    provider.wait(lambda calls: [call.state for call in calls if call.model == model] in (["aborted"], ["finished"]))
    assert "length limit" in small.client("alice").get(f"/answers/{answer}/html").text


def test_thinking_counts_as_well(small, offer):
    answer, _, ending = ask(small, offer, "fake?tokens=5&reasoning=3000&seed=42")
    assert ending == "length"
    row = small.ended(answer)
    assert (len(row["reasoning"]), row["text"]) == (CAP, "")


def test_an_answer_of_exactly_the_largest_size_is_all_there(small, provider, offer):
    provider.script(offer("exact", small), Script(pieces=("x" * (CAP - 1), "🙂")))
    _, frames, ending = ask(small, offer, "exact")
    assert ending == "length"
    assert shown(frames) == "x" * (CAP - 1) + "🙂"


def deltas(job):
    """Fifty megabytes of deltas without text."""
    piece = chunk(b"".join(job.says("") for _ in range(2000)))
    return iter([job.head(), *[piece] * 100, LAST_CHUNK])


FLOODS = {
    "one giant delta": ("fake?fault=giant-delta&seed=43", "protocol", 10),
    "a line without end": ("fake?fault=endless-line&seed=44", "protocol", 10),
    "very many small deltas": ("fake?fault=burst&seed=45", "length", 10),
    "deltas of nothing": ("deltas of nothing", "truncated", 0),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_memory_stays_bounded_in_a_flood(small, provider, offer, flood):
    model, expected, before = FLOODS[flood]
    provider.script("deltas of nothing", deltas)
    forget_peak(small)
    start = memory(small)
    answer, frames, ending = ask(small, offer, model)
    assert memory(small, "VmHWM") - start < ROOM
    assert ending == expected
    assert shown(frames).startswith(text(Script.of(model).seed, before) if before else "")
    until(lambda: small.ended(answer)["text"] == shown(frames), "the text is stored")
    _, frames, ending = ask(small, offer, "fake?tokens=10&seed=46")
    assert (ending, shown(frames)) == ("stop", text(46, 10)), "and the next answer is as good as ever"
