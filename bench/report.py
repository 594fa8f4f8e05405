"""Figures with their goals, as one table and as JSON, with the machine they belong to."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

PACKAGES = ("django", "daphne", "twisted", "channels", "openai", "aiohttp")


@dataclass
class Figure:
    """One measured quantity: a value for each repeat, and the most it may be, if there is a goal."""

    name: str
    unit: str
    goal: float | None = None
    digits: int = 1
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.values) if self.values else float("nan")

    @property
    def met(self) -> bool | None:
        """None without a goal."""
        return None if self.goal is None else self.median <= self.goal

    def row(self) -> tuple[str, str, str, str, str]:
        """Name, median, spread, goal, verdict."""
        if not self.values:
            return self.name, "-", "", "", ""
        shown = [f"{value:,.{self.digits}f}" for value in (self.median, min(self.values), max(self.values))]
        goal = "" if self.goal is None else f"≤ {self.goal:,g} {self.unit}"
        verdict = {None: "", True: "met", False: "missed"}[self.met]
        return self.name, f"{shown[0]} {self.unit}", f"{shown[1]} … {shown[2]}", goal, verdict

    def data(self) -> dict[str, Any]:
        return {
            "name": self.name, "unit": self.unit, "median": self.median if self.values else None,
            "values": self.values, "goal": self.goal, "met": self.met if self.values else None,
        }  # fmt: skip


def table(figures: Sequence[Figure], repeats: int) -> str:
    """All figures as aligned text."""
    rows = [("figure", f"median of {repeats}", "lowest … highest", "goal", ""), *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for row in rows:
        name, middle, spread, goal, verdict = (cell for cell in row)
        lines.append(
            f"{name:{widths[0]}}  {middle:>{widths[1]}}  {spread:>{widths[2]}}  {goal:{widths[3]}}  {verdict}".rstrip()
        )
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([lines[0], rule, *lines[1:]])


def machine() -> dict[str, str]:
    """Where this was measured, and how busy that was with other things."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "processor": f"{os.cpu_count()} x {processor()}",
        "memory": f"{memory:.0f} GB",
        "system": platform.platform(),
        "load before": load,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES),
        "commit": commit(),
    }


class Busy:
    """How long the processors have worked so far, for everyone and for this process and its ended children."""

    def __init__(self) -> None:
        self.at = time.monotonic()
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        self.own = sum(usage.ru_utime + usage.ru_stime for usage in own)
        times = [int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        self.all = (sum(times) - times[3] - times[4]) / os.sysconf("SC_CLK_TCK")  # without idle and waiting for disks

    def others_since(self, before: Busy) -> float:
        """Processors kept busy by other programs, on average: 1.0 is one of them, all the time."""
        return max(0.0, (self.all - before.all) - (self.own - before.own)) / (self.at - before.at)


def processor() -> str:
    """The model name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    """The commit that was measured, and whether files had been changed since."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()
