"""Everything works from the keyboard, is announced once and briefly, has a name, and can be read in both themes."""

import pytest
from playwright.sync_api import expect

from bench.script import Gate, Script, text
from tests.browser import ask, ends, shows
from tests.test_page_calm import PIECES

# Tells every sentence that the status region and the log have held since the page was opened.
LISTEN = """
window.heard = [];
addEventListener("DOMContentLoaded", () => {
    for (const id of ["status", "log"]) {
        const region = document.getElementById(id);
        const listen = () => region.textContent && heard.push([id, region.textContent]);
        new MutationObserver(listen).observe(region, {childList: true});
    }
});
"""
# WCAG 2.2: contrast of every text node in `scopes` against what is painted behind it.
CONTRAST = """scopes => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const rgba = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], under) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a));
    const behind = node => {
        const layers = [];
        for (let n = node; n; n = n.parentElement) layers.push(rgba(getComputedStyle(n).backgroundColor));
        const paper = matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
        return layers.reverse().reduce((under, layer) => over(layer, under), paper);
    };
    const light = colour => colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const bad = [];
    let seen = 0;
    for (const root of document.querySelectorAll(scopes)) {
        const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) {
            const text = walk.currentNode.data.trim(), node = walk.currentNode.parentElement;
            const shown = node.checkVisibility({visibilityProperty: true});
            if (!text || !shown || node.closest(":disabled, .hidden, option")) continue;
            const back = behind(node), style = getComputedStyle(node);
            const [a, b] = [light(over(rgba(style.color), back)), light(back)].sort((x, y) => y - x);
            const ratio = (a + 0.05) / (b + 0.05);
            seen++;
            if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${node.localName}.${node.className}: ${text.slice(0, 30)}`);
        }
    }
    return {seen, bad};
}"""
CODE = '''```python
import os  # a comment
@decorator
class Thing(Base):
    """A docstring."""
    async def name(self, n: int = 0x1F) -> str:
        return f"{n!r}\\n" if n is not None and True else print(r"raw", 1.5e3, self.__dict__)
```
```diff
- gone
+ come
```
```html
<!-- a comment --><a href="x">text &amp; more</a>
```
'''


@pytest.fixture
def listening_page(page_of):
    page = page_of("alice", "")
    page.add_init_script(LISTEN)
    page.goto("/")
    return page


def tab_to(page, name, role="", backwards=False):
    """Press Tab until the element of this accessible name has the focus."""
    target = page.get_by_role(role or "button", name=name)
    for _ in range(60):
        if target.count() and target.last.evaluate("node => node === document.activeElement"):
            return
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
    raise AssertionError(f"Tab does not lead to {name}")


def test_the_main_path_needs_only_the_keyboard(page_of, scripted, parley):
    model = scripted(Script(tokens=30, seed=51, at=9, gate=(gate := Gate())))
    page = page_of("", session=parley.sign_up("keys").session)
    expect(page.locator("#text")).to_be_focused()
    tab_to(page, "Model", "combobox", backwards=True)
    page.keyboard.type(model)
    tab_to(page, "Message", "textbox")
    page.keyboard.type("From the keys")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("in two lines")
    page.keyboard.press("Enter")
    answer = page.locator("article.answer")
    shows(answer, text(51, 9))
    expect(page.locator(".question .said")).to_have_text("From the keys\nin two lines", use_inner_text=True)
    page.keyboard.press("Escape")
    ends(answer, "stopped")
    gate.open()
    tab_to(page, "Answer again", backwards=True)
    page.keyboard.press("Enter")
    shows(answer, text(51, 30))
    ends(answer)
    tab_to(page, "More for From the keys in two lines", backwards=True)
    page.keyboard.press("Enter")
    expect(page.locator("#row-menu [data-row=rename]")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("By hand")
    page.keyboard.press("Enter")
    entry = page.locator(".entry:has([aria-current])")
    expect(entry.locator("a")).to_have_text("By hand")
    expect(entry.locator("a")).to_be_focused()
    tab_to(page, "More for By hand")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    tab_to(page, "Delete")
    page.keyboard.press("Enter")
    expect(page.locator("#welcome")).to_be_visible()


def test_the_focus_stays_in_the_message_box_from_sending_to_the_end(page_of, scripted):
    model = scripted(Script(tokens=30, seed=52, at=9, gate=(gate := Gate())))
    page = page_of("alice")
    answer = ask(page, "Stay", model)
    expect(page.locator("#text")).to_be_focused()
    shows(answer, text(52, 9))
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("the next one")
    gate.open()
    ends(answer)
    expect(page.locator("#text")).to_be_focused()
    expect(page.locator("#text")).to_have_value("the next one")


def test_an_answer_is_announced_by_short_states_and_read_out_once_at_its_end(listening_page, scripted):
    model = scripted(Script(tokens=40, seed=53, rate=40))
    listening_page.reload()
    answer = ask(listening_page, "Tell me", model)
    expect(answer).to_have_attribute("aria-busy", "true")
    ends(answer)
    expect(listening_page.locator("#status")).to_have_text("Answer complete, 40 words")
    heard = listening_page.evaluate("heard")
    assert [said for region, said in heard if region == "status"] == ["Generating", "Answer complete, 40 words"]
    assert [" ".join(said.split()) for region, said in heard if region == "log"] == [" ".join(text(53, 40).split())]
    assert answer.get_attribute("aria-busy") is None


def test_the_thread_is_no_live_region(listening_page, scripted):
    ends(ask(listening_page, "Quiet", "fake"))
    regions = listening_page.locator(
        "[aria-live]:not([aria-live=off]), [role=status], [role=log], [role=alert], output"
    )
    assert regions.evaluate_all("all => all.map(node => node.id)") == ["problem", "status", "log"]
    assert listening_page.locator("#thread").evaluate("node => node.closest('[aria-live], [role=log]')") is None


@pytest.mark.parametrize("width", [1280, 390])
def test_everything_that_can_be_used_has_a_name(page_of, scripted, width):
    scripted(Script(pieces=(CODE, *PIECES)), name="rich")
    scripted(Script(tokens=5, fault="cut", at=2), name="failing")
    page = page_of("boss", viewport={"width": width, "height": 800})
    assert nameless(page) == []
    ends(ask(page, "Everything", "rich"))
    ends(ask(page, "And fail", "failing"), "failed")
    if width < 600:
        page.get_by_role("button", name="Show conversations").click()
    assert nameless(page) == []
    page.get_by_text("Account menu").locator("..").click()
    assert nameless(page) == []
    page.keyboard.press("Escape")
    page.locator(".entry .more").first.click()
    assert nameless(page) == []
    page.goto("/staff/live/")
    expect(page.locator("#link")).to_have_attribute("data-state", "live")
    assert nameless(page) == []
    for path in ("/login/", "/signup/"):
        assert nameless(page_of("", path)) == []


def nameless(page):
    """Elements that can be used, as assistive technology sees them, without a name."""
    usable = ("button", "link", "textbox", "combobox", "checkbox", "region", "dialog", "article", "searchbox", "option")
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    seen = [node for node in nodes if not node["ignored"] and node.get("role", {}).get("value") in usable]
    assert len(seen) > 3
    return [node["role"]["value"] for node in seen if not node.get("name", {}).get("value")]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read(page_of, scripted, theme):
    scripted(Script(pieces=(CODE, *PIECES), reasoning=3), name="rich")
    scripted(Script(tokens=5, fault="cut", at=2), name="failing")
    scripted(Script(tokens=9, at=3, gate=Gate()), name="waiting")
    page = page_of("alice", theme=theme)
    assert page.evaluate(CONTRAST, "body")["bad"] == []
    answer = ask(page, "Everything", "rich")
    ends(answer)
    answer.locator("summary").click()
    ends(ask(page, "And fail", "failing"), "failed")
    shows(ask(page, "And wait", "waiting"), text(0, 3))
    result = page.evaluate(CONTRAST, "body")
    assert result["seen"] > 100
    assert result["bad"] == []
    assert page.evaluate(CONTRAST, "figure.code")["seen"] > 40
    page.get_by_text("Account menu").locator("..").click()
    assert page.evaluate(CONTRAST, ".menu")["bad"] == []
    board = page_of("staff", "/staff/live/", theme=theme)
    expect(board.locator("#answers tbody tr", has_text="waiting")).not_to_have_count(0)
    assert board.evaluate(CONTRAST, "body")["bad"] == []
    assert page_of("", "/signup/", theme=theme).evaluate(CONTRAST, "body")["bad"] == []
