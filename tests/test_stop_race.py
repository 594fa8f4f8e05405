"""A stop that races the end of its answer: one ending, the same for everybody, and the provider hung up on at once."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

from bench.script import text
from tests.parley import Client, shown

RACES = 500
POOL = 6
TOKENS, SEED = 30, 34
SHORT = f"fake?tokens={TOKENS}&rate=100&seed={SEED}"  # ends about 300 ms after it began
SOON_SECONDS = 0.5  # p99 until the provider is hung up on


class Race:
    """A short answer, and a stop at a random moment around its end: some ms after its reader has seen so many tokens."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.question = f"race {number}"
        self.random = random.Random(number)

    def run(self) -> "Race":
        self.answer = self.client.ask(self.question, SHORT)["answer"]
        with self.client.events(self.answer) as stream:
            seen = stream.read_tokens(self.random.randint(TOKENS // 2, TOKENS))
            time.sleep(self.random.uniform(0.0, 0.03))  # the moment under test, not a wait
            self.stopped_at = time.monotonic()
            self.receipt = self.client.stop(self.answer)
            self.frames = seen + stream.read_until("close")
        self.late_frames = self.client.read_to_end(self.answer)
        self.second_receipt = self.client.stop(self.answer)
        return self


def test_five_hundred_stops_around_the_end_leave_one_ending_each_and_hang_up_at_once(serve, offer, provider):
    parley = serve()
    offer(SHORT, parley)
    with ThreadPoolExecutor(POOL) as pool:
        races = list(pool.map(lambda number: Race(parley.client("alice"), number).run(), range(RACES)))
    calls = {call.body["messages"][-1]["content"]: call for call in provider.calls if call.model == SHORT}
    hung_up = []
    for race in races:
        row, [ledger] = parley.answer(race.answer), parley.calls(race.answer)
        [final] = [frame for frame in race.frames if frame.name in ("done", "error")]
        assert (row["status"], final.data["reason"], final.data["by"]) in [
            ("done", "stop", None),
            ("stopped", "stopped", "user"),
        ], race.question
        assert (ledger["outcome"], row["reason"]) == (row["status"], final.data["reason"])
        assert ledger["closed_at"]
        assert [f for f in race.late_frames if f.id] == [f for f in race.frames if f.id]
        assert row["text"] == shown(race.frames)
        assert text(SEED, TOKENS).startswith(row["text"])
        assert row["status"] == "stopped" or row["text"] == text(SEED, TOKENS)
        assert race.receipt == race.second_receipt
        assert race.receipt["ms"] == row["ms"] == final.data["ms"]
        assert race.receipt["completion_tokens"] == row["completion_tokens"] == ledger["completion_tokens"]
        call = calls[race.question]
        assert call.state != "open"
        if call.state == "aborted":
            hung_up.append(call.ended_at - race.stopped_at)
    stopped = sum(race.frames[-2].data["reason"] == "stopped" for race in races)
    assert RACES / 10 < stopped < RACES * 9 / 10, f"{stopped} of {RACES} stops came in time: no race around the end"
    assert len(hung_up) > RACES / 10
    assert sorted(hung_up)[int(len(hung_up) * 0.99)] < SOON_SECONDS
