"""Text from outside becomes text that can be stored: the same text, however it was cut into deltas."""

import random

import pytest

from chat.text import Cleaner, clean, estimate_tokens, flaw

LETTERS = ["a", "é", "日", "🙂", "\0", "\n", "\r", "\u2028", "\ud800", "\udbff", "\udc00", "\udfff", "\ud83d", "\ude42"]
SAMPLES = [
    *("", "plain", "a\0b", "\0\0", "🙂", "\ud83d\ude42", "a\ud83d", "\ude42b", "\ud83d\ud83d\ude42\ude42", "e\u0301"),
    *("\ude42\ud83d", "\ud83d\0\ude42", "x\ud83d\ude42y\ud83d\ude42z", "\ufffd", "\ufeff\ufffe\uffff\U0010ffff"),
]


def random_text(seed: int, length: int = 40) -> str:
    return "".join(random.Random(seed).choices(LETTERS, k=length))


def fed(pieces: list[str]) -> str:
    cleaner = Cleaner()
    return "".join([*(cleaner.feed(piece) for piece in pieces), cleaner.rest()])


def by_code_units(text: str) -> str:
    """The same by hand: pairs joined, halves replaced, NUL removed."""
    units, out, i = text.encode("utf-16-le", "surrogatepass"), [], 0
    codes = [int.from_bytes(units[n : n + 2], "little") for n in range(0, len(units), 2)]
    while i < len(codes):
        code = codes[i]
        if 0xD800 <= code < 0xDC00 and i + 1 < len(codes) and 0xDC00 <= codes[i + 1] < 0xE000:
            out.append(chr(0x10000 + ((code - 0xD800) << 10) + codes[i + 1] - 0xDC00))
            i += 2
            continue
        if code:
            out.append("\ufffd" if 0xD800 <= code < 0xE000 else chr(code))
        i += 1
    return "".join(out)


@pytest.mark.parametrize(
    "text", [*SAMPLES, *(random_text(seed) for seed in range(40))], ids=lambda text: ascii(text)[:24]
)
def test_clean_text_has_pairs_joined_halves_replaced_and_no_nul(text):
    assert clean(text) == by_code_units(text)


@pytest.mark.parametrize(
    "text", [*SAMPLES, *(random_text(seed) for seed in range(40))], ids=lambda text: ascii(text)[:24]
)
def test_clean_text_can_be_stored_and_stays_as_it_is(text):
    cleaned = clean(text)
    cleaned.encode()
    assert not flaw(cleaned)
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    "text", [*SAMPLES, *(random_text(seed, 12) for seed in range(40))], ids=lambda text: ascii(text)[:24]
)
def test_deltas_come_out_as_the_whole_text_does_wherever_it_is_cut_in_two(text):
    for cut in range(len(text) + 1):
        assert fed([text[:cut], text[cut:]]) == clean(text)


@pytest.mark.parametrize("seed", range(60))
def test_deltas_come_out_as_the_whole_text_does_in_any_pieces(seed):
    dice, text = random.Random(seed), random_text(seed, 200)
    cuts = sorted(dice.choices(range(len(text) + 1), k=dice.randrange(120)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert fed(pieces) == clean(text)
    assert fed(list(text)) == clean(text)


def test_only_half_a_character_is_ever_held_back():
    cleaner = Cleaner()
    assert cleaner.feed("abc") == "abc"
    assert cleaner.feed("d\ud83d") == "d"
    assert cleaner.feed("") == ""
    assert cleaner.feed("\ude42e") == "🙂e"
    assert cleaner.rest() == ""


def test_what_is_left_comes_out_once():
    cleaner = Cleaner()
    cleaner.feed("\ud83d")
    assert (cleaner.rest(), cleaner.rest()) == ("\ufffd", "")


@pytest.mark.parametrize(("text", "word"), [("a\0b", "NUL"), ("a\ud83d", "surrogate"), ("\udfffa", "surrogate")])
def test_what_a_person_sends_is_refused_with_the_reason(text, word):
    assert word in flaw(text)


@pytest.mark.parametrize("text", ["", "a", "🙂", "\ufffd", "\r\n\u2028\x7f\x01"])
def test_what_can_be_stored_has_no_flaw(text):
    assert flaw(text) == ""


@pytest.mark.parametrize("seed", range(30))
def test_the_estimate_of_tokens_grows_with_the_text_and_is_never_less_than_a_quarter_of_its_bytes(seed):
    text = random_text(seed, 100)
    assert estimate_tokens("") == 0
    assert 0 < estimate_tokens(text[:1] or "a") <= estimate_tokens(text) <= estimate_tokens(text + "a")
    assert estimate_tokens(clean(text)) * 4 >= len(clean(text).encode())
