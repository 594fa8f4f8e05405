"""Model output is text from a stranger: whatever it says, its HTML does nothing."""

import random
import re
from html.parser import HTMLParser

import pytest

from chat.markdown import ALLOWED, TAGS, render

SCHEMES = ("http://", "https://", "mailto:")
HANDLERS = ("onclick", "onerror", "onload", "onmouseover", "onfocus", "ontoggle", "onanimationstart")
URLS = [
    *("javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "&#106;avascript:alert(1)", "vbscript:x"),
    *("data:text/html,<script>alert(1)</script>", "data:text/html;base64,PHNjcmlwdD4=", "data:image/svg+xml,<svg>"),
    *("javascript&colon;alert(1)", "java&#x0A;script:alert(1)", "\x01javascript:alert(1)", "file:///etc/passwd"),
    *("blob:https://x/y", "//evil.example/x", "/logout/", "\\\\evil\\x", "about:blank", "ftp://x/y", "ws://x/y"),
    *("javascript:/*--></title></style></textarea></script><svg/onload=alert(1)>", "feed:javascript:alert(1)"),
    *('https://x/"onclick=alert(1)', "https://x/'><script>alert(1)</script>", "x` onclick=alert(1)", "filesystem:x"),
]
HTML = [
    *(
        "<script>alert(1)</script>",
        "<SCRIPT SRC=//x></SCRIPT>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)>",
    ),
    *("<svg><script>alert(1)</script></svg>", "<math><mi xlink:href='javascript:x'>", "<style>*{display:none}</style>"),
    *("<p style='position:fixed'>x", "<iframe srcdoc='<script>1</script>'></iframe>", "<object data=x></object>"),
    *("<a href='javascript:alert(1)'>x</a>", "<form action=//x><input name=y></form>", "<base href=//x>", "<meta a=b>"),
    *("<details open ontoggle=alert(1)>", "<template><script>1</script></template>", "<noscript><p title='</noscript>"),
    *("<!-- --><script>alert(1)</script> -->", "<![CDATA[<script>1</script>]]>", "<?php echo 1 ?>", "<!DOCTYPE x>"),
    *("<scr<script>ipt>alert(1)</scr</script>ipt>", "<<script>alert(1);//<</script>", "<button hx-get=//x>y</button>"),
    *(
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&#60;script&#62;alert(1)",
        "<p id=thread class=turn data-answer=x>y</p>",
    ),
    *(
        "<x onclick=alert(1)>",
        "<video><source onerror=alert(1)></video>",
        "</article></main><h1>Admin</h1>",
        "<plaintext>",
    ),
    *("<link rel=stylesheet href=//x>", "\0<script>alert(1)</script>", "<script\x0bsrc=//x>", "<a\u2028href=//x>"),
]
AROUND = [
    *("{}", "# {}", "> {}", "- {}", "**{}**", "`{}`", "```html\n{}\n```", "```{}\nx\n```", "| {} |\n|---|\n| {} |"),
    *("[{}](https://x)", "[x](https://x '{}')", "![{}](https://x)", "![x](<{}>)", "[x]: {}\n\n[x]", "    {}", "~~{}~~"),
    *("[a](<{}>)", "<{}>", "1. {}\n\n   {}", "[![{}](https://x)](https://y)", "[{0}]({0})", "[{}][x]\n\n[x]: {}"),
]


class Inspector(HTMLParser):
    """Reads HTML as a browser would, and complains of everything that is not on the list."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in TAGS:
            self.wrong.append(f"tag {tag}")
        for name, value in attrs:
            if name != "rel" and name not in ALLOWED.get(tag, ()):
                self.wrong.append(f"attribute {tag}.{name}={value}")
            if name == "href" and not re.sub(r"[\0-\x20]", "", value).lower().startswith(SCHEMES):
                self.wrong.append(f"address {value}")
            if name == "class" and value.split("-")[0] not in KNOWN and tag != "span":
                self.wrong.append(f"class {value}")
        if tag not in ("br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("br", "hr"):
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"end of {tag}")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"comment {data}")

    handle_decl = handle_pi = unknown_decl = handle_comment


KNOWN = {"code", "table", "image", "language", "ta"}


def inspect(source: str) -> Inspector:
    seen = Inspector(render(source))
    assert not seen.wrong, (source, str(render(source)))
    assert not seen.open, (source, str(render(source)))
    return seen


@pytest.mark.parametrize("around", AROUND)
def test_html_in_an_answer_is_text_wherever_it_stands(around):
    for html in HTML:
        inspect(around.replace("{0}", "{}").replace("{}", html))


@pytest.mark.parametrize(
    "around", ["[x]({})", "[x](<{}>)", "![x]({})", "![x](<{}>)", "<{}>", "[x]: {}\n\n[x] ![x]", "{}"]
)
def test_an_address_is_of_the_web_or_of_mail_or_no_link(around):
    for url in URLS:
        inspect(around.format(url))


def test_the_text_of_a_script_can_still_be_read():
    assert "<script>alert(1)</script>" in inspect("Write <script>alert(1)</script> there").text


@pytest.mark.parametrize("handler", HANDLERS)
def test_no_handler_of_events_gets_into_a_tag(handler):
    for source in (
        f'[x](https://x "y\\" {handler}=\\"alert(1)")',
        f'![a" {handler}=b](https://x)',
        f'```a"{handler}=b\n```',
    ):
        inspect(source)


def test_random_marks_never_raise_and_never_get_out():
    dice = random.Random(91)
    marks = [
        "*",
        "_",
        "`",
        "```",
        "~~~",
        "[",
        "](",
        ")",
        "![",
        "<",
        ">",
        "<a ",
        "&",
        "&#",
        "|",
        "|---|",
        "\n",
        "\n\n",
        "\t",
    ]
    marks += [
        "#",
        "> ",
        "- ",
        "1. ",
        "\\",
        "\0",
        "\ufffd",
        "🙂",
        "javascript:",
        "http://x",
        '"',
        "'",
        "    ",
        "\r",
        "a",
        "]: ",
    ]
    for _ in range(1500):
        inspect("".join(dice.choices(marks + HTML[:6], k=dice.randrange(1, 60))))


def test_random_characters_never_raise():
    dice = random.Random(92)
    for _ in range(300):
        text = "".join(chr(dice.choice((dice.randrange(128), dice.randrange(0x11000)))) for _ in range(200))
        inspect(re.sub("[\ud800-\udfff]", "\ufffd", text))


DEEP = {
    "quotes": "> " * 5000 + "x",
    "quotes without spaces": ">" * 20_000 + "x",
    "lists": "".join(" " * 2 * n + "- x\n" for n in range(200)),
    "lists in a line": "- " * 5000 + "x",
    "emphasis": "*" * 5000 + "x" + "*" * 5000,
    "links": "[" * 5000 + "x" + "](https://x)" * 5000,
    "images": "![" * 2000 + "x" + "](https://x)" * 2000,
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_is_cut_off_and_harms_nothing(name):
    assert "x" in inspect(DEEP[name]).text
