"""The load client: opens many streams over real sockets, to Parley or to the provider itself, and times their tokens.

    python -m bench.load --direct http://127.0.0.1:9000/v1 --parley http://127.0.0.1:8000 --token TOKEN --streams 50

Both sides get the same scripts at the same pace. What Parley adds is the difference of the two distributions; what
each token is late is measured against the moment at which the provider's script was due to say it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import urllib.request
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.http_client import Client, Response
from bench.targets import Direct, Stream, Target, ThroughParley, bearer, log_in

RAMP = 2.0  # seconds over which the streams are opened: faster is a different question, how many logins a second


async def load(target: Target, streams: int, ramp: float = RAMP) -> list[Stream]:
    """Open so many streams, evenly over `ramp` seconds, and return when all have ended.

    The connections are made before, as a browser's are.
    """
    clients = [await Client.connect(target.url) for _ in range(streams)]
    run = uuid.uuid4().hex[:8]
    try:
        asked = (one(target, client, i, f"question {run}-{i}?", i * ramp / streams) for i, client in enumerate(clients))
        return [finish(target, seen, response) for seen, response in await asyncio.gather(*asked)]
    finally:
        for client in clients:
            client.close()


async def one(target: Target, client: Client, i: int, prompt: str, delay: float) -> tuple[Stream, Response]:
    """One stream, from its question to its end."""
    await asyncio.sleep(delay)
    seen = Stream(prompt)
    seen.sent_at, response = await target.ask(client, i, prompt)
    return seen, response


def finish(target: Target, seen: Stream, response: Response) -> Stream:
    """Read what came, and find what is wrong with it."""
    try:
        if response.status != 200:
            seen.problem = f"status {response.status} {response.problem}".strip()
            return seen
        target.read(seen, response)
    except (ValueError, KeyError, IndexError) as problem:
        seen.problem = f"unreadable: {type(problem).__name__} {problem}"
    seen.first_at = seen.tokens[0] if seen.tokens else None
    expected = target.script.whole
    if not seen.problem and (seen.ending != "stop" or response.problem):
        seen.problem = f"ended {seen.ending or 'without an ending'} {response.problem}".strip()
    if not seen.problem and seen.text != expected:
        seen.problem = "wrong text"
    return seen


@dataclass(frozen=True)
class Load:
    """The figures of one load; times in milliseconds."""

    ttft: list[float]
    late: list[float]  # of each token
    before: list[float]  # from the question to the provider's socket
    after: list[float]  # from the provider's first token to the reader
    problems: Counter[str]


def measure(target: Target, seen: list[Stream], ledger: list[dict[str, Any]]) -> Load:
    """The figures of these streams, with the provider's own times of the calls they caused."""
    calls = {str(call["body"]["messages"][-1]["content"]): call for call in ledger}
    ttft, late, before, after = list[float](), list[float](), list[float](), list[float]()
    for stream in seen:
        call = calls.get(stream.prompt)
        if stream.problem or stream.first_at is None or call is None:
            continue
        ttft.append(stream.ttft * 1e3)
        before.append((call["opened_at"] - stream.sent_at) * 1e3)
        after.append((stream.first_at - call["first_sent_at"]) * 1e3)
        start, rate = call["opened_at"] + target.script.ttft, target.script.rate
        if rate:
            late += [(at - start - i / rate) * 1e3 for i, at in enumerate(stream.tokens)]
    return Load(ttft, late, before, after, Counter(stream.problem for stream in seen if stream.problem))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; nan of none."""
    return sorted(values)[max(0, -(-len(values) * round(share * 100) // 100) - 1)] if values else float("nan")


def fetch(url: str) -> Any:
    """The JSON at a URL of the fake provider."""
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def reset(provider: str) -> None:
    """Empty the provider's ledger."""
    root = provider.removesuffix("/v1")
    urllib.request.urlopen(urllib.request.Request(f"{root}/ledger/reset", method="POST"), timeout=30).close()


def run(target: Target, provider: str, streams: int, ramp: float = RAMP) -> Load:
    """One load from beginning to end, with the provider's ledger emptied first."""
    reset(provider)
    seen = asyncio.run(load(target, streams, ramp))
    return measure(target, seen, fetch(provider.removesuffix("/v1") + "/ledger"))


def main() -> None:
    """Load both and print what Parley adds."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__.partition("\n")[0])
    parser.add_argument("--direct", required=True, help="base URL of the fake provider, ends in /v1")
    parser.add_argument("--parley", help="address of Parley")
    parser.add_argument("--token", action="append", default=[], help="bearer token; may be given for many users")
    parser.add_argument("--login", action="append", default=[], metavar="NAME:PASSWORD", help="or through the form")
    parser.add_argument("--two-steps", action="store_true", help="POST for links, then GET the events")
    parser.add_argument("--model", default="fake?tokens=200&rate=50&ttft=0.2")
    parser.add_argument("--streams", type=int, default=50)
    options = parser.parse_args()
    targets: dict[str, Target] = {"direct": Direct(options.direct, options.model)}
    if options.parley:
        logins = [bearer(token) for token in options.token]
        logins += [log_in(options.parley, *login.split(":", 1)) for login in options.login]
        if not logins:
            parser.error("--parley needs --token or --login")
        targets["Parley"] = ThroughParley(options.parley, options.model, logins, options.two_steps)
    for name, target in targets.items():
        seen = run(target, options.direct, options.streams)
        for title, values in (("first token", seen.ttft), ("token lateness", seen.late)):
            shown = "  ".join(f"p{round(s * 100)} {percentile(values, s):7.1f} ms" for s in (0.5, 0.95, 0.99))
            print(f"{name:8} {title:15} {shown}")
        for problem, count in seen.problems.items():
            print(f"{name:8} {count} x {problem}")


if __name__ == "__main__":
    main()
