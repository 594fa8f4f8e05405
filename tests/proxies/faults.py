"""What goes wrong behind a proxy, and with it. Checks as in main_path; some belong to a fault that lasts while they run."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

from bench.script import Gate, Script, text
from tests.client import Response, hear, shown, until
from tests.event_source import read
from tests.proxies.site import ABANDONED_SECONDS, Site

Sites = Mapping[str, Site]

FROZEN_SECONDS = 65.0  # a little more than the proxies' time-outs


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


def a_reader_that_leaves_is_missed_at_once(site: Site) -> None:
    model, _ = site.held(seed=5, rate=8)  # so the reader is there for a second, and known as such
    with site.client().stream("I must go", model) as stream:
        stream.read_tokens(8)
        left = time.monotonic()
    assert site.closed(model) == "aborted"
    assert time.monotonic() - left < ABANDONED_SECONDS + 5, "Parley heard of it before any time-out of the proxy"


@contextmanager
def a_process_gone(sites: Sites) -> Iterator[None]:
    """The second server is killed, and comes back at the end."""
    gone = one_of(sites).cluster.servers[1]
    gone.kill()
    try:
        yield
    finally:
        gone.start()


def a_process_that_is_gone_is_noticed_by_nobody(site: Site) -> None:
    client = site.client()
    for number in range(6):
        assert client.get("/").status == 200
        answer = ask(site, uuid4().hex, site.model(Script(tokens=3, seed=number)))
        assert whole_text(site, answer) == text(number, 3)
        if site.proxy.repeats:
            assert client.post("/theme", {"theme": "dark"}).status == 302


@contextmanager
def a_process_leaving(sites: Sites) -> Iterator[None]:
    """The second server is told to leave, and cannot yet: it still writes an answer, which it finishes at the end."""
    site = one_of(sites)
    leaving = site.cluster.servers[1]
    model, gate = site.held(seed=6, name="drained")
    held = site.direct(server=1).ask("keep it busy", model)["answer"]
    try:
        with site.direct(server=1).events(held) as stream:
            stream.read_tokens(8)
            assert leaving.process
            leaving.process.terminate()
            stream.read_until("reconnect")
        with site.client().events(held) as stream:
            yield
            gate.open()
            assert shown(stream.read_until("close")) == text(6, 16)
        assert leaving.process.wait(30) == 0
    finally:
        gate.open()
        leaving.kill()
        leaving.start()


def while_a_process_leaves_no_question_is_lost_or_asked_twice(site: Site) -> None:
    model = site.model(Script(tokens=3))
    before = len(site.calls(model))
    keys = [uuid4().hex for _ in range(6)]
    answers = [ask(site, key, model) for key in keys]
    assert [ask(site, key, model) for key in keys] == answers, "the same key is the same answer"
    assert [whole_text(site, answer) for answer in answers] == [text(0, 3)] * len(keys)
    assert len(site.calls(model)) - before == len(keys)


def ask(site: Site, key: str, model: str) -> str:
    """The answer to a question with this key."""
    question = {"text": "Hello?", "model": model}
    headers = {"Idempotency_Key": key, "Accept": "application/json"}
    response = in_the_end(site, lambda: site.client().post("/conversations", question, **headers))
    assert response.status in (200, 201), (response.status, response.text)
    return str(response.json()["answer"])


def whole_text(site: Site, answer: str) -> str:
    """What a reader from the start is shown."""
    response = in_the_end(site, lambda: site.client().get(f"/answers/{answer}/events"))
    assert response.status == 200, (response.status, response.text)
    return "".join(json.loads(message.data)["text"] for message in read(response.body) if message.type == "token")


def in_the_end(site: Site, send: Callable[[], Response]) -> Response:
    """The response that is neither 502 nor 503: clients try again, as the page does, unless the proxy does so for them."""
    refused = []

    def accepted() -> Response | None:
        response = send()
        if response.status in (502, 503):
            refused.append(response)
            return None
        return response

    response: Response = until(accepted, "the request is accepted")
    assert not (refused and site.proxy.repeats), refused
    return response


def one_of(sites: Sites) -> Site:
    return next(iter(sites.values()))


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


@contextmanager
def a_process_frozen(sites: Sites) -> Iterator[None]:
    """The second server keeps its connections, and answers nothing."""
    frozen = one_of(sites).cluster.servers[1]
    frozen.freeze()
    try:
        yield
    finally:
        frozen.thaw()
        frozen.kill()
        frozen.start()


def a_frozen_process_holds_up_no_page_for_longer_than_a_minute(site: Site) -> None:
    """Health checks find it within seconds. Who met it before that waits for the proxy's time-out, as all do without them."""
    client, statuses = site.client(), []
    for _ in range(3):
        connection, response = client.open("GET", "/", timeout=FROZEN_SECONDS)
        response.read()
        connection.close()
        statuses.append(response.status)
    lost = [] if site.proxy.repeats else [504]
    assert set(statuses) <= {200, *lost}, statuses
    assert statuses[-1] == 200, statuses
