"""Text that is hard to carry: stored and shown equal, and never more than one logical event."""

import html
import json
import random
import re

import pytest

from bench.script import Script
from tests import event_source

# name: what the provider's deltas say, and what everybody sees
TEXTS = {
    "split pair": (("a\ud83d", "\ude42b"), "a🙂b"),
    "pair in one": (("\ud83d\ude42",), "🙂"),
    "lone high": (("a\ud83d", "b"), "a\ufffdb"),
    "lone high at the end": (("a", "\ud83d"), "a\ufffd"),
    "lone low": (("a", "\ude42b"), "a\ufffdb"),
    "two highs, one low": (("\ud83d", "\ud83d\ude42"), "\ufffd🙂"),
    "pair around nothing": (("\ud83d", "", "\ude42"), "🙂"),
    "pair around NUL": (("\ud83d", "\0", "\ude42"), "\ufffd\ufffd"),
    "NUL": (("a\0b", "\0", "c"), "abc"),
    "line ends": (("a\nb\r\nc\rd\n\n\re",), "a\nb\r\nc\rd\n\n\re"),
    "line end split": (("a\r", "\nb"), "a\r\nb"),
    "separators": (("\u2028a\u2029b\u0085c\x0bd\x0ce\x1c",), "\u2028a\u2029b\u0085c\x0bd\x0ce\x1c"),
    "an event": (("x\n\nevent: admin\ndata: {}\n\n",), "x\n\nevent: admin\ndata: {}\n\n"),
    "an event with CR": (("\r\revent: done\rid: 9-9\rdata: {}\r\r",), "\r\revent: done\rid: 9-9\rdata: {}\r\r"),
    "end marks": (("data: [DONE]\n\n", "[DONE]", ": ping\n\n"), "data: [DONE]\n\n[DONE]: ping\n\n"),
    "tags": (("</template><script>alert(1)</script>", "&lt;&amp;"), "</template><script>alert(1)</script>&lt;&amp;"),
    "directions": (("\u202eabc\u202c\u200f \ufeff\U0010ffff",), "\u202eabc\u202c\u200f \ufeff\U0010ffff"),
    "controls": (("\x01\x1b[31m\x07\x7f\x80\x9f",), "\x01\x1b[31m\x07\x7f\x80\x9f"),
    "quotes": (('"\\u0000" \\" \\n',), '"\\u0000" \\" \\n'),
    "spaces": ((" ", "\t a ", "  "), " \t a   "),
}
each_text = pytest.mark.parametrize(("pieces", "wanted"), TEXTS.values(), ids=list(TEXTS))


@pytest.fixture
def said(parley, alice, provider, offer):
    """Have the provider say these deltas: the answer's id, and its stream as bytes."""

    def say(pieces: tuple[str, ...]) -> tuple[str, bytes]:
        model = offer("says what is hard to carry")
        provider.script(model, Script(pieces=pieces))
        answer = alice.ask("Say it", model)["answer"]
        parley.ended(answer)
        return answer, alice.get(f"/answers/{answer}/events").body

    return say


def tokens(stream: bytes) -> list[dict]:
    return [json.loads(message.data) for message in event_source.read(stream) if message.type == "token"]


@each_text
def test_text_is_stored_as_it_is_shown(said, parley, pieces, wanted):
    answer, stream = said(pieces)
    assert "".join(token["text"] for token in tokens(stream)) == wanted == parley.answer(answer)["text"]


@each_text
def test_text_never_becomes_structure(said, pieces, wanted):
    _, stream = said(pieces)
    messages = event_source.read(stream)
    kinds = [message.type for message in messages]
    assert (kinds[0], kinds[-3:]) == ("started", ["usage", "done", "close"])
    assert set(kinds[1:-3]) <= {"token"}
    assert {message.last_event_id.partition("-")[0] for message in messages} == {"1"}
    assert sum(token["n"] for token in tokens(stream)) <= len(pieces)


@each_text
def test_the_page_keeps_the_text_for_copying_exactly(said, alice, pieces, wanted):
    answer, _ = said(pieces)
    page = alice.get(f"/answers/{answer}/html").body.decode()
    source = re.search(r'<template class="source">(.*?)</template>', page, re.DOTALL)
    assert html.unescape(source[1]) == wanted
    assert "<script" not in page


def test_one_delta_of_all_of_it_is_one_event(said):
    every = "".join(wanted for _, wanted in TEXTS.values())
    _, stream = said((every,))
    assert tokens(stream) == [{"text": every, "n": 1}]


def test_random_deltas_come_out_as_their_text_would(said, parley):
    dice = random.Random(51)
    letters = ["a", "\n", "\r", "\0", "\ud83d", "\ude42", "🙂", "日", "\u2028", "data: ", "\n\n"]
    pieces = tuple("".join(dice.choices(letters, k=dice.randrange(6))) for _ in range(300))
    joined = "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    answer, stream = said(pieces)
    seen = "".join(token["text"] for token in tokens(stream))
    assert seen == parley.answer(answer)["text"]
    assert "\0" not in seen
    assert len(re.sub("[\ufffd]", "", seen)) == len(re.sub("[\ufffd\0]", "", joined))
