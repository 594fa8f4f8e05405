"""Whatever a model, a provider or a user writes is text on the page: live at every cut point, in its final form, everywhere."""

import pytest
from playwright.sync_api import expect

from bench.script import Gate, Script
from tests.browser import ask, ends

# Each line tries one way out. `hit()` would set a flag that the tests look at; alert() would fail them as a dialog.
CORPUS = r"""
<script>hit()</script>
<script src="https://evil.test/x.js"></script>
</p></div></article><script>hit()</script>
</template><script>hit()</script><template>
<img src=x onerror=hit()>
<img src="https://evil.test/pixel.png">
<svg onload=hit()><use href="data:image/svg+xml,<svg id=x onload=hit()>#x"/></svg>
<svg><animate onbegin=hit() attributeName=x dur=1s>
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=hit()&gt;">
<iframe src="javascript:hit()"></iframe>
<iframe srcdoc="<script>parent.hit()</script>"></iframe>
<object data="https://evil.test/x.swf"></object><embed src="//evil.test/x">
<link rel=stylesheet href="https://evil.test/x.css"><style>@import "https://evil.test/y.css"; * {color: red}</style>
<meta http-equiv=refresh content="0;url=https://evil.test/"><base href="https://evil.test/">
<form action="https://evil.test/"><button formaction="javascript:hit()">go</button><input autofocus onfocus=hit()></form>
<details open ontoggle=hit()><video><source onerror=hit()></video></details>
<body onload=hit()><marquee onstart=hit()>
<div hx-get="/logout/" hx-trigger="load" hx-on::load="hit()" hx-swap-oob="true" id="composer">x</div>
<p style="position:fixed;inset:0;background:url(https://evil.test/z)">over everything</p>
<a href="javascript:hit()">click</a> <a href=" &#106;avascript:hit()">click</a>
[click](javascript:hit()) [click](JaVaScRiPt:hit()) [click](java&#115;cript:hit()) [click](&#x6A;avascript:hit())
[click](javascript&colon;hit()) [click](<java	script:hit()>) [click](\x01javascript:hit()) [click]( javascript:hit() )
[click](data:text/html,<script>hit()</script>) [click](vbscript:hit()) [click](file:///etc/passwd) [click](blob:x)
[click](//evil.test/) [click](/logout/) [click](?x) [click](#composer) [click](https:evil.test)
[click](https://ok.test/"onmouseover="hit()) [click](https://ok.test 'x" onmouseover="hit()') [click](https://ok.test "a\"b")
![image](https://evil.test/a.png) ![image](javascript:hit()) ![image](data:image/svg+xml,<svg/onload=hit()>)
![x" onerror="hit()](x) ![](https://evil.test/b.png "t" onload=hit()) [![i](https://evil.test/c.png)](javascript:hit())
<javascript:hit()> <https://ok.test/"onclick=hit()> <mailto:a@b.test?x="onclick=hit()>
[ref] [ref][js] [js] ![ref]
`<img src=x onerror=hit()>` ``</code><script>hit()</script>``
# <img src=x onerror=hit()> {onclick=hit()}
> <script>hit()</script>
- <img src=x onerror=hit()>
- [ ] <input onfocus=hit() autofocus>
1. ![i](https://evil.test/d.png)
&lt;script&gt;hit()&lt;/script&gt; &#60;script&#62;hit()&#60;/script&#62; \<script>hit()\</script>
<!-- --><script>hit()</script> <![CDATA[<script>hit()</script>]]> <?x hit() ?> <!doctype html>
${hit()} {{ hit() }} {% hit %} javascript:hit() __proto__ constructor [constructor][__proto__]
""".strip("\n").splitlines()
BLOCKS = [
    "[js]: javascript:hit()\n[ref]: https://evil.test/e.png\n\n[ref] ![ref] [js]",
    '```"><script>hit()</script>\n</code></pre><script>hit()</script>\n```',
    "```html onload=hit()\n<img src=x onerror=hit()>\n</code></pre></figure><img src=x onerror=hit()>\n```",
    "~~~js\n`${hit()}`\n</code>\n~~~",
    "    <script>hit()</script>\n",
    "| <img src=x onerror=hit()> | b |\n|:-:|--:|\n| [x](javascript:hit()) | ![i](https://evil.test/f.png) |\n",
    "<div>\n\n**bold** <script>hit()</script>\n\n</div>",
    "\u0000<scr\u0000ipt>hit()</scr\u0000ipt> \u202e<script>hit()</script> \ufeff \ud7ff",
]
# What below `root` should not be there: elements, attributes and addresses other than the few that Markdown needs.
DANGERS = """root => [...root.querySelectorAll("*")].flatMap(node => {
    const found = [], text = /^(a|blockquote|br|code|del|em|h[3-6]|hr|li|ol|p|pre|span|strong|ul|figure|figcaption|button)$/;
    const table = /^(div|table|tbody|td|th|thead|tr)$/;
    const known = text.test(node.localName) || table.test(node.localName);
    if (!known || node.namespaceURI !== "http://www.w3.org/1999/xhtml") found.push(node.outerHTML);
    for (const {name, value} of node.attributes) {
        if (/^(on|hx-|style$|src|srcdoc|form|action|id$|name$|data-hx)/.test(name)) found.push(`${name}=${value}`);
        if (name === "href" && !/^(https?:|mailto:)/i.test(value)) found.push(value);
        if (name === "href" && new URL(value, location).origin === location.origin) found.push(value);
    }
    if (node.localName === "a" && !(node.rel.includes("noopener") && node.target === "_blank")) found.push(node.outerHTML);
    return found;
})"""
# Puts each text through the live renderer, cut in two at every place, and returns every danger.
EVERY_CUT = """async texts => {
    const {markdownStream} = await import("chat/markdown.js");
    const look = DANGERS, found = [];
    const root = document.getElementById("thread").appendChild(document.createElement("div"));
    for (const text of texts)
        for (let cut = 1; cut <= text.length; cut++) {
            root.replaceChildren();
            const write = markdownStream(root);
            write(text.slice(0, cut));
            found.push(...look(root));
            write(text.slice(cut), true);
            found.push(...look(root));
        }
    return found;
}"""
ATTACKS = ["</textarea></template><script>hit()</script>", "<img src=x onerror=hit()>", '"onfocus=hit() x="']


@pytest.fixture
def page(page_of):
    """A page on which `hit` tells that something ran."""

    def open_page(path="/"):
        page = page_of("alice", "")
        page.add_init_script("window.hits = 0; window.hit = () => { hits++; }")
        page.goto(path)
        return page

    return open_page


def dangers(answer):
    return answer.locator(".body").evaluate(DANGERS)


def blocks(answer):
    return ["".join(block.split()) for block in answer.locator(".body > *").all_text_contents()]


def links(answer):
    return answer.locator(".body a").evaluate_all("all => all.map(a => a.href)")


def test_nothing_runs_and_nothing_is_loaded_wherever_the_stream_is_cut(page):
    opened = page()
    assert opened.evaluate(EVERY_CUT.replace("DANGERS", DANGERS), [*CORPUS, *BLOCKS]) == []
    assert opened.evaluate("hits") == 0


def test_an_answer_full_of_attacks_is_only_text_live_and_final(page, scripted, parley):
    whole = "\n\n".join([*CORPUS, *BLOCKS, "The end."])
    pieces = tuple(whole[i : i + 7] for i in range(0, len(whole), 7))
    model = scripted(Script(pieces=pieces, at=len(pieces) - 1, gate=(gate := Gate())))
    opened = page()
    answer = ask(opened, "Attack", model)
    expect(answer.locator(".body")).to_contain_text("The")
    assert dangers(answer) == []
    assert answer.locator(".body a").count() > 5
    gate.open()
    ends(answer)
    assert dangers(answer) == []
    expect(answer.locator(".body")).to_contain_text("<script>hit()</script>")
    opened.reload()
    expect(answer.locator(".body")).to_contain_text("The end.")
    assert dangers(answer) == []
    assert answer.locator("template.source").evaluate("node => node.content.textContent") == whole.replace("\0", "")
    assert opened.evaluate("hits") == 0
    expect(opened.locator("#composer")).to_have_count(1)


def test_live_and_final_form_have_the_same_blocks_words_and_links(page, scripted):
    """So nothing that one of the two renderers refuses slips through the other."""
    whole = "\n\n".join([*(line for line in CORPUS if "&" not in line), *BLOCKS[1:4], BLOCKS[5]])
    model = scripted(Script(pieces=(whole, "\n\nEnd."), at=1, gate=(gate := Gate())))
    answer = ask(page(), "Attack", model)
    expect(answer.locator(".table")).to_have_count(1)
    live, live_links = blocks(answer), links(answer)
    gate.open()
    ends(answer)
    assert blocks(answer) == [*live, "End."]
    assert links(answer) == live_links


def test_images_are_links_that_are_not_followed(page, scripted):
    model = scripted(Script(pieces=("![A cat](https://evil.test/cat.png)\n\n", "x"), at=1, gate=(gate := Gate())))
    answer = ask(page(), "Show me a cat", model)
    image = answer.locator("a.image-link")
    expect(image).to_have_text("🖼 A cat")
    gate.open()
    ends(answer)
    expect(image).to_have_text("🖼 A cat")
    expect(image).to_have_attribute("href", "https://evil.test/cat.png")
    expect(image).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(answer.locator("img")).to_have_count(0)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_question_is_text_in_the_thread_the_list_the_title_and_the_forms(page, scripted, attack):
    model = scripted(Script(tokens=3))
    opened = page()
    ends(ask(opened, attack, model))
    for _ in "live", "reloaded":
        expect(opened.locator(".question .said")).to_have_text(attack)
        expect(opened.locator("#title")).to_have_text(attack)
        expect(opened.locator(".entry a[aria-current]")).to_have_text(attack)
        expect(opened).to_have_title(f"{attack} · Parley")
        opened.reload()
    assert opened.evaluate("hits") == 0


def test_the_names_thoughts_and_errors_of_a_provider_are_text_too(page, scripted, provider):
    name = "<img src=x onerror=hit()>\"'"
    scripted(Script(tokens=1, fault="error-event"), name=name)
    opened = page()
    answer = ask(opened, "Who?", name)
    ends(answer, "failed")
    expect(answer.locator("h2")).to_contain_text(name)
    expect(opened.locator("#model option", has_text=name)).to_have_count(1)
    assert opened.evaluate("hits") == 0
    provider.state.models.remove(name)
