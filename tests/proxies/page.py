"""The page in a real browser, through a proxy that speaks HTTP/2 with it."""

from playwright.sync_api import Browser, expect

from bench.script import text
from tests.browser import ask, ends, shows
from tests.client import PATIENCE
from tests.proxies.site import Site

# The protocols of everything that was fetched so far; "h2" is HTTP/2.
PROTOCOLS = "[...new Set(performance.getEntriesByType('resource').map(entry => entry.nextHopProtocol).filter(Boolean))]"


def the_page_asks_and_stops_over_http2(site: Site, browser: Browser) -> None:
    """Ask, watch the answer grow, stop it. Everything but the WebSocket travels in one HTTP/2 connection."""
    context = browser.new_context(base_url=site.proxy.url, ignore_https_errors=True)
    context.set_default_timeout(PATIENCE * 1000)
    wrong: list[str] = []
    context.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    session = site.client().session
    context.add_cookies([{"name": "sessionid", "value": session, "url": site.proxy.url}])
    try:
        page = context.new_page()
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        model, _ = site.held(tokens=20, seed=8, name="page")
        page.goto("/")
        answer = ask(page, "Through the proxy", model)
        shows(answer, text(8, 20))
        expect(page.locator("#stop")).to_be_visible()
        page.click("#stop")
        stopped = ends(answer, "stopped")
        assert site.cluster.answer(stopped)["stop_by"] == "user"
        assert page.evaluate(PROTOCOLS) == ["h2"]
        assert sockets == [f"wss://{site.proxy.base}/ws/chat/"]
        assert wrong == []
    finally:
        context.close()
    assert site.closed(model) == "aborted"
