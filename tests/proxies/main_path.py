"""What people do, through a proxy. Each function is a check: its name is true, or it raises AssertionError."""

import re
from uuid import uuid4

import pytest
from websockets.exceptions import InvalidStatus

from bench.script import Script, text
from tests.client import Client, hear, say, shown
from tests.proxies.site import Site, Times

AT_ONCE = 0.5  # seconds that a proxy may add to the way of one event
SLOW = Script(tokens=12, rate=8, ttft=0.5)


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


def each_event_comes_when_it_is_sent(site: Site) -> None:
    answer = site.client().ask("slowly", site.model(SLOW))["answer"]
    with site.client().events(answer) as through, site.direct().events(answer) as direct:
        compare(Times(through), Times(direct), SLOW.tokens)


def each_event_of_a_post_comes_when_it_is_sent(site: Site) -> None:
    with site.client().stream("slowly", site.model(SLOW)) as through:
        assert through.status == 200
        answer = through.headers["location"].split("/")[2]
        with site.direct().events(answer) as direct:
            compare(Times(through), Times(direct), SLOW.tokens)


def compare(through: Times, direct: Times, events: int) -> None:
    """The proxy may delay no event. The two readers sit side by side, so a busy machine delays them alike."""
    came, sent = through.result(), direct.result()
    both = came.keys() & sent.keys()  # a log that was away for a moment is told anew, with other ids
    assert len(both) > events / 2, f"the events melted into one: {sorted(came)}, {sorted(sent)}"
    late = {position: round(came[position] - sent[position], 3) for position in both}
    assert max(late.values()) < AT_ONCE, late
    assert max(came.values()) - min(came.values()) > AT_ONCE, "they did not come all at the end"


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


def sockets_of_other_origins_are_refused(site: Site) -> None:
    for origin in ("https://elsewhere.example", f"http://{site.proxy.base}", "null"):
        with pytest.raises(InvalidStatus) as refused, site.client().socket(origin=origin):
            pass
        assert refused.value.response.status_code == 403, origin


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


def a_big_request_is_refused_with_413(site: Site) -> None:
    client = site.client()
    refused = client.post("/conversations", {"text": "x" * (2 << 20)}, Accept="application/json")
    assert (refused.status, refused.json()["code"]) == (413, "too_large"), "Parley itself says so"
    for size in (12 << 20, 24 << 20):
        assert client.post("/conversations", {"text": "x" * size}).status == 413
    assert client.get("/models").status == 200


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
