"""Headers and markup that keep pages safe: the policy, no caching of private pages, no inline script or style, hashed files."""

import re
from html.parser import HTMLParser
from uuid import uuid4

import pytest

from tests.parley import PASSWORD, Client

# docs of the policy's meaning: nothing but this site, and a nonce for the import map alone.
CSP = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "worker-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
NONCE = re.compile(r" 'nonce-([A-Za-z0-9+/=_-]{16,})'")
NOWHERE = "00000000-0000-7000-8000-000000000000"
PAGES = ["/", "/c/{conversation}/", "/login/", "/signup/", "/staff/live/", "/nothing-here", f"/c/{NOWHERE}/"]
PRIVATE = ["/", "/c/{conversation}/", "/c/{conversation}/thread", "/sidebar", "/models", "/staff/live/"]
PRIVATE += ["/answers/{answer}", "/answers/{answer}/html", "/admin/", "/admin/chat/conversation/"]


@pytest.fixture(scope="module")
def ids(parley) -> dict[str, str]:
    """A conversation of the boss, who may see every page."""
    asked = parley.client("boss").ask("What is the tide?")
    parley.ended(asked["answer"])
    return asked


@pytest.fixture
def boss(parley) -> Client:
    return parley.client("boss")


def reader(parley, path: str) -> Client:
    return parley.client() if path in ("/login/", "/signup/") else parley.client("boss")


def policy(header: str) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in header.split(";"))


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_the_strict_policy_and_a_new_nonce_only_where_there_is_an_import_map(parley, ids, path):
    nonces = []
    for _ in range(2):
        page = reader(parley, path).get(path.format(**ids), Accept="text/html")
        found = policy(page.headers["content-security-policy"])
        nonces += (nonce := NONCE.findall(found["script-src"]))
        assert len(nonce) == page.text.count('<script type="importmap"')
        assert all(f'<script type="importmap" nonce="{one}">' in page.text for one in nonce)
        assert found | {"script-src": NONCE.sub("", found["script-src"])} == CSP
    assert len(set(nonces)) == len(nonces)


@pytest.mark.parametrize("path", [*PRIVATE, *PAGES])
def test_nothing_private_is_stored_and_nothing_is_framed_or_guessed(parley, ids, path):
    answer = reader(parley, path).get(path.format(**ids))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    if path in PRIVATE:
        assert "no-store" in answer.headers["cache-control"]


def test_fragments_and_refusals_have_the_policy_too(boss, ids):
    for path in ("/sidebar", "/models", f"/answers/{ids['answer']}/html"):
        headers = boss.get(path, HX_Request="true").headers
        assert policy(headers["content-security-policy"]) == CSP
    refused = boss.post("/conversations", {"text": ""}, HX_Request="true")
    assert policy(refused.headers["content-security-policy"]) == CSP
    assert refused.headers["cache-control"] == "no-store"


class Inline(HTMLParser):
    """What the policy would block, and where scripts and styles come from."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        handlers = [name for name in values if name.startswith("on") or name == "style"]
        inline = tag == "style" or (tag == "script" and "src" not in values and values.get("type") != "importmap")
        if handlers or inline or (values.get("href") or "").lower().startswith("javascript:"):
            self.blocked.append(self.get_starttag_text() or tag)
        if tag in ("script", "img", "iframe") and values.get("src"):
            self.sources.append(str(values["src"]))
        if tag == "link" and values.get("href"):
            self.sources.append(str(values["href"]))


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_an_inline_script_or_style_or_anything_from_elsewhere(parley, ids, path):
    page = reader(parley, path).get(path.format(**ids), Accept="text/html").text
    seen = Inline()
    seen.feed(page)
    assert seen.blocked == []
    assert seen.sources
    assert all(source.startswith(("/static/", "data:image/")) for source in seen.sources)


def test_static_files_have_a_hash_in_their_name_and_are_kept_for_ever(boss, ids):
    page = boss.get(f"/c/{ids['conversation']}/").text
    files = set(re.findall(r'"(/static/[^"#]+)', page))
    assert len(files) > 10
    for path in files:
        assert re.search(r"\.[0-9a-f]{12}\.(js|css|svg)$", path), path
        answer = Client(boss.base).get(path)
        assert answer.status == 200, path
        assert "max-age=315360000" in answer.headers["cache-control"]
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in answer.headers


def test_static_files_are_compressed_where_the_browser_reads_that(boss):
    [path] = set(re.findall(r'"(/static/chat/app\.[^"]+css)"', boss.get("/").text))
    small = Client(boss.base).get(path, Accept_Encoding="gzip")
    assert small.headers["content-encoding"] == "gzip"
    assert len(small.body) < len(Client(boss.base).get(path).body)


def test_nothing_outside_the_static_files_can_be_fetched(boss):
    for path in (
        "/static/../db.sqlite3",
        "/static/%2e%2e/secret_key",
        "/static/..%2fsecret_key",
        "/static/",
        "/db.sqlite3",
    ):
        assert boss.get(path).status in (400, 404)


def test_cookies_are_not_for_scripts_and_not_for_other_sites(parley):
    form = {"username": f"f-{uuid4().hex[:8]}", "password1": PASSWORD, "password2": PASSWORD}
    page = parley.client().post("/signup/", form)
    attributes = set(page.cookies["sessionid"].split("; "))
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= attributes


def test_behind_https_cookies_are_secure_and_browsers_are_told_to_stay(serve):
    server = serve(CHAT_HTTPS="yes")
    plain = server.client().get("/login/")
    assert (plain.status, plain.headers["location"]) == (301, f"https://{server.base}/login/")
    secure = server.client().get("/login/", X_Forwarded_Proto="https")
    assert secure.status == 200
    assert secure.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains; preload"
    assert "Secure" in secure.cookies["csrftoken"].split("; ")
    assert server.client().get("/healthz").status == 200, "the sign of life is asked from inside"
