"""What really became of a click: the rows of the database and the calls that the provider saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from chaos.cluster import Cluster
from chaos.history import Click
from chaos.waiting import off_loop

ANSWER_FIELDS = (
    "id, parent_id, status, text, model, attempt, fence, final_id, text_id, reason, stop_by, error_code, error_message,"
    " retryable, request_id, ms, ttft_ms, lease_owner"
)
CALL_FIELDS = "id, answer_id, model, outcome, error_code, closed_at"
CALL_KEYS = ("id", "model", "state", "opened_at", "ended_at", "tokens", "first_sent_at")


@dataclass(frozen=True)
class Facts:
    """Everything that is stored of one question, and everything that was asked upstream."""

    questions: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    bills: list[dict[str, Any]] = field(default_factory=list)  # the rows of the ledger of model calls
    upstream: list[dict[str, Any]] = field(default_factory=list)  # the calls that the provider saw


async def learn(cluster: Cluster, clicks: Sequence[Click]) -> dict[str, Facts]:
    """The facts of these clicks, by question."""
    facts = await off_loop(stored, cluster, [click.question for click in clicks])
    since = min((click.opened_at for click in clicks), default=0.0)
    for call in await cluster.provider.calls(since):
        question = call["body"]["messages"][-1]["content"]
        if question in facts:
            facts[question].upstream.append({key: call[key] for key in CALL_KEYS})
    found: dict[str, Facts] = facts
    return found


def stored(cluster: Cluster, texts: Sequence[str]) -> dict[str, Facts]:
    """The rows of these questions."""
    facts: defaultdict[str, Facts] = defaultdict(Facts)
    owner: dict[Any, str] = {}
    for row in select(cluster, "SELECT id, text FROM chat_message WHERE role = 'user' AND text IN", texts):
        facts[row["text"]].questions.append(row)
        owner[row["id"]] = row["text"]
    for row in select(cluster, f"SELECT {ANSWER_FIELDS} FROM chat_message WHERE parent_id IN", list(owner)):
        owner[row["id"]] = question = owner[row["parent_id"]]
        facts[question].answers.append({**row, "id": str(UUID(str(row["id"])))})
    for row in select(cluster, f"SELECT {CALL_FIELDS} FROM chat_modelcall WHERE answer_id IN", list(owner)):
        facts[owner[row["answer_id"]]].bills.append(row)
    return {text: facts[text] for text in texts}


def select(cluster: Cluster, query: str, values: Iterable[Any]) -> list[dict[str, Any]]:
    """The rows of a query that ends in IN, for any number of values."""
    values, rows = list(values), list[dict[str, Any]]()
    for start in range(0, len(values), 500):
        part = values[start : start + 500]
        rows += cluster.rows(f"{query} ({', '.join('?' * len(part))})", *part)
    return rows


async def written_by(cluster: Cluster, pid: int) -> set[str]:
    """The open answers whose lease a process holds, as far as the rows know."""
    query = "SELECT id FROM chat_message WHERE status = 'open' AND lease_owner LIKE ?"
    rows = await off_loop(cluster.rows, query, f"%-{pid}-%")
    return {str(UUID(str(row["id"]))) for row in rows}
