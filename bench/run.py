"""The benchmark: what Parley adds to the first token, and what an open stream and a token cost its server."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.load import Load, fetch, load, percentile, reset, run
from bench.parley import Cost, Parley, Provider
from bench.report import Figure, machine, table
from bench.targets import Direct, Stream, Target, bearer
from bench.targets import Parley as ParleyTarget


@dataclass(frozen=True)
class Plan:
    """How much is done. Times in seconds."""

    repeats: int = 5
    few: int = 50  # streams while the first token is timed
    many: int = 200  # streams while costs are measured
    ramp: float = 2.0
    settle: float = 1.5  # after the ramp, before costs are read
    window: float = 5.0  # over which processor time is counted
    quick: str = "fake?tokens=150&rate=50&ttft=0.2"  # an answer outlasts the ramp, so all streams overlap
    steady: str = "fake?tokens=500&rate=50&ttft=0.2"  # and outlasts ramp, settle and window


SMOKE = Plan(1, 5, 10, 0.3, 0.3, 0.5, "fake?tokens=25&rate=50&ttft=0.05", "fake?tokens=75&rate=50&ttft=0.05")


class Benchmark:
    """One run over all figures. Every load is repeated in turn, so that a slow minute hits all of them alike."""

    def __init__(self, plan: Plan, extra: Mapping[str, str]) -> None:
        self.plan = plan
        self.extra = extra
        self.problems: Counter[str] = Counter()
        self.figures: dict[str, Figure] = {}

    def add(self, value: float, name: str, unit: str, goal: float | None = None, digits: int = 1) -> None:
        """Note one more value of a figure."""
        self.figures.setdefault(name, Figure(name, unit, goal, digits)).values.append(value)

    def note(self, where: str, problems: Counter[str]) -> None:
        """Streams that went wrong: a figure without them would flatter."""
        for problem, count in problems.items():
            self.problems[f"{where}: {problem}"] += count

    def first_tokens(self, provider: Provider, parley: Parley) -> None:
        """Time the first token, direct and through Parley, in one step and in two."""
        logins = [bearer(token) for token in parley.tokens]
        targets: dict[str, Target] = {
            "direct": Direct(provider.url, self.plan.quick),
            "one step": ParleyTarget(parley.url, self.plan.quick, logins),
            "two steps": ParleyTarget(parley.url, self.plan.quick, logins, two_steps=True),
        }
        for target in list(targets.values())[1:]:
            run(target, provider.url, min(10, self.plan.few), 0.5)  # imports, caches and connections, once
        for repeat in range(self.plan.repeats):
            order = list(targets) if repeat % 2 else list(reversed(targets))
            seen = {name: run(targets[name], provider.url, self.plan.few, self.plan.ramp) for name in order}
            self.compare(seen)

    def compare(self, seen: dict[str, Load]) -> None:
        """The figures of one repeat."""
        direct, few = seen["direct"], self.plan.few
        for name, result in seen.items():
            self.note(name, result.problems)
        for name, half, most in (("one step", 15, 40), ("two steps", None, None)):
            for share, goal in ((0.5, half), (0.95, most)):
                added = percentile(seen[name].ttft, share) - percentile(direct.ttft, share)
                self.add(added, f"added to first token, {few} streams, {name}, p{share * 100:.0f}", "ms", goal)
        one = seen["one step"]
        self.add(percentile(one.before, 0.95), "  of it before the provider is asked, p95", "ms")
        self.add(percentile(one.after, 0.95), "  of it after the provider's first token, p95", "ms")
        for name in ("direct", "one step"):
            for share in (0.5, 0.95):
                late = percentile(seen[name].late, share)
                self.add(late, f"token lateness, {few} streams, {name}, p{share * 100:.0f}", "ms")

    def streams(self, provider: Provider) -> None:
        """Open many streams on a fresh server and read what its process holds and uses."""
        with Parley(provider.url, self.plan.many, self.extra) as parley:
            target = ParleyTarget(parley.url, self.plan.steady, [bearer(token) for token in parley.tokens])
            warm = ParleyTarget(parley.url, self.plan.quick, target.logins)
            run(warm, provider.url, min(10, self.plan.few), 0.5)
            reset(provider.url)
            idle = parley.cost()
            seen, costs, tokens = asyncio.run(self.watched(target, parley, provider.url))
        self.note(f"{self.plan.many} streams", Counter(stream.problem for stream in seen if stream.problem))
        self.cost(idle, costs, tokens)

    async def watched(self, target: Target, parley: Parley, url: str) -> tuple[list[Stream], list[Cost], list[int]]:
        """Run the load; read costs at the window's start, middle and end, and the provider's tokens with them."""
        totals, costs, tokens = url.removesuffix("/v1") + "/ledger/totals", list[Cost](), list[int]()
        loading = asyncio.create_task(load(target, self.plan.many, self.plan.ramp))
        await asyncio.sleep(self.plan.ramp + self.plan.settle)
        for pause in (self.plan.window / 2, self.plan.window / 2, 0.0):
            told = await asyncio.to_thread(fetch, totals)
            if told["open"] != self.plan.many:
                self.problems[f"{told['open']} of {self.plan.many} streams were open when costs were read"] += 1
            tokens.append(told["tokens"])
            costs.append(parley.cost())
            await asyncio.sleep(pause)
        return await loading, costs, tokens

    def cost(self, idle: Cost, costs: list[Cost], tokens: list[int]) -> None:
        """The figures of one repeat."""
        many, first, last = self.plan.many, costs[0], costs[-1]
        passed, said = last.at - first.at, tokens[-1] - tokens[0]
        self.add(idle.threads, "threads, 0 streams", "", digits=0)
        self.add(max(cost.threads for cost in costs), f"threads, {many} streams", "", digits=0)
        if "DATABASE_URL" not in self.extra:
            added = max(cost.database for cost in costs)
            self.add(idle.database, "database connections, 0 streams", "", digits=0)
            self.add(added, f"database connections, {many} streams", "", digits=0)
        self.add(idle.files, "open files and sockets, 0 streams", "", digits=0)
        self.add(max(cost.files for cost in costs), f"open files and sockets, {many} streams", "", digits=0)
        self.add((last.memory - idle.memory) / many / 1024, "memory per open stream", "kB")
        self.add((last.cpu - first.cpu) / said * 1e6 if said else float("nan"), "processor time per token", "µs")
        self.add((last.cpu - first.cpu) / passed * 100, f"processor use, {many} streams at 50 tok/s", "%", digits=0)
        self.add(said / passed, "tokens a second meanwhile", "", digits=0)

    def run(self) -> None:
        """Everything."""
        with Provider([self.plan.quick, self.plan.steady]) as provider:
            with Parley(provider.url, self.plan.few, self.extra) as parley:
                self.first_tokens(provider, parley)
            for _ in range(self.plan.repeats):
                self.streams(provider)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and exit with 1 if a stream went wrong; a missed goal is a figure, not a failure."""
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny version that shows only that it works")
    parser.add_argument("--repeats", type=int, default=Plan.repeats)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every value here")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a setting of Parley")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended too
    plan = SMOKE if options.smoke else Plan(repeats=options.repeats)
    where = machine()
    for name, value in where.items():
        print(f"{name:12} {value}")
    benchmark = Benchmark(plan, dict(item.split("=", 1) for item in options.env))
    benchmark.run()
    figures = list(benchmark.figures.values())
    print(f"\n{table(figures, plan.repeats)}\n")
    for problem, count in benchmark.problems.items():
        print(f"{count} x {problem}")
    if options.smoke:
        print("This was the small version: it shows that measuring works, not how fast Parley is.")
    if options.json:
        report = {"machine": where, "figures": [figure.data() for figure in figures], "problems": benchmark.problems}
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    sys.exit(1 if benchmark.problems else 0)
