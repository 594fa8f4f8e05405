"""Shows that the scenarios are awake: each seeded bug goes into a copy of the project, and its scenario must see it there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.parley import KEPT
from chaos.mutations import MUTATIONS, Mutation
from chaos.programs import ROOT
from chaos.report import BROKEN

CAUGHT_SHARE = 0.95
LEFT_OUT = shutil.ignore_patterns(".*", "var", "__pycache__", "node_modules", "*.pyc")
TRIAL_SECONDS = 400


class Stale(Exception):
    """A mutation does not fit the code any more: rewrite it."""


@dataclass(frozen=True)
class Verdict:
    """What became of one seeded bug."""

    mutation: Mutation
    caught: bool
    seconds: float
    said: str  # the first violation, or why there was none


def apply(mutation: Mutation, root: Path) -> None:
    """Seed the bug in a copy. Raises Stale unless every place is there exactly once."""
    for file, old, new in mutation.changes:
        path = root / file
        text = path.read_text()
        if text.count(old) != 1:
            raise Stale(f"{mutation.name}: {file} has {text.count(old)} times:\n{old}")
        path.write_text(text.replace(old, new))


def fit(mutation: Mutation) -> None:
    """Raises Stale for a bug that does not fit the project as it is."""
    with tempfile.TemporaryDirectory(prefix="parley-mutant-") as place:
        for file in {file for file, _, _ in mutation.changes}:
            (Path(place) / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, Path(place) / file)
        apply(mutation, Path(place))


def try_out(mutation: Mutation, seed: int) -> Verdict:
    """Seed one bug, and play its scenario."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="parley-mutant-") as place:
        copy = Path(place) / "parley"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        apply(mutation, copy)
        journal = Path(place) / "journal.jsonl"
        command = [sys.executable, "-m", "chaos.run", *mutation.play, "--seed", str(seed), "--journal", str(journal)]
        env = {name: os.environ[name] for name in KEPT if name in os.environ} | {"CHAT_DATA_DIR": f"{place}/data"}
        try:
            done = subprocess.run(
                command, cwd=copy, env=env, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return Verdict(mutation, False, time.monotonic() - start, "it took too long")
    said = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    why = said[0] if said else done.stderr[-500:] if done.returncode else "no promise was broken"
    return Verdict(mutation, done.returncode == BROKEN, time.monotonic() - start, why)


def mutate(names: Sequence[str], seed: int) -> int:
    """Try all seeded bugs, or those that are named; returns the exit status."""
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    for mutation in chosen:  # before an hour is spent
        fit(mutation)
    caught = 0
    for mutation in chosen:
        verdict = try_out(mutation, seed)
        caught += verdict.caught
        word = "caught" if verdict.caught else "MISSED"
        print(f"{word}  {mutation.name:34} {' '.join(mutation.play):24} {verdict.seconds:4.0f} s", flush=True)
        print(f"        {verdict.said[:300]}", flush=True)
    print(f"{caught} of {len(chosen)} seeded bugs were caught")
    return 0 if caught >= CAUGHT_SHARE * len(chosen) else 1
