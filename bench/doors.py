"""What the fake provider answers: one method for each verb and path."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.answer import Job, completion, streamed
from bench.faults import CATALOGUE
from bench.ledger import Call, Ledger
from bench.script import Script
from bench.wire import Steps, as_json, error, whole

LOGIN_PAGE = b"<!doctype html><title>Log in</title><form></form>"


@dataclass
class State:
    """What the connections of one provider share."""

    ledger: Ledger = field(default_factory=Ledger)
    key: str = "bench"
    strict: bool = False
    models: list[str | dict[str, Any]] = field(default_factory=lambda: ["fake"])
    models_status: int = 200
    scripts: dict[str, Script | Callable[[Job], Steps]] = field(default_factory=dict)

    def respond(self, verb: str, path: str, headers: dict[str, str], body: bytes) -> tuple[Steps, Call | None]:
        """The steps of the response, and the call if the request was for a completion."""
        door = DOORS.get((verb, path.partition("?")[0]))
        if door is None:
            return iter([whole(404, as_json(error(f"no {verb} {path} here", code="not_found")))]), None
        try:
            return door(self, headers, body)
        except (ValueError, TypeError, AttributeError) as problem:
            return iter([whole(400, as_json(error(f"the fake provider cannot read this: {problem}")))]), None

    def complete(self, headers: dict[str, str], raw: bytes) -> tuple[Steps, Call | None]:
        """Enter the call, find its script and play it."""
        body = json.loads(raw)
        model = str(body["model"]) if "model" in body else ""
        authorized = headers.pop("authorization", "") == f"Bearer {self.key}"
        script = self.scripts.get(model) or Script.of(model)
        call = self.ledger.open(model, headers, authorized, body)
        if self.strict and not authorized:
            refusal = error("Incorrect API key provided.", "authentication_error", "invalid_api_key")
            return iter([whole(401, as_json(refusal))]), call
        return self.play(script, call), call

    def play(self, script: Script | Callable[[Job], Steps], call: Call) -> Steps:
        """The response to a call. A script may also be a function that makes the whole response."""
        if not isinstance(script, Script):
            return script(Job(Script.of(""), call))
        job, streams = Job(script, call), bool(call.body.get("stream"))
        if script.fault and script.fault not in CATALOGUE:
            return iter([whole(400, as_json(error(f"there is no fault {script.fault!r}")))])
        fault = CATALOGUE.get(script.fault)
        if fault and (streams or fault.plain):
            return fault.play(job)
        return streamed(job) if streams else completion(job)

    def list_models(self, headers: dict[str, str], body: bytes) -> tuple[Steps, None]:
        """GET /v1/models, or its scripted failure."""
        if self.models_status != 200:
            return iter([whole(self.models_status, as_json(error("scripted failure", "server_error")))]), None
        entries = [{"id": model} if isinstance(model, str) else model for model in self.models]
        usual = {"object": "model", "created": 1_700_000_000, "owned_by": "bench"}
        return iter([whole(200, as_json({"object": "list", "data": [usual | entry for entry in entries]}))]), None

    def set_models(self, headers: dict[str, str], body: bytes) -> tuple[Steps, None]:
        """POST /models: what GET /v1/models answers from now on."""
        wish = json.loads(body)
        self.models, self.models_status = wish.get("models", self.models), wish.get("status", 200)
        return iter([whole(200, b"{}")]), None

    def read_ledger(self, headers: dict[str, str], body: bytes) -> tuple[Steps, None]:
        """GET /ledger: every call, from the number in the header X-First on."""
        calls = self.ledger.calls()[int(headers.get("x-first") or 1) - 1 :]
        return iter([whole(200, json.dumps([asdict(call) for call in calls]).encode())]), None

    def read_totals(self, headers: dict[str, str], body: bytes) -> tuple[Steps, None]:
        """GET /ledger/totals: how many calls and tokens."""
        return iter([whole(200, as_json(self.ledger.totals()))]), None

    def reset_ledger(self, headers: dict[str, str], body: bytes) -> tuple[Steps, None]:
        """POST /ledger/reset."""
        self.ledger.reset()
        return iter([whole(200, b"{}")]), None

    def login_page(self, headers: dict[str, str], body: bytes) -> tuple[Steps, None]:
        """Where the fault login-302 leads."""
        return iter([whole(200, LOGIN_PAGE, "text/html")]), None


Door = Callable[[State, dict[str, str], bytes], tuple[Steps, Call | None]]
DOORS: dict[tuple[str, str], Door] = {
    ("GET", "/v1/models"): State.list_models,
    ("POST", "/v1/chat/completions"): State.complete,
    ("GET", "/ledger"): State.read_ledger,
    ("GET", "/ledger/totals"): State.read_totals,
    ("POST", "/ledger/reset"): State.reset_ledger,
    ("POST", "/models"): State.set_models,
    ("GET", "/login"): State.login_page,
}
