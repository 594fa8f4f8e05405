"""The table: what was tried how often, how often the promise was broken, and what may be concluded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.journal import Trial

BROKEN = 3  # the exit status when a promise was broken; 1 and 2 are Python's own
HEAD = ("figure", "trials", "violations", "95 % bound", "measured", "goal", "minutes")


@dataclass(frozen=True)
class Limit:
    """A quantity that trials measure, and the most that this percentile of all its values may be."""

    quantity: str
    percentile: float
    at_most: float
    unit: str = "ms"

    def value(self, trials: Sequence[Trial]) -> float | None:
        """The percentile over all trials; None where nothing was measured."""
        values = sorted(value for trial in trials for value in trial.measured.get(self.quantity, ()))
        return values[max(0, math.ceil(len(values) * self.percentile / 100) - 1)] if values else None

    def told(self, trials: Sequence[Trial]) -> str:
        value = self.value(trials)
        name = "max" if self.percentile == 100 else f"p{self.percentile:g}"
        return "" if value is None else f"{self.quantity} {name} {value:.3g} {self.unit}"

    def broken(self, trials: Sequence[Trial]) -> str:
        """In words, if it is."""
        value = self.value(trials)
        return "" if value is None or value <= self.at_most else f"{self.told(trials)}, allowed are {self.at_most:g}"


@dataclass(frozen=True)
class Row:
    """One figure with what came of it."""

    name: str
    goal: str
    trials: Sequence[Trial]
    limits: Sequence[Limit] = ()
    absent: str = ""  # what it needs and this machine does not have

    @property
    def violations(self) -> list[str]:
        found = [said for trial in self.trials for said in trial.violations]
        if not self.trials and not self.absent:
            found.append("it was not tried at all")
        return found + [said for limit in self.limits if (said := limit.broken(self.trials))]

    def cells(self) -> tuple[str, ...]:
        count = sum(trial.count for trial in self.trials)
        if self.absent:
            return (self.name, "-", "-", "-", f"absent: {self.absent}", self.goal, "")
        measured = ", ".join(filter(None, (limit.told(self.trials) for limit in self.limits)))
        minutes = sum(trial.seconds for trial in self.trials) / 60
        return (
            self.name, f"{count:,}", f"{len(self.violations):,}", bound(count, len(self.violations)),
            measured or "-", self.goal, f"{minutes:.1f}",
        )  # fmt: skip


def bound(trials: int, violations: int) -> str:
    """How often the promise may be broken at most, with 95 % confidence, when it was never seen broken in n trials: 3/n."""
    return "-" if violations or not trials else f"< {min(1.0, 3 / trials):.2%}"


def table(rows: Sequence[Row]) -> str:
    """All figures as aligned text."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    shown = ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([shown[0], "-" * max(map(len, shown)), *shown[1:]])
