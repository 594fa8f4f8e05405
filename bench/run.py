"""The benchmark: what Parley adds to the first token, and what an open stream and a token cost its server."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import Load, fetch, load, percentile, reset, run
from bench.parley import Cost, Parley, Provider
from bench.report import Busy, Figure, machine, table
from bench.services import Postgres, Redis
from bench.targets import Direct, Stream, Target, ThroughParley, bearer


@dataclass(frozen=True)
class Plan:
    """How much is done. Times in seconds."""

    repeats: int = 5
    few: int = 50  # streams while the first token is timed
    many: int = 200  # streams while costs are measured
    ramp: float = 2.0  # over which the few are opened
    slow_ramp: float = 4.0  # over which the many are
    patience: float = 4.0  # until the last of them is open
    settle: float = 1.0  # then, before costs are read
    window: float = 5.0  # over which processor time is counted
    quick: str = "fake?tokens=150&rate=50&ttft=0.2"  # an answer outlasts the ramp, so all streams overlap
    steady: str = "fake?tokens=800&rate=50&ttft=0.2"  # and outlasts slow ramp, patience, settle and window


SMOKE = Plan(
    repeats=1, few=5, many=10, ramp=0.3, slow_ramp=0.3, patience=1, settle=0.2, window=0.5,
    quick="fake?tokens=25&rate=50&ttft=0.05", steady="fake?tokens=110&rate=50&ttft=0.05",
)  # fmt: skip


Stores = Callable[[], Mapping[str, str]]  # settings of a Parley whose database nobody has used
SHARED = "PostgreSQL and Redis: "
COST = "processor time per token"
# Milliseconds added to the first token: half of the streams, and 95 % of them.
OWN_GOALS: tuple[float | None, float] = (15, 40)
SHARED_GOALS: tuple[float | None, float] = (None, 60)


@dataclass
class Watched:
    """What was read beside a load."""

    seen: list[Stream] = field(default_factory=list)
    opening: list[Cost] = field(default_factory=list)  # until all streams were open
    costs: list[Cost] = field(default_factory=list)  # at the window's start, middle and end
    tokens: list[int] = field(default_factory=list)  # said by the provider so far, at the same moments


class Benchmark:
    """One run over all figures. Every load is repeated in turn, so that a slow minute hits all of them alike."""

    def __init__(self, plan: Plan, stores: Mapping[str, Stores]) -> None:
        self.plan = plan
        self.stores = stores
        self.prefix = ""  # of the figures of one set-up
        self.problems: Counter[str] = Counter()
        self.figures: dict[str, Figure] = {}

    def add(self, value: float, name: str, unit: str, goal: float | None = None, digits: int = 1) -> None:
        """Note one more value of a figure."""
        name = self.prefix + name
        self.figures.setdefault(name, Figure(name, unit, goal, digits)).values.append(value)

    def note(self, where: str, problems: Counter[str]) -> None:
        """Streams that went wrong: a figure without them would flatter."""
        for problem, count in problems.items():
            self.problems[f"{self.prefix}{where}: {problem}"] += count

    def first_tokens(self, provider: Provider, parley: Parley) -> None:
        """Time the first token, direct and through Parley, in one step and in two."""
        logins = [bearer(token) for token in parley.tokens]
        targets: dict[str, Target] = {
            "direct": Direct(provider.url, self.plan.quick),
            "one step": ThroughParley(parley.url, self.plan.quick, logins),
            "two steps": ThroughParley(parley.url, self.plan.quick, logins, two_steps=True),
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
        goals = SHARED_GOALS if self.prefix else OWN_GOALS
        for name, half, most in (("one step", *goals), ("two steps", None, None)):
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

    def streams(self, provider: Provider, stores: Stores) -> None:
        """Open many streams on a fresh server and read what its process holds and uses."""
        with Parley(provider.url, self.plan.many, stores()) as parley:
            target = ThroughParley(parley.url, self.plan.steady, [bearer(token) for token in parley.tokens])
            warm = ThroughParley(parley.url, self.plan.quick, target.logins)
            run(warm, provider.url, min(10, self.plan.few), 0.5)
            reset(provider.url)
            idle = parley.cost()
            watched = asyncio.run(self.watched(target, parley, provider.url))
        problems = Counter(stream.problem for stream in watched.seen if stream.problem)
        self.note(f"{self.plan.many} streams", problems)
        self.cost(idle, watched)

    async def watched(self, target: Target, parley: Parley, url: str) -> Watched:
        """Run the load. Read costs every 100 ms until all streams are open, then over the window."""
        totals, watched = url.removesuffix("/v1") + "/ledger/totals", Watched()
        loading = asyncio.create_task(load(target, self.plan.many, self.plan.slow_ramp))
        latest = asyncio.get_running_loop().time() + self.plan.slow_ramp + self.plan.patience
        while (await asyncio.to_thread(fetch, totals))["open"] < self.plan.many:
            watched.opening.append(parley.cost())
            if asyncio.get_running_loop().time() > latest:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(self.plan.settle)
        for pause in (self.plan.window / 2, self.plan.window / 2, 0.0):
            told = await asyncio.to_thread(fetch, totals)
            if told["open"] != self.plan.many:
                self.problems[f"{told['open']} of {self.plan.many} streams were open when costs were read"] += 1
            watched.tokens.append(told["tokens"])
            watched.costs.append(parley.cost())
            await asyncio.sleep(pause)
        watched.seen = await loading
        return watched

    def cost(self, idle: Cost, watched: Watched) -> None:
        """The figures of one repeat."""
        many, costs, first, last = self.plan.many, watched.costs, watched.costs[0], watched.costs[-1]
        passed, said = last.at - first.at, watched.tokens[-1] - watched.tokens[0]
        moments = {"0 streams": [idle], f"{many} streams": costs, "at most while they open": watched.opening}
        for moment, there in moments.items():
            self.add(max((cost.threads for cost in there), default=0), f"threads, {moment}", "", digits=0)
        for moment, there in moments.items() if not self.prefix else ():
            self.add(max((cost.database for cost in there), default=0), f"database connections, {moment}", "", digits=0)
        for moment, there in list(moments.items())[:2]:
            self.add(max(cost.files for cost in there), f"open files and sockets, {moment}", "", digits=0)
        self.add((last.memory - idle.memory) / many / 1024, f"memory per stream, {many} streams", "kB")
        self.add((last.cpu - first.cpu) / said * 1e6 if said else float("nan"), COST, "µs")
        self.add((last.cpu - first.cpu) / passed * 100, f"processor use, {many} streams at 50 tok/s", "%", digits=0)
        self.add(said / passed, "tokens a second meanwhile", "", digits=0)

    def run(self) -> None:
        """Everything."""
        before = Busy()
        with Provider([self.plan.quick, self.plan.steady]) as provider:
            for prefix, stores in self.stores.items():
                self.prefix = prefix
                with Parley(provider.url, self.plan.few, stores()) as parley:
                    self.first_tokens(provider, parley)
            for _ in range(self.plan.repeats):
                for prefix, stores in self.stores.items():
                    self.prefix = prefix
                    self.streams(provider, stores)
        self.prefix = ""
        own, shared = self.figures.get(COST), self.figures.get(SHARED + COST)
        if own and shared:
            for mine, theirs in zip(own.values, shared.values, strict=True):
                self.add(theirs / mine, f"{COST}, {SHARED.rstrip(': ')} to one process alone", "x", 1.6, digits=2)
        self.add(Busy().others_since(before) * 100, "processor use by other programs meanwhile", "%", digits=0)


def set_ups(which: str, extra: Mapping[str, str], stack: ExitStack) -> dict[str, Stores]:
    """The set-ups to be measured in turn, by the prefix of their figures."""
    found: dict[str, Stores] = {}
    if which != "shared":
        found[""] = lambda: extra
    if which != "own":
        redis, postgres = stack.enter_context(Redis(append_only=True)), stack.enter_context(Postgres(durable=True))
        found[SHARED] = lambda: {
            "DATABASE_URL": postgres.new_database(),
            "REDIS_URL": redis.url,
            "REDIS_PREFIX": f"bench-{secrets.token_hex(4)}",
            **extra,
        }
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and exit with 1 if a stream went wrong; a missed goal is a figure, not a failure."""
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny version that shows only that it works")
    parser.add_argument("--repeats", type=int, default=Plan.repeats)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every value here")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a setting of Parley")
    parser.add_argument(
        "--stores", choices=("own", "shared", "both"), default="both", help="SQLite and memory, or PostgreSQL and Redis"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended too
    plan = SMOKE if options.smoke else Plan(repeats=options.repeats)
    where = machine()
    for name, value in where.items():
        print(f"{name:12} {value}")
    extra = dict(item.split("=", 1) for item in options.env)
    with ExitStack() as stack:
        benchmark = Benchmark(plan, set_ups(options.stores, extra, stack))
        benchmark.run()
    figures = list(benchmark.figures.values())
    for figure in figures if options.smoke else ():
        figure.goal = None  # with so few streams and tokens they mean nothing
    print(f"\n{table(figures, plan.repeats)}\n")
    for problem, count in benchmark.problems.items():
        print(f"{count} x {problem}")
    if options.smoke:
        print("This was the small version: it shows that measuring works, not how fast Parley is.")
    if options.json:
        report = {"machine": where, "figures": [figure.data() for figure in figures], "problems": benchmark.problems}
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    sys.exit(1 if benchmark.problems else 0)
