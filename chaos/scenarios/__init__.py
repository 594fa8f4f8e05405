"""Every row of the figures table, in the order of the table."""

from __future__ import annotations

from chaos.scenarios import cuts, double, faults, freeze, kill, readers, redis, rolling, stops, term
from chaos.scenarios.base import Scenario, Stage

__all__ = ["SCENARIOS", "Scenario", "Stage"]

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (kill, term, rolling, freeze, faults, cuts, double, stops, redis, readers)
}
