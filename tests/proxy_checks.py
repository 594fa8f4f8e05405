"""What must hold through every proxy. `script/proxies` and tests/test_proxies.py run these, each against a `Site`.

A check is a function whose name is a sentence; it raises AssertionError when that is not true.
"""

import re
import time
from collections.abc import Callable
from uuid import uuid4

import pytest
from websockets.exceptions import InvalidStatus

from bench.script import Gate, Script, text
from tests.behind import ABANDONED_SECONDS, Site, Times
from tests.client import Client, hear, say, shown, until

Check = Callable[[Site], None]
CHECKS: list[Check] = []

AT_ONCE = 0.5  # seconds that a proxy may add to the way of one event
SLOW = Script(tokens=12, rate=8, ttft=0.5)


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


@check
def people_sign_up_in_and_out_and_their_cookies_are_for_https_only(site: Site) -> None:
    name = f"p-{uuid4().hex[:10]}"
    new = site.sign_up(name)
    assert new.get("/").status == 200
    out = new.post("/logout/")
    assert out.status == 302
    assert new.get("/", Accept="text/html").headers["location"].startswith("/login/")
    page = site.client("").get("/login/")
    assert "Secure" in page.cookies["csrftoken"]
    foreign = site.client("").post("/login/", {"username": name}, Origin="https://elsewhere.example")
    assert foreign.status == 403


@check
def each_event_comes_when_it_is_sent(site: Site) -> None:
    answer = site.client().ask("slowly", site.model(SLOW))["answer"]
    with site.client().events(answer) as through, site.direct().events(answer) as direct:
        compare(Times(through), Times(direct), SLOW.tokens)


@check
def each_event_of_a_post_comes_when_it_is_sent(site: Site) -> None:
    with site.client().stream("slowly", site.model(SLOW)) as through:
        assert through.status == 200
        answer = through.headers["location"].split("/")[2]
        with site.direct().events(answer) as direct:
            compare(Times(through), Times(direct), SLOW.tokens)


def compare(through: Times, direct: Times, events: int) -> None:
    """The proxy may delay no event. The two readers sit side by side, so a busy machine delays them alike."""
    came, sent = through.result(), direct.result()
    assert came.keys() == sent.keys()
    assert len(came) > events / 2, "the events did not melt into one"
    late = {position: round(came[position] - sent[position], 3) for position in came}
    assert max(late.values()) < AT_ONCE, late
    assert max(came.values()) - min(came.values()) > AT_ONCE, "they did not come all at the end"


@check
def a_stop_over_the_websocket_closes_the_model_call_and_returns_the_receipt(site: Site) -> None:
    model, _ = site.held()
    client = site.client()
    with client.socket() as socket:
        answer = client.ask("stop me", model)["answer"]
        with client.events(answer) as stream:
            stream.read_tokens(8)
            say(socket, type="cancel", answer=answer)
            assert hear(socket, "cancelled")["answer"] == answer
            last = stream.read_until("close")[-2]
    assert (last.name, last.data["reason"], last.data["by"]) == ("done", "stopped", "user")
    assert site.closed(model) == "aborted"


@check
def a_stop_by_post_closes_the_model_call(site: Site) -> None:
    model, _ = site.held(seed=2)
    client = site.client()
    answer = client.ask("stop me", model)["answer"]
    with client.events(answer) as stream:
        stream.read_tokens(8)
        assert client.stop(answer)["answer"] == answer
        stream.read_until("close")
    assert site.closed(model) == "aborted"
    assert site.cluster.ended(answer)["text"] == text(2, 8)


@check
def sockets_of_other_origins_are_refused(site: Site) -> None:
    for origin in ("https://elsewhere.example", f"http://{site.proxy.base}", "null"):
        with pytest.raises(InvalidStatus) as refused, site.client().socket(origin=origin):
            pass
        assert refused.value.response.status_code == 403, origin


@check
def a_stream_that_was_cut_goes_on_from_the_last_id(site: Site) -> None:
    model, gate = site.held(seed=3)
    client = site.client()
    answer = client.ask("go on", model)["answer"]
    with client.events(answer) as stream:
        before = stream.read_tokens(8)
    with client.events(answer, last_event_id=before[-1].id) as stream:
        gate.open()
        after = stream.read_until("close")
    assert "started" not in [frame.name for frame in after]
    assert shown(before) + shown(after) == text(3, 16)
    assert client.get(f"/answers/{answer}/events", Last_Event_ID=after[-2].id).status == 204


@check
def a_restart_of_the_proxy_in_mid_stream_loses_nothing(site: Site) -> None:
    model, gate = site.held(seed=4)
    client = site.client()
    answer = client.ask("go on", model)["answer"]
    with client.events(answer) as stream:
        before = stream.read_tokens(8)
        site.proxy.restart()
    with client.events(answer, last_event_id=before[-1].id) as stream:
        gate.open()
        after = stream.read_until("close")
    assert shown(before) + shown(after) == text(4, 16)


@check
def a_reader_that_leaves_is_missed_at_once(site: Site) -> None:
    model, _ = site.held(seed=5, rate=8)  # so the reader is there for a second, and known as such
    with site.client().stream("I must go", model) as stream:
        stream.read_tokens(8)
        left = time.monotonic()
    assert site.closed(model) == "aborted"
    assert time.monotonic() - left < ABANDONED_SECONDS + 5, "Parley heard of it before any time-out of the proxy"


@check
def what_clients_say_about_themselves_changes_nothing(site: Site) -> None:
    lies = {
        "Daphne_Root_Path": "/evil",
        "X_Forwarded_Proto": "http",
        "X_Forwarded_Host": "evil.example",
        "X_Forwarded_Port": "81",
        "Forwarded": "proto=http;host=evil.example",
    }
    plain, lied = site.client().get("/"), site.client().get("/", **lies)
    assert (plain.status, lied.status) == (200, 200)
    assert "evil" not in lied.text + str(lied.headers)
    assert lied.headers["strict-transport-security"] == plain.headers["strict-transport-security"]
    asked = site.client("").get("/", Accept="text/html", **lies)
    assert (asked.status, asked.headers["location"]) == (302, "/login/?next=/")
    unencrypted = Client(f"localhost:{site.proxy.redirect_port}").get("/login/", X_Forwarded_Proto="https")
    assert unencrypted.status in (301, 308)
    assert unencrypted.headers["location"].startswith("https://localhost")


@check
def a_big_request_is_refused_with_413(site: Site) -> None:
    client = site.client()
    refused = client.post("/conversations", {"text": "x" * (2 << 20)}, Accept="application/json")
    assert (refused.status, refused.json()["code"]) == (413, "too_large"), "Parley itself says so"
    for size in (12 << 20, 24 << 20):
        assert client.post("/conversations", {"text": "x" * size}).status == 413
    assert client.get("/models").status == 200


@check
def static_files_are_compressed_and_kept_for_ever(site: Site) -> None:
    page = site.client().get("/").text
    for kind, suffix in (("javascript", "js"), ("text/css", "css")):
        path = re.findall(rf'"(/static/chat/[^"]+\.[0-9a-f]{{12}}\.{suffix})"', page)[0]
        answer = site.client("").get(path, Accept_Encoding="gzip")
        assert answer.status == 200, path
        assert "max-age=315360000" in answer.headers["cache-control"]
        assert "immutable" in answer.headers["cache-control"]
        assert kind in answer.headers["content-type"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-encoding"] == "gzip"
        assert len(answer.body) < len(site.client("").get(path).body)
    assert site.client("").get("/static/none.000000000000.js").status == 404
    assert site.client("").get("/static/../secret_key").status in (400, 404)


@check
def neither_streams_nor_pages_are_compressed(site: Site) -> None:
    client, model = site.client(), site.model(Script(tokens=5))
    asked: dict[str, str] = {"Accept-Encoding": "gzip, br, deflate"}
    client.extra = asked
    with client.stream("hello", model) as posted:
        assert posted.headers.get("content-encoding", "identity") == "identity"
        assert posted.headers["content-type"] == "text/event-stream"
        answer = posted.headers["location"].split("/")[2]
        posted.read_until("close")
    with client.events(answer) as stream:
        assert stream.headers.get("content-encoding", "identity") == "identity"
        assert shown(stream.read_until("close")) == text(0, 5)
    assert "content-encoding" not in client.get("/").headers


@check
def a_process_that_is_gone_is_noticed_by_nobody(site: Site) -> None:
    client = site.client()
    gone = site.cluster.servers[1]
    gone.kill()
    try:
        for number in range(6):
            assert client.get("/").status == 200
            answer = insist(site, uuid4().hex, site.model(Script(tokens=3, seed=number)))
            assert shown(client.read_to_end(answer)) == text(number, 3)
            if site.proxy.repeats_posts:
                assert client.post("/theme", {"theme": "dark"}).status == 302
    finally:
        gone.start()
    until(lambda: client.get("/healthz").status == 200)


@check
def while_a_process_leaves_nothing_is_asked_twice_and_nothing_refused_for_good(site: Site) -> None:
    client = site.client()
    model, gate = site.held(seed=6)
    leaving = site.cluster.servers[1]
    held = site.direct(server=1).ask("keep it busy", model)["answer"]
    keys = [uuid4().hex for _ in range(6)]
    try:
        with site.direct(server=1).events(held) as stream:
            stream.read_tokens(8)
            assert leaving.process
            leaving.process.terminate()
            stream.read_until("reconnect")
        quick = site.model(Script(tokens=3), "page")
        answers = [insist(site, key, quick) for key in keys]
        assert [insist(site, key, quick) for key in keys] == answers, "the same key is the same answer"
        gate.open()
        assert leaving.process.wait(30) == 0
    finally:
        gate.open()
        leaving.kill()
        leaving.start()
    assert shown(client.read_to_end(held)) == text(6, 16)
    assert len([call for call in site.provider.calls if call.model == quick]) == len(keys)


def insist(site: Site, key: str, model: str) -> str:
    """Ask with a key, and once more after 502 and 503, as the page does; that may not be needed if the proxy does so."""
    refused = []

    def asked() -> str:
        question = {"text": "Hello?", "model": model}
        response = site.client().post("/conversations", question, Idempotency_Key=key, Accept="application/json")
        if response.status in (502, 503):
            refused.append(response)
            return ""
        assert response.status in (200, 201), (response.status, response.text)
        return str(response.json()["answer"])

    answer: str = until(asked, "the question is taken")
    assert not (refused and site.proxy.repeats_posts), refused
    return answer


def an_idle_stream_and_socket_stay_open(site: Site, seconds: float) -> None:
    """Nothing but heartbeats for so long. Each must have come, so nobody took the silence for the end."""
    model = site.model(Script(tokens=2, at=1, seed=7, gate=(gate := Gate())), "idle")
    client = site.client()
    with client.socket() as socket:
        answer = client.ask("think", model)["answer"]
        with client.events(answer) as stream:
            began = time.monotonic()
            frames = stream.read(lambda frames: time.monotonic() - began > seconds, patience=seconds + 60)
            assert {frame.name for frame in frames} <= {"started", "token", "status", "ping"}
            gate.open()
            rest = stream.read_until("close")
            assert shown(frames + rest) == text(7, 2)
        assert hear(socket, "answer.ended")["answer"] == answer
