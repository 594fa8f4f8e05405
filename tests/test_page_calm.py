"""The page stays calm: nothing jumps, the reader's place is the reader's, little is loaded, and narrow screens are enough."""

import pytest
from playwright.sync_api import expect

from bench.script import Gate, Script, text
from tests.browser import BROKEN, REFUSED, ask, ends
from tests.parley import until
from tests.proxy import Proxy

RICH = """# Tides, in short

The sea rises and falls **twice** a day, and *nobody* asks it to. See [the almanac](https://tides.test/) or `tide(1)`.

1. Spring tides
2. Neap tides
   - a nested item that is long enough to wrap on every narrow screen, and then a few words more
3. Slack water

> A quotation of somebody who has seen it, over more than one line on a telephone.

```python
def tide(hours: float, amplitude: float = 1.0, a_rather_long_name_for_an_argument_that_nobody_needs: int = 0) -> float:
    return amplitude * math.cos(2 * math.pi * hours / 12.42)
```

| place | high water | low water | a column with a long heading | another one of these | and one more |
|:--|:-:|--:|---|---|---|
| Saint-Malo | 13.2 m | 0.4 m | averyveryveryverylongwordwithoutanyplacetobreakit | x | y |
| Kiel | 0.1 m | 0.0 m | short | x | y |

![A chart](https://tides.test/chart.png)

averyveryveryveryveryveryveryveryveryveryveryveryveryveryverylongwordwithoutanyplacetobreakit

---

### The end

Last words.
"""
PIECES = tuple(RICH[i : i + 6] for i in range(0, len(RICH), 6))
SHIFTS = """
window.shifts = [];
new PerformanceObserver(list => {
    for (const entry of list.getEntries())
        if (!entry.hadRecentInput) shifts.push([entry.value, ...entry.sources.map(one => one.node?.className ?? "")]);
}).observe({type: "layout-shift", buffered: true});
"""
# Where the thread is scrolled to in every frame from now on.
TOPS = """() => {
    const thread = document.getElementById("thread");
    window.tops = [];
    requestAnimationFrame(function look() { tops.push(thread.scrollTop); requestAnimationFrame(look); });
}"""
GAP = "() => { const t = document.getElementById('thread'); return t.scrollHeight - t.scrollTop - t.clientHeight; }"
SIDEWAYS = """() => [document.scrollingElement, document.getElementById("thread")]
    .map(scroller => scroller.scrollWidth - scroller.clientWidth)"""
SIZES = [(390, "light"), (390, "dark"), (320, "light"), (320, "dark")]


def settled(page):
    """Wait until the smooth scroll after a question has come to its end."""
    page.wait_for_function(
        """() => { const now = document.getElementById("thread").scrollTop, same = now === window.before;
                 window.before = now; return same; }""",
        polling=200,
    )


@pytest.mark.parametrize("asked", ["in an empty chat", "as a second question"])
def test_nothing_shifts_during_a_whole_answer_nor_when_its_final_form_comes(page_of, scripted, parley, asked):
    model = scripted(Script(pieces=PIECES, rate=120, reasoning=5, seed=2))
    someone = parley.sign_up(f"calm-{len(asked)}")  # whose list has room for one more entry
    page = page_of("", "", session=someone.session)
    page.add_init_script(SHIFTS)
    page.goto("/")
    if asked == "as a second question":
        ends(ask(page, "First", "fake"))
    answer = ask(page, "Tides?", model)
    ends(answer)
    expect(answer.locator("figure.code .k").first).to_be_visible()
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shifts = page.evaluate("shifts")
    assert sum(shift[0] for shift in shifts) <= 0.01, shifts


@pytest.mark.parametrize("broken", [False, True], ids=["steady", "cut in between"])
def test_while_reading_the_view_stands_still_and_a_button_leads_to_the_newest_text(page_of, scripted, parley, broken):
    model = scripted(Script(tokens=700, seed=3, rate=350, at=100, gate=(gate := Gate())))
    with Proxy(parley) as proxy:
        page = page_of("alice", server=proxy, announced=(BROKEN, REFUSED))
        ends(ask(page, "First", "fake"))
        answer = ask(page, "A long story", model)
        settled(page)
        question = page.locator(".question").last.bounding_box()
        thread = page.locator("#thread").bounding_box()
        assert 0 <= question["y"] - thread["y"] <= 48, "the question stands near the top of the view"
        page.evaluate(TOPS)
        gate.open()
        if broken:
            proxy.cut(away=True)
            until(lambda: proxy.refused > 1)
            proxy.back()
        expect(page.locator("#jump")).to_be_visible()
        ends(answer)
        assert len(set(page.evaluate("tops"))) == 1
        page.click("#jump")
        expect(page.locator("#jump")).to_be_hidden()
        assert page.evaluate(GAP) <= 1


@pytest.mark.parametrize("way", ["End", "the button"])
def test_who_follows_sees_the_newest_text_up_to_the_end(page_of, scripted, way):
    model = scripted(Script(tokens=600, seed=4, rate=250))
    page = page_of("alice")
    answer = ask(page, "A long story", model)
    settled(page)
    expect(page.locator("#jump")).to_be_visible()
    if way == "End":
        page.locator("#thread").focus()
        page.keyboard.press("End")
    else:
        page.click("#jump")
    expect(page.locator("#jump")).to_be_hidden()
    ends(answer)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate(GAP) <= 1
    assert text(4, 600).split()[-1] in answer.locator(".body").text_content()


def test_scrolling_up_while_following_gives_the_view_back_to_the_reader(page_of, scripted):
    model = scripted(Script(tokens=900, seed=5, rate=300, at=500, gate=(gate := Gate())))
    page = page_of("alice")
    answer = ask(page, "A long story", model)
    expect(page.locator("#jump")).to_be_visible()
    page.click("#jump")
    page.hover("#thread")
    page.mouse.wheel(0, -300)
    expect(page.locator("#jump")).to_be_visible()
    settled(page)
    page.evaluate(TOPS)
    gate.open()
    ends(answer)
    assert len(set(page.evaluate("tops"))) == 1


def test_an_empty_chat_loads_at_most_60_kb_of_javascript_in_20_requests(page_of):
    page, loaded = page_of("alice", ""), []
    page.on("requestfinished", lambda request: loaded.append(request))
    page.goto("/", wait_until="networkidle")
    sizes = {
        r.url: r.sizes()["responseBodySize"] for r in loaded if "javascript" in r.response().headers["content-type"]
    }
    assert len(sizes) > 5
    assert sum(sizes.values()) <= 60 * 1024, sizes
    assert len([request for request in loaded if not request.url.startswith("data:")]) <= 20, [r.url for r in loaded]


@pytest.mark.parametrize(("width", "theme"), SIZES)
def test_a_narrow_screen_never_scrolls_sideways(page_of, scripted, width, theme):
    model = scripted(Script(pieces=PIECES))
    page = page_of("alice", viewport={"width": width, "height": 700}, theme=theme, has_touch=True, is_mobile=True)
    assert page.evaluate(SIDEWAYS) == [0, 0]
    page.select_option("#model", model)
    page.fill("#text", "averyveryveryveryveryveryveryveryverylongwordwithoutanyplacetobreakit and more")
    page.tap("#send")
    ends(page.locator("article.answer"))
    assert page.evaluate(SIDEWAYS) == [0, 0]
    for box in ("figure.code pre", ".body .table"):
        scrolled = page.locator(box).evaluate("box => { box.scrollLeft = 40; return box.scrollLeft; }")
        assert scrolled == 40, f"{box} scrolls by itself"
    page.get_by_role("button", name="Show conversations").tap()
    expect(page.locator("#side-close")).to_be_in_viewport(ratio=1)
    assert page.evaluate(SIDEWAYS) == [0, 0]
    page.get_by_role("button", name="Hide conversations").tap()
    expect(page.locator("#side")).to_be_hidden()
