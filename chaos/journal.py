"""What was tried and found, one line for each finished trial, so that a run that was broken off can go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Trial:
    """One finished trial, or `count` small ones that belong together."""

    figure: str
    number: int
    violations: list[str] = field(default_factory=list)
    measured: dict[str, list[float]] = field(default_factory=dict)
    count: int = 1
    seconds: float = 0.0


class Journal:
    """A file of trials of one seed. Without a path it is kept in memory only."""

    def __init__(self, path: Path | None, seed: int, *, resume: bool) -> None:
        self.path = path
        self.seed = seed
        self.trials: list[Trial] = list(self._earlier()) if resume else []
        if path and not resume:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")

    def _earlier(self) -> Iterator[Trial]:
        if self.path and self.path.exists():
            for line in self.path.read_text().splitlines():
                kept = json.loads(line)
                if kept.pop("seed") == self.seed:
                    yield Trial(**kept)

    def add(self, trial: Trial) -> None:
        self.trials.append(trial)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps({"seed": self.seed, **asdict(trial)}) + "\n")

    def of(self, figure: str) -> list[Trial]:
        """The trials of one figure so far."""
        return [trial for trial in self.trials if trial.figure == figure]
