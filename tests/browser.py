"""A real Chromium for tests: one per session, and pages that are signed in and fail their test when anything goes wrong.

What fails a test: a console error it did not announce, an uncaught exception, a CSP violation, a dialog, a request to another
origin. Playwright's waiting assertions (`expect`) take the place of `until` here.
"""

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect, sync_playwright

from bench.script import Script
from tests.parley import PATIENCE, Parley, hear, until

PageOf = Callable[..., Page]
Scripted = Callable[..., str]

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
# What the browser and htmx say of requests that failed or were refused: tests that bring that about announce it.
BROKEN = r"Failed to load resource: net::|WebSocket connection to|net::ERR_|^htmx:(afterRequest|sendError)"
REFUSED = r"Failed to load resource: the server responded|^Response Status Error Code"
TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", event =>
    console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
# Keeps what an answer showed after every change.
WATCH = """answer => {
    window.shown = [];
    const look = () => shown.push(answer.querySelector(".body").textContent);
    new MutationObserver(look).observe(answer, {childList: true, subtree: true, characterData: true});
}"""

expect.set_options(timeout=PATIENCE * 1000)


class Lent:
    """Playwright's event loop, which counts as running between its calls, for one test at a time.

    Other tests of the session use `asyncio.run` and Django's synchronous database, which refuse to work beside a running loop.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        asyncio._set_running_loop(self.loop)

    def __exit__(self, *error: object) -> None:
        asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[tuple[Browser, Lent]]:
    """The one browser of the session."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    playwright = sync_playwright().start()
    lent = Lent()
    with lent:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS + root)
    yield browser, lent
    with lent:
        browser.close()
        playwright.stop()


class Witness:
    """Everything that went wrong in one browser context, but for what the test announced."""

    def __init__(self, context: BrowserContext, server: Parley, announced: tuple[str, ...]) -> None:
        self.host = server.base
        self.announced = announced
        self.wrong: list[str] = []
        context.on("console", self.console)
        context.on("weberror", lambda error: self.wrong.append(f"uncaught: {error.error}"))
        context.on("request", self.request)
        context.on("dialog", self.dialog)

    def console(self, message: ConsoleMessage) -> None:
        text = f"{message.text} ({message.location.get('url', '')})"
        if message.type == "error" and not any(re.search(pattern, text) for pattern in self.announced):
            self.wrong.append(f"console: {text}")

    def request(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != self.host:
            self.wrong.append(f"request to another origin: {request.url}")

    def dialog(self, dialog: Any) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture
def page_of(chromium: tuple[Browser, Lent], parley: Parley) -> Iterator[PageOf]:
    """Open pages: page_of("alice", "/c/…/"), signed in by session cookie; an empty name is nobody.

    `server` is another server or proxy (anything with `base` and `people`), `announced` holds patterns of console errors that
    belong to the test, `session` is a session key in place of a name's; the rest are options of the browser context.
    """
    browser, lent = chromium
    opened: list[tuple[BrowserContext, Witness]] = []

    def page(
        name: str = "alice",
        path: str = "/",
        server: Any = parley,
        announced: tuple[str, ...] = (),
        session: str = "",
        theme: str = "",
        **options: Any,
    ) -> Page:
        context = browser.new_context(base_url=f"http://{server.base}", **options)
        context.set_default_timeout(PATIENCE * 1000)
        context.add_init_script(TELL_VIOLATIONS)
        opened.append((context, Witness(context, server, announced)))
        key = session or (server.people[name]["session"] if name else "")
        cookies = {"sessionid": key, "theme": theme}
        url = f"http://{server.base}"
        context.add_cookies([{"name": k, "value": v, "url": url} for k, v in cookies.items() if v])  # type: ignore[misc]
        made = context.new_page()
        if path:
            made.goto(path)
        return made

    with lent:
        yield page
        for context, _ in opened:
            for left in context.pages:
                left.evaluate("0")  # whatever the page has said so far has arrived after this
            context.close()
    assert [wrong for _, witness in opened for wrong in witness.wrong] == []


@pytest.fixture
def scripted(offer: Callable[..., str], provider: Any, request: pytest.FixtureRequest) -> Iterator[Scripted]:
    """Make a server offer a model that follows a script, and return its name: scripted(Script(tokens=9, gate=Gate())).

    Pages know the models that were on offer when they were opened, so this comes first. Gates that a test has left closed
    are opened at its end, so that no answer stays open.
    """
    scripts: list[Script] = []

    def add(script: Script, server: Parley | None = None, name: str = "") -> str:
        scripts.append(script)
        name = name or f"{request.node.name.removeprefix('test_')[:40]}-{len(scripts)}"
        provider.script(name, script)
        return offer(name, server) if server else offer(name)

    yield add
    for script in scripts:
        if script.gate:
            script.gate.open()


def ask(page: Page, text: str = "Hello", model: str = "") -> Locator:
    """Type a question and press Enter; returns the article of its answer."""
    answers = page.locator("article.answer").count()
    if model:
        page.select_option("#model", model)
    page.fill("#text", text)
    page.press("#text", "Enter")
    return page.locator("article.answer").nth(answers)


def ends(answer: Locator, status: str = "done") -> str:
    """Wait until the answer's final form is in place; returns its id."""
    expect(answer).to_have_attribute("data-status", status)
    expect(answer.locator("template.source")).to_have_count(1)
    return str(answer.get_attribute("data-answer"))


def words(text: str | Locator) -> str:
    """Text as it is read: Markdown turns the ends of lines into spaces."""
    return " ".join((text if isinstance(text, str) else text.text_content() or "").split())


def shows(answer: Locator, text: str) -> None:
    """Wait until the answer shows exactly this text, which holds no Markdown, and go on showing it."""
    expect(answer.locator(".body")).to_have_text(words(text))


def listening(server: Parley, user: str, tabs: int) -> None:
    """Wait until so many pages of a user hold their socket, and so hear of what happens elsewhere."""
    with server.client("staff").socket("/ws/dashboard/") as board:
        present = {"user": user, "tabs": tabs, "pages": ["chat"]}
        until(lambda: present in hear(board, "snapshot")["online"], f"{user} has {tabs} tabs")


def watch(answer: Locator) -> None:
    """From now on remember everything that this answer shows, for `showed_only`."""
    answer.evaluate(WATCH)


def showed_only(page: Page, text: str) -> None:
    """At every moment since `watch` the answer was a beginning of this text: it never had a gap nor a word twice."""
    shown, whole = page.evaluate("shown"), words(text)
    assert len(shown) > 1
    assert [moment for moment in shown if not whole.startswith(words(moment))] == []
