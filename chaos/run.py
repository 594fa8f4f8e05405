"""The command behind script/chaos: plays scenarios, keeps the journal, prints the table."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from chaos.cluster import Cluster, Lab
from chaos.journal import Journal, Trial
from chaos.mutate import mutate
from chaos.mutations import MUTATIONS
from chaos.report import BROKEN, Row, table
from chaos.scenarios import SCENARIOS, Scenario, Stage

SHOWN = 12  # violations that are printed of each figure; the journal has all

# What the short run plays at the same time, each lane on a cluster of its own. Those that measure times come alone.
LANES = (("stops readers double cuts",), ("kill freeze", "redis term rolling faults"))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/chaos", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "scenarios", nargs="*", metavar="scenario", help=f"of: {', '.join(SCENARIOS)}; all if none is named"
    )
    parser.add_argument("--count", type=int, help="trials of each, in place of the full count")
    parser.add_argument("--seed", type=int, default=7, help="of all dice (7)")
    parser.add_argument("--short", action="store_true", help="a tenth of the counts or less, in under three minutes")
    parser.add_argument(
        "--journal", type=Path, default=Path("var/chaos.jsonl"), help="where finished trials are written"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a journal, without the trials it has")
    parser.add_argument(
        "--mutate", action="store_true", help="show that seeded bugs are caught: all, or those that are named"
    )
    options = parser.parse_args(arguments)
    known = {mutation.name for mutation in MUTATIONS} if options.mutate else set(SCENARIOS)
    if unknown := set(options.scenarios) - known:
        parser.error(f"there is no {', '.join(sorted(unknown))}, only {', '.join(sorted(known))}")
    return options


class Run:
    """One run of some scenarios with one journal."""

    def __init__(self, options: argparse.Namespace, lab: Lab) -> None:
        self.options = options
        self.lab = lab
        self.journal = Journal(options.journal, options.seed, resume=options.resume)
        self.chosen = [SCENARIOS[name] for name in options.scenarios or SCENARIOS]
        self.absent = {scenario.name: said for scenario in self.chosen if (said := scenario.needs())}

    async def play(self) -> None:
        """The scenarios one after another, each on a cluster of its own; in short some share one, or play at the same time."""
        playable = [scenario for scenario in self.chosen if scenario.name not in self.absent]
        if not self.options.short:
            for scenario in playable:
                await self.lane([scenario])
            return
        for group in LANES:
            lanes = [[scenario for scenario in playable if scenario.name in lane.split()] for lane in group]
            await asyncio.gather(*(self.lane(lane) for lane in lanes if lane))

    async def lane(self, scenarios: Sequence[Scenario]) -> None:
        """Scenarios that share a cluster."""
        todo = {scenario.name: self.numbers(scenario) for scenario in scenarios}
        if not any(todo.values()):
            return
        speeches = list(dict.fromkeys(speech for scenario in scenarios for speech in scenario.speeches))
        settings = {name: value for scenario in scenarios for name, value in scenario.settings.items()}
        cluster = Cluster(self.lab, speeches, settings=settings)
        await asyncio.to_thread(cluster.__enter__)
        try:
            for scenario in scenarios:
                await self.perform(
                    scenario, Stage(self.lab, cluster, self.options.seed, self.options.short), todo[scenario.name]
                )
        finally:
            await asyncio.to_thread(cluster.__exit__)

    async def perform(self, scenario: Scenario, stage: Stage, numbers: Sequence[int]) -> None:
        start = time.monotonic()
        print(f"· {scenario.name}: {scenario.title}", file=sys.stderr, flush=True)
        async for trial in scenario.play(stage, numbers):
            self.journal.add(trial)
            for said in trial.violations[:SHOWN]:
                print(f"  ✗ {scenario.name} {trial.number}: {said}", file=sys.stderr, flush=True)
        if scenario.calm and (noted := await asyncio.to_thread(stage.cluster.accidents)):
            accident = f"{len(noted)} lines like this in the logs of the processes: {noted[0]}"
            self.journal.add(Trial(scenario.name, -1, [accident], count=0))
        print(f"  {scenario.name} took {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    def numbers(self, scenario: Scenario) -> list[int]:
        """The trials that are still to be played."""
        count = self.options.count or (scenario.short if self.options.short else scenario.full)
        done = {trial.number for trial in self.journal.of(scenario.name)}
        return [number for number in range(count) if number not in done]

    def rows(self) -> list[Row]:
        return [
            Row(s.title, s.goal, self.journal.of(s.name), s.limits, self.absent.get(s.name, "")) for s in self.chosen
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print, and return the exit status: BROKEN when a promise was broken."""
    options = parse(arguments)
    if options.mutate:
        return mutate(options.scenarios, options.seed)
    with Lab() as lab:
        run = Run(options, lab)
        asyncio.run(run.play())
    rows = run.rows()
    print(table(rows))
    broken = [(row.name, said) for row in rows for said in row.violations]
    for name, said in broken[: 5 * SHOWN]:
        print(f"✗ {name}: {said}")
    return BROKEN if broken else 0


if __name__ == "__main__":
    sys.exit(main())
