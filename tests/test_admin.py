"""The admin: conversations to review and the ledger of model calls, to find, to filter and to read, and never to write."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from bench.script import Script
from tests.parley import Client, Parley, Response

CONVERSATIONS = "/admin/chat/conversation/"
CALLS = "/admin/chat/modelcall/"
QUESTION = "What does <b>bold</b> & 'quoted' mean?"
ANSWER = (
    "# Heading\n\n<script>alert(1)</script> <img src=x onerror=alert(2)>\n\n"
    "```python\nprint('<i>')\n```\n\n[link](javascript:alert(3))"
)
FAILING = "fake?fault=status-400&seed=161"


@pytest.fixture(scope="module")
def site(serve_all, provider) -> Parley:
    """A server of this file's own: Alice has one good answer, Bob a failed one, and Alice another that is a year old."""
    provider.script("fake-html", Script(pieces=(ANSWER,)))
    provider.state.models += ["fake-html", "fake-other", FAILING]
    return serve_all()


@pytest.fixture(scope="module")
def asked(site: Parley) -> dict[str, dict[str, Any]]:
    alice, bob = site.client("alice"), site.client("bob")
    made = {
        "good": alice.ask(QUESTION, "fake-html"),
        "failed": bob.ask("Why did that fail?", FAILING),
        "old": alice.ask("Long ago", "fake-other"),
    }
    for one in made.values():
        site.ended(one["answer"])
    site.shell(f"""
from datetime import timedelta
from chat.models import Conversation, ModelCall
for rows, field in ((Conversation.objects.filter(pk="{made["old"]["conversation"]}"), "updated_at"),
                    (ModelCall.objects.filter(answer="{made["old"]["answer"]}"), "opened_at")):
    rows.update(**{{field: getattr(rows.get(), field) - timedelta(days=400)}})
""")
    return made


@pytest.fixture
def boss(site: Parley) -> Client:
    return site.client("boss")


def found(asked: dict[str, dict[str, Any]], site: Parley, page: Response) -> set[str]:
    """Which of the three the list shows, by the ids in its links."""
    assert page.status == 200, page.text
    links = set(re.findall(r"/admin/chat/\w+/([0-9a-f-]{36})/change/", page.text))
    names = {}
    for name, one in asked.items():
        [call] = site.calls(one["answer"])
        names |= {one["conversation"].replace("-", ""): name, call["id"]: name}
    return {names[link.replace("-", "")] for link in links}


def people(site: Parley) -> dict[str, str]:
    return {name: str(person["id"]) for name, person in site.people.items()}


YEAR = {"gte": datetime.now(UTC) - timedelta(days=360), "lt": datetime.now(UTC) + timedelta(days=2)}
FILTERS = [
    (CONVERSATIONS, {}, {"good", "failed", "old"}),
    (CONVERSATIONS, {"q": "bob"}, {"failed"}),
    (CONVERSATIONS, {"q": "bold"}, {"good"}),
    (CONVERSATIONS, {"owner__id__exact": "alice"}, {"good", "old"}),
    (CONVERSATIONS, {"model": "fake-other"}, {"old"}),
    (CONVERSATIONS, {"model": FAILING}, {"failed"}),
    (CONVERSATIONS, {"status": "failed"}, {"failed"}),
    (CONVERSATIONS, {"status": "done"}, {"good", "old"}),
    (CONVERSATIONS, {"status": "done", "model": FAILING}, set()),
    (CONVERSATIONS, {f"updated_at__{end}": f"{at:%Y-%m-%d}" for end, at in YEAR.items()}, {"good", "failed"}),
    (CONVERSATIONS, {"updated_at__year": str(YEAR["lt"].year)}, {"good", "failed"}),
    (CALLS, {}, {"good", "failed", "old"}),
    (CALLS, {"q": "alice"}, {"good", "old"}),
    (CALLS, {"q": "fake-html"}, {"good"}),
    (CALLS, {"user__id__exact": "bob"}, {"failed"}),
    (CALLS, {"model": "fake-html"}, {"good"}),
    (CALLS, {"outcome__exact": "failed"}, {"failed"}),
    (CALLS, {"outcome__exact": "done"}, {"good", "old"}),
    (CALLS, {"provider": "openai"}, {"good", "failed", "old"}),
    (CALLS, {f"opened_at__{end}": f"{at:%Y-%m-%d}" for end, at in YEAR.items()}, {"good", "failed"}),
]


@pytest.mark.parametrize(("path", "query", "names"), FILTERS, ids=[f"{path} {query}" for path, query, _ in FILTERS])
def test_lists_are_searched_and_filtered_by_user_model_status_and_date(site, asked, boss, path, query, names):
    ids = people(site)
    query = {name: ids.get(value, value) if name.endswith("__id__exact") else value for name, value in query.items()}
    assert found(asked, site, boss.get(f"{path}?{urlencode(query)}")) == names


@pytest.mark.parametrize(
    ("path", "titles"),
    [
        (CONVERSATIONS, ("status of an answer", "model", "updated at", "owner")),
        (CALLS, ("outcome", "provider", "model", "opened at", "user")),
    ],
)
def test_lists_offer_these_filters_and_a_search(asked, boss, path, titles):
    page = boss.get(path).text
    for title in titles:
        assert re.search(rf"By {title}\s", page), title
    assert 'name="q"' in page


def test_a_list_of_many_needs_few_queries(site, asked, boss):
    """As many rows as a page holds cost about as long as three: no query for each row."""
    site.shell("""
from django.contrib.auth import get_user_model
from chat.models import Conversation
user = get_user_model().objects.create(username="many")
Conversation.objects.bulk_create(Conversation(owner=user, title=f"many {n}") for n in range(90))
""")
    code = """
from django.conf import settings
settings.ALLOWED_HOSTS.append("testserver")
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
client = Client()
client.force_login(get_user_model().objects.get(username="boss"))
with CaptureQueriesContext(connection) as queries:
    assert client.get("/admin/chat/conversation/").status_code == 200
print(len(queries))
"""
    assert int(site.shell(code).split()[-1]) <= 14
    site.shell('from django.contrib.auth import get_user_model; get_user_model().objects.get(username="many").delete()')


def test_a_conversation_opens_as_the_transcript_that_its_owner_sees(site, asked, boss):
    page = boss.get(f"{CONVERSATIONS}{asked['good']['conversation']}/change/").text
    owner = site.client("alice").get(f"/c/{asked['good']['conversation']}/").text
    body = re.compile(r'<div class="body".*?</div>', re.DOTALL)
    assert body.findall(page) == body.findall(owner) != []
    assert "What does &lt;b&gt;bold&lt;/b&gt; &amp; &#x27;quoted&#x27; mean?" in page
    assert f'id="m-{asked["good"]["question"]}"' in page
    assert f'data-answer="{asked["good"]["answer"]}"' in page


def test_what_a_model_wrote_stays_text_in_the_transcript(asked, boss):
    page = boss.get(f"{CONVERSATIONS}{asked['good']['conversation']}/change/").text
    assert "<h3>Heading</h3>" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    for hostile in ("<script>alert", "<img src=x", "<b>bold", "<i>", 'href="javascript:'):
        assert hostile not in page


def test_a_transcript_has_nothing_to_change_it_with(site, asked, boss):
    address = f"{CONVERSATIONS}{asked['good']['conversation']}/change/"
    content = boss.get(address).text.partition('<div id="content"')[2]
    for handle in ("<textarea", "<input", "<select", "hx-post", "regenerate", 'name="_save"', 'method="post"'):
        assert handle not in content, handle
    before = site.answer(asked["good"]["answer"])
    forged = boss.post(address, {"title": "Forged", "owner": people(site)["boss"]})
    assert forged.status == 403
    assert site.answer(asked["good"]["answer"]) == before
    [row] = site.rows(
        "select title from chat_conversation where id = ?", asked["good"]["conversation"].replace("-", "")
    )
    assert row["title"] == QUESTION


def test_a_failed_answer_shows_its_error_and_its_request(site, asked, boss):
    page = boss.get(f"{CONVERSATIONS}{asked['failed']['conversation']}/change/").text
    row = site.answer(asked["failed"]["answer"])
    assert row["error_code"] in page
    assert row["request_id"] in page


def test_a_model_call_shows_what_it_cost_and_cannot_be_changed_or_deleted(site, asked, boss):
    [call] = site.calls(asked["good"]["answer"])
    page = boss.get(f"{CALLS}{call['id']}/change/")
    assert page.status == 200
    for value in ("fake-html", str(call["completion_tokens"]), "alice"):
        assert value in page.text
    assert 'name="_save"' not in page.text
    assert boss.post(f"{CALLS}{call['id']}/delete/", {"post": "yes"}).status == 403
    action = {"action": "delete_selected", "_selected_action": call["id"], "post": "yes"}
    boss.post(CALLS, action)
    assert site.calls(asked["good"]["answer"]) == [call]


@pytest.mark.parametrize("path", [CONVERSATIONS, CALLS, f"{CONVERSATIONS}{{conversation}}/change/"])
def test_staff_need_the_permission_and_a_permission_to_view_is_enough(site, asked, path):
    path = path.format(**asked["good"])
    assert site.client("staff").get(path).status == 403
    site.shell("""
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
reviewer, made = get_user_model().objects.get_or_create(username="reviewer", is_staff=True)
reviewer.set_password("quiet-harbour-42"); reviewer.save()
reviewer.user_permissions.set(Permission.objects.filter(codename__in=("view_conversation", "view_modelcall")))
""")
    reviewer = site.sign_in("reviewer")
    assert reviewer.get(path).status == 200
    assert reviewer.get(f"{CONVERSATIONS}{asked['good']['conversation']}/delete/").status == 403
