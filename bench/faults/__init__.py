"""The fault table: every way in which a provider misbehaves here, by name.

`FAULTS` says in one sentence what each does; `CATALOGUE` also has the endings that are right for it.
"""

from __future__ import annotations

from bench.faults import content, ending, http, stream
from bench.faults.base import Fault

CATALOGUE: dict[str, Fault] = {
    fault.name: fault for fault in (*http.TABLE, *stream.TABLE, *ending.TABLE, *content.TABLE)
}
FAULTS: dict[str, str] = {fault.name: fault.says for fault in CATALOGUE.values()}

__all__ = ["CATALOGUE", "FAULTS", "Fault"]
